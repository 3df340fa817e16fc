"""Which part of a folder of pictures is meant: one of its configurations, or one of its splits.

Words in names decide nothing by themselves: a split is read only where somebody asks for it and all
pictures lie in folders that are named so.
"""

from pathlib import Path

from pipeline.sources.card import config_folder, read_card

# As data sets on the hub name them.
SPLITS = {
    "train": "train", "training": "train", "test": "test", "testing": "test", "eval": "test",
    "evaluation": "test", "val": "validation", "valid": "validation", "validation": "validation",
    "dev": "validation",
}  # fmt: skip


def folder_of_pictures(root: Path, config: str | None) -> Path:
    """The folder of a configuration that README.md names; `root` itself where there is no choice.

    Raises SourceError with the list, if one must be named and is not, or is not there.
    """
    if not root.is_dir():
        return root
    card = read_card(root)
    several = len(card.configs) > 1 and card.default is None
    return config_folder(root, config) if config is not None or several else root


def split_of(name: str) -> str | None:
    """The split that a file's first folder is named after; None if it is not."""
    first, slash, _ = name.partition("/")
    return SPLITS.get(first.casefold()) if slash else None
