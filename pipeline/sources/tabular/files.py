"""Finds the files of a local data set: by its README.md, if that names any, else all there are."""

import os
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from pipeline.base.errors import SourceError, SourceNotAllowed
from pipeline.sources.allowed import AllowedSources
from pipeline.sources.card import Config, fixed_part
from pipeline.sources.tabular.splits import ALL, DEFAULT, choose
from pipeline.sources.tabular.tables import faults_named, is_tabular

# What Spark, Dask and Delta keep beside the data, and what a Mac puts into archives.
_NOT_DATA = frozenset(
    {"_metadata", "_common_metadata", "_temporary", "_delta_log", "_spark_metadata", "__MACOSX"}
)


def tabular_files(folder: Path, allowed: AllowedSources) -> list[Path]:
    """The Parquet and Arrow files in a folder and all folders in it, in the order of their names.

    Hidden files are left out. Links are followed. Raises SourceNotAllowed if one leads out of what
    is allowed, and SourceError, which names the folder that cannot be read.
    """
    return [path for path in _walk(folder, allowed) if is_tabular(path)]


def files_of(config: Config, wanted: str | None, allowed: AllowedSources) -> tuple[str, list[Path]]:
    """The split that is wanted, or meant, and its files. Raises as `tabular_files` and `choose`."""
    if not config.files:
        allowed.real(config.folder)
        files = tabular_files(config.folder, allowed) if _is(config.folder, Path.is_dir) else []
        return choose(files, config.folder, wanted) if files else (wanted or DEFAULT, [])
    found = {split: _matching(config, split, allowed) for split in config.files}
    if wanted == ALL:
        return ALL, [path for paths in found.values() for path in paths]
    split = wanted or (DEFAULT if DEFAULT in found or len(found) > 1 else next(iter(found)))
    if split not in found:
        listed = ", ".join(sorted(found))
        raise SourceError(f"The data set has no split {split[:100]}; its splits are {listed}.")
    return split, found[split]


def _matching(config: Config, split: str, allowed: AllowedSources) -> list[Path]:
    """The files that a split's patterns name, each once, in the order of the patterns."""
    patterns = config.files[split]
    return list(dict.fromkeys(p for one in patterns for p in _glob(config.folder, one, allowed)))


def _glob(folder: Path, pattern: str, allowed: AllowedSources) -> list[Path]:
    if "://" in pattern or "::" in pattern:
        raise SourceNotAllowed("This folder says that its files lie elsewhere.")
    start = folder / fixed_part(pattern)
    allowed.real(start)
    if _is(folder / pattern, Path.is_file):
        return [folder / pattern]
    if not _is(start, Path.is_dir):
        return []
    parts = pattern.removeprefix(fixed_part(pattern)).lstrip("/").split("/")
    found = tabular_files(start, allowed)
    return [path for path in found if _matches(path.relative_to(start).parts, parts)]


def _matches(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """`**` stands for any number of folders, and at the end for all that is in them."""
    if not pattern or pattern == ["**"]:
        return bool(pattern) or not names
    if pattern[0] == "**":
        return any(_matches(names[n:], pattern[1:]) for n in range(len(names)))
    return bool(names) and fnmatchcase(names[0], pattern[0]) and _matches(names[1:], pattern[1:])


def _walk(folder: Path, allowed: AllowedSources) -> Iterator[Path]:
    """All files, in the order of their paths as texts."""
    seen: set[str] = set()
    waiting, found = [folder], list[Path]()
    while waiting:
        place = waiting.pop()
        real = str(allowed.real(place))
        if real in seen:  # a link that leads back
            continue
        seen.add(real)
        with faults_named(place):
            for path in _entries(place):
                (waiting if path.is_dir() else found).append(path)
    yield from sorted(found, key=os.fspath)


def _is(path: Path, what: Callable[[Path], bool]) -> bool:
    with faults_named(path):
        return what(path)


def _entries(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if p.name not in _NOT_DATA and p.name[0] != "."]
