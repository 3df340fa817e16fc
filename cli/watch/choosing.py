"""Cuts the complete files of a look into batches, with what describes them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from cli.watch.looking import Seen, Stamp
from pipeline.sources.folder.names import stem
from pipeline.sources.folder.sidecars import may_be_sidecar
from pipeline.sources.folder.tables import is_table

# Pictures of a batch: with their sidecars and some tables, a job takes them by name.
MOST = 400

_DATA_SETS = (".parquet", ".arrow")
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")


@dataclass(frozen=True)
class Chosen:
    """`tabular`: one file, which is a data set of its own."""

    files: tuple[Seen, ...]
    tabular: bool = False


def batches(
    complete: Mapping[str, Stamp], everything: Iterable[str], want: Callable[[str], bool]
) -> Iterator[Chosen]:
    """Of `everything` that is there, the files that are complete, and wanted by their paths.

    A table stays where it is, since pictures may still come that it describes. A sidecar goes with
    its picture, and a picture whose sidecar is not complete waits for it.
    """
    sidecars = _sidecars(everything)
    some: dict[str, Stamp] = {}
    for path in sorted(complete):
        if is_described_by(path) or not (_is_archive(path) or want(path)):
            continue
        if path.lower().endswith(_DATA_SETS):
            yield Chosen(((path, complete[path]),), tabular=True)
            continue
        group = [path, *sidecars.get(path, ()), *sidecars.get(stem(path), ())]
        if all(each in complete for each in group):
            some |= {each: complete[each] for each in group}
        if len(some) >= MOST:
            yield Chosen(tuple(some.items()))
            some = {}
    if some:
        yield Chosen(tuple(some.items()))


def tables_of(files: Iterable[str], everything: Iterable[str]) -> list[str]:
    """The tables that may describe these files: those of their folders, and of all above."""
    folders = {str(folder) for file in files for folder in PurePosixPath(file).parents}
    tables = (path for path in everything if is_table(_own(path)))
    return sorted(path for path in tables if str(PurePosixPath(path).parent) in folders)


def is_described_by(path: str) -> bool:
    """Whether it may be a table or a sidecar."""
    return is_table(_own(path)) or may_be_sidecar(path)


def _sidecars(everything: Iterable[str]) -> dict[str, list[str]]:
    """By the paths of what they describe, which may lack its suffix."""
    found: dict[str, list[str]] = {}
    for path in everything:
        if may_be_sidecar(path) and not is_table(_own(path)):
            found.setdefault(stem(path), []).append(path)
    return found


def _is_archive(path: str) -> bool:
    return path.lower().endswith(_ARCHIVES)


def _own(path: str) -> str:
    return path.rpartition("/")[2]
