"""Reads the head of a data set's README.md: its configurations, and the names of its classes.

A head that is no YAML, or has another form than the hub's, says nothing. `dataset_infos.json` is
not read at all: it is old, and says nothing that the files do not.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.base.errors import SourceError

# In bytes. The head of a README.md takes some kB, even with a thousand classes.
MAX_CARD = 1 << 20
DEFAULT = "default"

_HEAD = re.compile(r"\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Config:
    """One configuration. `files` are patterns by split, relative to `folder`; often there are none.

    `default` says that it is the one that is meant when none is named.
    """

    name: str
    folder: Path
    files: Mapping[str, tuple[str, ...]]
    default: bool = False


@dataclass(frozen=True)
class Card:
    """`broken` says that there is a head that nobody can read."""

    configs: Mapping[str, Config]
    infos: tuple[Mapping[str, Any], ...] = ()
    broken: bool = False

    def choose(self, wanted: str | None) -> Config | None:
        """The configuration to read; None if there are none. Raises SourceError with the list."""
        if wanted is None and not self.configs:
            return None
        if wanted is not None and wanted not in self.configs:
            raise SourceError(self._missing(wanted))
        name = wanted or self.default
        if name is None:
            raise SourceError(f"Name the configuration to read with --config: {self._listed}.")
        return self.configs[name]

    @property
    def default(self) -> str | None:
        """The configuration that is meant when none is named; None if there is no such one."""
        marked = [config.name for config in self.configs.values() if config.default]
        names = marked or [name for name in self.configs if name == DEFAULT] or list(self.configs)
        return names[0] if len(names) == 1 else None

    def features(self, config: str | None) -> dict[str, Any]:
        """The columns that the head describes, in the form of `datasets`."""
        named = {str(info.get("config_name", DEFAULT)): info for info in self.infos}
        info = named.get(config or DEFAULT) or (self.infos[0] if len(self.infos) == 1 else {})
        return dict(filter(None, map(_feature, _list(info.get("features")))))

    @property
    def _listed(self) -> str:
        names = sorted(self.configs)
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        return ", ".join(name[:60] for name in names[:20]) + more

    def _missing(self, wanted: str) -> str:
        if self.configs:
            has = f"its configurations are {self._listed}"
        elif self.broken:
            has = "the head of its README.md, which would name them, is not YAML"
        else:
            has = "it has none: leave out --config"
        return f"The data set has no configuration {wanted[:100]}; {has}."


def config_folder(folder: Path, wanted: str | None) -> Path:
    """The folder to read: that of the configuration that is wanted, or meant among several.

    What a README.md says of the only one leaves no picture out. Raises SourceError, which lists the
    configurations. The folder need not be inside of what is allowed.
    """
    card = read_card(folder)
    config = card.choose(wanted)
    if config is None or (wanted is None and len(card.configs) == 1):
        return folder
    return _begin(config)


def read_card(folder: Path) -> Card:
    """What the head of README.md says. Never raises for what is in it."""
    try:
        with (folder / "README.md").open("rb") as file:
            text = file.read(MAX_CARD).decode("utf-8-sig", "replace")
    except OSError:
        return Card({})
    head = _HEAD.match(text)
    if head is None:
        return Card({})
    try:
        said = yaml.safe_load(head[1])
    except (yaml.YAMLError, RecursionError, ValueError):
        return Card({}, broken=True)
    return _card(said, folder) if isinstance(said, dict) else Card({})


def _card(said: Mapping[Any, Any], folder: Path) -> Card:
    given = [config for config in _list(said.get("configs")) if isinstance(config, dict)]
    configs = [_config(config, folder) for config in given if config.get("config_name")]
    infos = said.get("dataset_info")
    known = [info for info in _list(infos) if isinstance(info, dict)]
    return Card({config.name: config for config in configs}, tuple(known))


def _config(said: Mapping[Any, Any], folder: Path) -> Config:
    place = folder / str(said.get("data_dir") or "")
    files = _patterns(said.get("data_files"))
    return Config(str(said["config_name"]), place, files, said.get("default") is True)


def _patterns(said: Any) -> dict[str, tuple[str, ...]]:
    """From a pattern, a list of them, a mapping from splits, or a list of {split, path}."""
    if isinstance(said, dict):
        return {str(split): _texts(paths) for split, paths in said.items()}
    entries = [entry for entry in _list(said) if isinstance(entry, dict)]
    if entries:
        return {str(entry.get("split", "train")): _texts(entry.get("path")) for entry in entries}
    return {"train": _texts(said)} if said else {}


def _begin(config: Config) -> Path:
    """Where the files of a configuration lie: the folder that all its patterns begin with."""
    patterns = [pattern for found in config.files.values() for pattern in found]
    starts = {fixed_part(pattern) for pattern in patterns} or {""}
    return config.folder / (starts.pop() if len(starts) == 1 else "")


def fixed_part(pattern: str) -> str:
    """The folders of a pattern before its first wild card; of a plain path, its folder."""
    parts = pattern.split("/")
    wild = next((n for n, part in enumerate(parts) if _WILD.search(part)), len(parts) - 1)
    return "/".join(parts[:wild]) or ("/" if pattern.startswith("/") else "")


def _feature(said: Any) -> tuple[str, dict[str, Any]] | None:
    """Of `{name: dx, dtype: {class_label: {names: {'0': nevus}}}}` or `{name: x, dtype: image}`."""
    if not isinstance(said, dict):
        return None
    name, kind = str(said.get("name")), said.get("dtype")
    if kind == "image":
        return name, {"_type": "Image"}
    label = kind.get("class_label") if isinstance(kind, dict) else None
    names = label.get("names") if isinstance(label, dict) else None
    return (name, {"_type": "ClassLabel", "names": _classes(names)}) if names else None


def _classes(said: Any) -> list[str]:
    """From a list, or from a mapping whose keys are the numbers of the classes."""
    if not isinstance(said, dict):
        return [str(name) for name in _list(said)]
    numbered = {str(number): str(name) for number, name in said.items()}
    return [numbered[number] for number in sorted(numbered, key=lambda n: (len(n), n))]


def _list(said: Any) -> list[Any]:
    if said is None:
        return []
    return said if isinstance(said, list) else [said]


def _texts(said: Any) -> tuple[str, ...]:
    return tuple(str(one) for one in _list(said))
