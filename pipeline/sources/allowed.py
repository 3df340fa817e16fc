"""Decides which sources may be ingested: KINDRED_SOURCES names folders and data sets on the hub.

The api checks before it accepts a job, to give a clear answer. The worker checks again when it
opens the source, and checks each file in it: meanwhile a folder can become a link elsewhere.
"""

import os
import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from pipeline.base.errors import SourceNotAllowed

HUB = "hub:"
ARCHIVE = "dicomweb:"

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_HUB_FILE = re.compile(r"hf://datasets/([^@]+)@")


@dataclass(frozen=True)
class AllowedSources:
    """`folders` are real paths, without links; `names` are patterns of names on the hub.

    `archives` are patterns of hosts, perhaps with a port.
    """

    folders: tuple[Path, ...]
    names: tuple[str, ...]
    archives: tuple[str, ...] = ()

    @classmethod
    def of(cls, entries: tuple[str, ...]) -> "AllowedSources":
        """From ("/srv/images", "hub:org/*", "dicomweb:archive.example:8042")."""
        names = tuple(entry for entry in entries if entry.startswith(HUB))
        archives = tuple(entry for entry in entries if entry.startswith(ARCHIVE))
        folders = tuple(entry for entry in entries if entry not in (*names, *archives))
        return cls(
            tuple(Path(folder).expanduser().resolve() for folder in folders),
            tuple(name.removeprefix(HUB) for name in names),
            tuple(host.removeprefix(ARCHIVE).lower() for host in archives),
        )

    def grant(self, dataset: str) -> str | None:
        """The real folder of a data set that `check` has allowed; None for one on the hub."""
        return str(self.real(dataset)) if is_folder(dataset) else None

    def granting(self, folder: str | None) -> "AllowedSources":
        """For one job: with the folder that was allowed when the job was accepted.

        Whoever names folders themselves means just those. But creating the first key turns "every
        folder" into "none", and that is to end no job that was accepted before.
        """
        if folder is None or self.folders:
            return self
        return replace(self, folders=(Path(folder),))

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

    def check_archive(self, place: str) -> None:
        """Checks a URL's host and port. Raises SourceNotAllowed. None is allowed unless named."""
        place = place.lower()
        host = place if place.endswith("]") else place.rpartition(":")[0] or place
        if not any(fnmatchcase(each, name) for name in self.archives for each in (place, host)):
            raise SourceNotAllowed(
                "KINDRED_SOURCES does not allow this archive: it takes dicomweb:HOST or "
                "dicomweb:HOST:PORT."
            )

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
