"""Tells a folder of pictures from a data set: parquet or arrow files, with no picture beside."""

from collections.abc import Iterator

from pipeline.images.kinds import HEAD, Fate, kind_of
from pipeline.sources.folder.damage import DAMAGED
from pipeline.sources.folder.tables import is_table
from pipeline.sources.folder.tree import Directory, File

_TABULAR = frozenset({"parquet", "arrow", "table"})
_ARCHIVES = frozenset({"zip", "tar", "gzip", "archive"})


def tabular_files(directory: Directory) -> list[File]:
    """The files of a data set, in the order of their names; empty if this is a folder of pictures.

    A picture, or an archive, makes it one, and the walk ends there.
    """
    found: list[File] = []
    for file in _files(directory):
        try:
            with file.open() as opened:
                kind = kind_of(opened.read(HEAD))
        except (*DAMAGED, OSError):
            if file.name.endswith((".parquet", ".arrow")):  # so that its reader names it
                found.append(file)
            continue
        if kind.fate is not Fate.SKIPPED or kind.name in _ARCHIVES:
            return []
        if kind.name in _TABULAR:
            found.append(file)
    return found


def _files(directory: Directory) -> Iterator[File]:
    for name, make in directory.files.items():
        if not is_table(name):
            file = make()
            if isinstance(file, File):
                yield file
    for folder in directory.folders.values():
        yield from _files(folder())
