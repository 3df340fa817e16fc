"""Finds the splits of a data set in the names of its files and folders.

`train-00000-of-00002.parquet`, `test.parquet` and `validation/0.parquet` name one; a word inside a
longer name does not. Unless every file names one, there are no splits, and all files are read.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.errors import SourceError

DEFAULT, ALL = "train", "all"

_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_KNOWN = {word: split for split, words in _WORDS.items() for word in words}
# As the hub's tools name files, some with a hash behind, and some with the data set's name before.
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}(?:-[0-9a-f]{16})?", re.ASCII)


def choose(files: Sequence[Path], root: Path, wanted: str | None) -> tuple[str, list[Path]]:
    """The split that is wanted, or else train or the only one, and its files.

    Raises SourceError, which lists the splits.
    """
    named = [_split_of(path, root) for path in files]
    found = sorted({split for split in named if split is not None})
    complete = bool(named) and None not in named
    if wanted == ALL or (not complete and wanted is None):
        return wanted or DEFAULT, list(files)
    split = _KNOWN.get(wanted, wanted) if wanted else _default(found)
    chosen = [path for path, name in zip(files, named, strict=True) if name == split]
    chosen = chosen or [path for path in files if _prefix(path) == wanted]
    if chosen:
        return split, chosen
    if split == DEFAULT and not complete:
        return split, list(files)
    known = f"its splits are {', '.join(found)}" if found else "it has none: leave out --split"
    raise SourceError(f"The data set has no split {split[:100]}; {known}.")


def _default(found: Sequence[str]) -> str:
    if DEFAULT in found:
        return DEFAULT
    if len(found) > 1:
        raise SourceError(f"Name the split to read with --split: {', '.join(found)}, or {ALL}.")
    return found[0]


def _split_of(path: Path, root: Path) -> str | None:
    """By the file's own name, else by the nearest folder below `root` that is called so."""
    prefix = _prefix(path)
    words = (prefix, prefix.rpartition("-")[2]) if prefix else (path.stem,)
    folders = path.relative_to(root).parts[-2::-1] if path.is_relative_to(root) else ()
    return next((_KNOWN[w.lower()] for w in (*words, *folders) if w.lower() in _KNOWN), None)


def _prefix(path: Path) -> str:
    """What stands before the number of a shard; empty if the file is none."""
    shard = _SHARD.fullmatch(path.stem)
    return shard[1] if shard else ""
