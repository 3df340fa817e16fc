"""Decides which sources may be ingested: KINDRED_SOURCES names folders and data sets on the hub.

The api checks before it accepts a job, to give a clear answer. The worker checks again when it
opens the source, and checks each file in it: meanwhile a folder can become a link elsewhere.
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
        """Raises SourceNotAllowed, which says what to do and quotes no part of the name."""
        if "\0" in dataset or ".." in dataset.split("/"):
            raise SourceNotAllowed("The name contains characters that no data set's name has.")
        if is_folder(dataset):
            self.real(dataset)
        elif not _HUB_NAME.fullmatch(dataset):
            raise SourceNotAllowed(
                "Name a data set on the hub, as org/name, or a folder by its absolute path."
            )
        elif not any(fnmatchcase(dataset, name) for name in self.names):
            raise SourceNotAllowed("KINDRED_SOURCES does not allow this data set.")

    def real(self, path: str | Path) -> Path:
        """Resolves a path's links. Raises SourceNotAllowed if no allowed folder contains it."""
        found = Path(os.path.realpath(path))
        if not any(found.is_relative_to(folder) for folder in self.folders):
            raise SourceNotAllowed("This path is in no folder that KINDRED_SOURCES allows.")
        return found

    def check_file(self, dataset: str, file: str) -> None:
        """Checks one file of a data set, as the library names it. Raises SourceNotAllowed.

        A data set in an allowed folder or on the hub can name files anywhere else.
        """
        path = file.rpartition("::")[2]  # a file in an archive is `zip://name::archive`
        if is_folder(dataset):
            if not is_folder(path):  # even if all folders are allowed, a URL is not
                raise SourceNotAllowed("This folder says that its files lie elsewhere.")
            self.real(path)
            return
        hub = _HUB_FILE.match(path)
        if hub is None:
            raise SourceNotAllowed("This data set says that its files lie outside of the hub.")
        if hub[1] != dataset:
            self.check(hub[1])


def is_folder(dataset: str) -> bool:
    """Whether this is a folder; otherwise it is a name on the hub.

    Only the text decides, so the api and the workers agree.
    """
    return dataset.startswith("/")
