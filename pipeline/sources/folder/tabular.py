"""Tells a folder of pictures from a data set: parquet or arrow files, with no picture beside."""

from collections.abc import Iterator

from pipeline.images.kinds import HEAD, Fate, kind_of
from pipeline.sources.folder.damage import DAMAGED
from pipeline.sources.folder.names import is_called_a_picture
from pipeline.sources.folder.sidecars import METADATA
from pipeline.sources.folder.tables import is_table
from pipeline.sources.folder.tree import Directory, Fault, File, Skipped

_TABULAR = frozenset({"parquet", "arrow", "table"})
_MISSING = frozenset({"lfs pointer", "empty", "zeros"})
_ARCHIVES = frozenset({"zip", "tar", "gzip", "archive"})


def beside_tables(directory: Directory) -> list[Skipped] | None:
    """The files beside those of a data set; None if this is a folder of pictures.

    A picture, or an archive, makes it one, and the walk ends there.
    """
    tables, others = 0, list[Skipped]()
    for file in _files(directory):
        if isinstance(file, Skipped):
            others.append(file)
            continue
        try:
            with file.open() as opened:
                kind = kind_of(opened.read(HEAD))
        except (*DAMAGED, OSError):
            if file.name.endswith((".parquet", ".arrow")):  # so that its reader names it
                tables += 1
            continue
        if kind.name in _MISSING and file.name.endswith((".parquet", ".arrow")):
            tables += 1  # as above
            continue
        if kind.name in _MISSING and not is_called_a_picture(file.name):
            others.append(Skipped(file.name, kind.name))  # `_SUCCESS`, as Spark leaves it
        elif kind.fate is not Fate.SKIPPED or kind.name in _ARCHIVES:
            return None
        elif kind.name in _TABULAR:
            tables += 1
        else:
            others.append(Skipped(file.name, kind.name))
    return others if tables else None


def _files(directory: Directory) -> Iterator[File | Skipped]:
    yield from (other for other in directory.others if isinstance(other, Skipped))
    for name, make in directory.files.items():
        file = make()
        if is_table(name) and not directory.alone:
            yield Skipped(directory.path(name), METADATA)
        elif not isinstance(file, Fault):
            yield file
    for folder in directory.folders.values():
        yield from _files(folder())
