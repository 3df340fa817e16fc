"""Sidecars: `X.json` or `X.jpg.json` beside the picture `X.jpg`, as the ISIC archive and photo
services write them. What one says is metadata of its picture, nested as it is.
"""

import re
from functools import cached_property
from typing import BinaryIO

from pipeline.images.kinds import HEAD, Fate, kind_of
from pipeline.messages import Payload
from pipeline.sources.folder.cells import BadText, decoded, parsed
from pipeline.sources.folder.damage import reason_of
from pipeline.sources.folder.names import folded, stem
from pipeline.sources.folder.tree import Directory, Fault, File, Skipped
from pipeline.sources.metadata import merged

MAX_SIDECAR = 16_000_000  # bytes
METADATA = "metadata"  # the kind under which a file that was read for what it says is counted


class Sidecars:
    """The files of one folder that may be sidecars. `names` has them in order."""

    def __init__(self, directory: Directory, names: list[str]) -> None:
        self.names = names
        self._directory = directory
        self._by_key: dict[str, list[str]] = {}
        for name in names:
            for described in {stem(name), _described(stem(name))}:
                self._by_key.setdefault(folded(described), []).append(name)
        self._outcomes: dict[str, Skipped | Fault] = {}

    def metadata(self, picture: str) -> Payload:
        """What the sidecars of a picture say of it."""
        said: Payload = {}
        for described in dict.fromkeys((stem(picture), picture)):
            for name in self._of(described):
                said = merged(said, self._read(name))
        return said

    def outcome(self, name: str) -> Skipped | Fault | None:
        """What became of one, after all pictures; None if it describes none of them."""
        return self._outcomes.get(name)

    def _of(self, described: str) -> list[str]:
        """The sidecars of what is so called: exactly, or in other letters, if it is no other's."""
        named = self._by_key.get(folded(described), [])
        exact = [name for name in named if described in (stem(name), _described(stem(name)))]
        return exact or [name for name in named if stem(name) not in self._pictures]

    @cached_property
    def _pictures(self) -> set[str]:
        """The names of the other files, with and without their suffixes."""
        others = self._directory.files.keys() - set(self.names)
        return {spelled for name in others for spelled in (name, stem(name))}

    def _read(self, name: str) -> Payload:
        found = self._directory.files[name]()
        path = self._directory.path(name)
        try:
            said = _object(found) if isinstance(found, File) else None
        except BadText as error:
            self._outcomes[name] = Fault(path, f"the picture's metadata cannot be read: {error}")
            return {}
        except Exception as error:  # noqa: BLE001 - `reason_of` raises what is no file's fault
            self._outcomes[name] = Fault(path, reason_of(error))
            return {}
        if said is None:
            return {}
        self._outcomes[name] = Skipped(path, METADATA)
        return said


# Google Photos: `a.jpg.supplemental-metadata.json`, cut where the name would be too long; for
# `a(1).jpg`, it is `a.jpg(1).json` or `a.jpg.supplemental-metadata(1).json`.
_SUPPLEMENT = "supplemental-metadata"
_OF_PHOTOS = re.compile(r"(.+?)(\.[A-Za-z0-9]{3,4})(?:\.([a-z-]+))?(\(\d+\))?")


def _described(own: str) -> str:
    """The picture that a sidecar without its `.json` describes, if a photo service named it."""
    found = _OF_PHOTOS.fullmatch(own)
    if found is None or not _SUPPLEMENT.startswith(found[3] or ""):
        return own
    return f"{found[1]}{found[4] or ''}{found[2]}"


def may_be_sidecar(name: str) -> bool:
    return name.lower().endswith(".json")


def _object(file: File) -> Payload | None:
    """The file's JSON object; None for JSON that describes no picture, such as a list."""
    with file.open() as opened:
        return parse_sidecar(opened)


def parse_sidecar(file: BinaryIO) -> Payload | None:
    """Raises BadText and OSError."""
    data = file.read(MAX_SIDECAR + 1)
    try:
        found = _parsed(data)
    except BadText:
        if kind_of(data[:HEAD]).fate is Fate.TAKEN:  # a picture that is called so
            return None
        raise
    return found if isinstance(found, dict) else None


def _parsed(data: bytes) -> object:
    if len(data) > MAX_SIDECAR:
        raise BadText(f"it is larger than {MAX_SIDECAR // 1_000_000} MB")
    try:
        return parsed(decoded(data))
    except RecursionError:
        raise BadText("it is nested too deep") from None
    except ValueError:
        raise BadText("it is not JSON") from None
