"""Which sources may be ingested: what KINDRED_SOURCES says of folders, and of data sets on the hub.

The api asks before it accepts a job, for a clear answer; the worker asks again when it opens the
source, and for each file in it, since folders can be linked elsewhere in the meantime.
"""

import os
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from pipeline.base.errors import SourceNotAllowed

HUB = "hub:"

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_HUB_FILE = re.compile(r"hf://datasets/([^@]+)@")


@dataclass(frozen=True)
class AllowedSources:
    """`folders` are real paths, without links; `names` are patterns of names on the hub."""

    folders: tuple[Path, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, entries: tuple[str, ...]) -> "AllowedSources":
        """From ("/srv/images", "hub:org/*")."""
        names = tuple(entry for entry in entries if entry.startswith(HUB))
        folders = tuple(entry for entry in entries if not entry.startswith(HUB))
        return cls(
            tuple(Path(folder).expanduser().resolve() for folder in folders),
            tuple(name.removeprefix(HUB) for name in names),
        )

    def check(self, dataset: str) -> None:
        """Raises SourceNotAllowed, which says what to do and quotes nothing."""
        if not dataset.isprintable() or ".." in dataset.split("/"):
            raise SourceNotAllowed("The name holds characters that no data set's has.")
        if is_folder(dataset):
            self.real(dataset)
        elif not _HUB_NAME.fullmatch(dataset):
            raise SourceNotAllowed(
                "Name a data set on the hub, as org/name, or a folder by its absolute path."
            )
        elif not any(fnmatchcase(dataset, name) for name in self.names):
            raise SourceNotAllowed("This data set is not among those that KINDRED_SOURCES allows.")

    def real(self, path: str | Path) -> Path:
        """Where a path really leads. Raises SourceNotAllowed if that is in no folder allowed."""
        found = Path(os.path.realpath(path))
        if not any(found.is_relative_to(folder) for folder in self.folders):
            raise SourceNotAllowed("This path is in no folder that KINDRED_SOURCES allows.")
        return found

    def check_file(self, dataset: str, file: str) -> None:
        """A file that a data set is made of, as the library names it. Raises SourceNotAllowed.

        What lies in an allowed folder or on the hub can say that its files lie anywhere else.
        """
        place = file.rpartition("::")[2]  # a file in an archive is `zip://name::archive`
        if is_folder(dataset):
            if not is_folder(place):  # where all folders are allowed, an address must not be one
                raise SourceNotAllowed("This folder says that its files lie elsewhere.")
            self.real(place)
            return
        hub = _HUB_FILE.match(place)
        if hub is None:
            raise SourceNotAllowed("This data set says that its files lie outside of the hub.")
        if hub[1] != dataset:
            self.check(hub[1])


def is_folder(dataset: str) -> bool:
    """Else it is a name on the hub. By its look alone, so that api and workers agree."""
    return dataset.startswith("/")
