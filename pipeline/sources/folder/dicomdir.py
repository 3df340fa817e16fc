"""A DICOMDIR as a source: the files that it lists, as far as they lie in its folder.

No path of it leads anywhere else: each is resolved with all links, and must end in the folder.
"""

import os
from functools import partial
from pathlib import Path

from pipeline.base.errors import SourceError
from pipeline.dicom.directory import file_ids
from pipeline.dicom.errors import Refused
from pipeline.images.kinds import HEAD, kind_of
from pipeline.sources.folder.names import distinct
from pipeline.sources.folder.tree import Directory, Fault, Listed, regular_file

AWAY = "the DICOMDIR names it, and it is not in the DICOMDIR's folder"
ABSENT = "the DICOMDIR names it, and it is not there"


def base_of(root: Path) -> Path:
    """The folder to which places are relative: of a DICOMDIR, the one that it lies in."""
    return root.resolve().parent if is_dicomdir(root) else root


def is_dicomdir(root: Path) -> bool:
    try:
        if not root.is_file():
            return False
        with root.open("rb") as file:
            return kind_of(file.read(HEAD)).name == "dicom directory"
    except OSError:
        return False


def listed_in(root: Path) -> Directory:
    """Raises SourceError for a DICOMDIR that cannot be read, and OSError."""
    try:
        with root.open("rb") as file:
            paths = file_ids(file)
    except Refused as refused:
        raise SourceError(f"{root} cannot be read: {refused.reason}.", why=refused.reason) from None
    folder = _Folder(base_of(root))
    files: dict[str, partial[Listed]] = {}
    for parts in paths:
        name = distinct("/".join(parts), files)
        files[name] = partial(folder.listed, name, parts)
    return Directory("", "", files)


class _Folder:
    def __init__(self, real: Path) -> None:
        self._real = real

    def listed(self, name: str, parts: tuple[str, ...]) -> Listed:
        found = self._on_disk(parts)
        if found is None:
            return Fault(name, ABSENT)
        real = Path(os.path.realpath(found))
        if not real.is_relative_to(self._real):
            return Fault(name, AWAY)
        return regular_file(str(real), name, (str(real.relative_to(self._real)),))

    def _on_disk(self, parts: tuple[str, ...]) -> Path | None:
        """Media know capital letters only, and a copy on a disk can have small ones."""
        exact = self._real.joinpath(*(part.replace("\\", "/").strip("/") or "." for part in parts))
        if os.path.lexists(exact):
            return exact
        path = self._real
        for part in parts:
            try:
                names = {each.casefold(): each for each in os.listdir(path)}  # noqa: PTH208
            except OSError:
                return None
            own = names.get(part.casefold())
            if own is None:
                return None
            path = path / own
        return path
