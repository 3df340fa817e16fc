"""The audit log: who called what and when, on which images, in one JSON line for each call.

It contains ids only, never filters, query texts, metadata or file names.
"""

import errno
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import BaseModel

from api.access import Caller
from pipeline.base.errors import AuditUnavailable
from pipeline.dicom.pseudonyms import is_uid, split_frame


@dataclass
class Entry:
    """What the log says of a call; the call's handlers fill it in.

    `images` has the image ids that the call names, `shown` those that its answer shows, and
    `reidentified` those whose original numbers it shows.
    """

    caller: Caller | None = None
    images: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    reidentified: list[str] = field(default_factory=list)
    job: str | None = None
    search: str | None = None
    deletion: str | None = None

    def named(self, path: Mapping[str, Any]) -> list[str]:
        return [path["image_id"]] if "image_id" in path else self.images

    def line(self, call: str, path: Mapping[str, Any], status: int) -> dict[str, Any]:
        """`path` has the ids in the call's path, under the names that our routes give them."""
        caller = self.caller
        found = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "key": caller and caller.id,
            "name": caller and caller.name,
            "call": call,
            "status": status,
            "collection": path.get("collection"),
            "job": self.job or path.get("job"),
            "search": self.search or path.get("identifier"),
            "deletion": self.deletion or path.get("deletion"),
            "images": list(map(_audited, self.named(path))),
            "shown": self.shown,
            "reidentified": list(dict.fromkeys(self.reidentified)),
        }
        return {name: value for name, value in found.items() if value or name in ("key", "name")}


def _audited(image_id: str) -> str:
    """A UID as a DICOM file has it is not written down; `shown` has what it is stored as."""
    if not is_uid(split_frame(image_id)[0]):
        return image_id
    return f"uid:{sha256(image_id.encode()).hexdigest()[:16]}"


class AuditLog:
    """Opens its file for every line, so the file can be rotated any time. `-`: standard output."""

    def __init__(self, file: str) -> None:
        """Raises AuditUnavailable."""
        self._file = file
        if file != "-":
            try:
                Path(file).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise _unavailable(error) from error
            self._append(b"")

    def write(self, line: dict[str, Any]) -> None:
        """Raises AuditUnavailable."""
        text = json.dumps(line, ensure_ascii=False) + "\n"
        if self._file == "-":
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            self._append(text.encode("utf-8", "replace"))

    def _append(self, data: bytes) -> None:
        """Writes all at once, so that lines of several processes do not mix."""
        try:
            descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                written = os.write(descriptor, data)
                if written < len(data):  # the disk is nearly full
                    _undo(descriptor, written)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _unavailable(error) from error


def _undo(descriptor: int, written: int) -> None:
    """Removes half a line, which would spoil the next, unless another process has written since."""
    end = os.lseek(descriptor, 0, os.SEEK_CUR)
    if os.fstat(descriptor).st_size == end:
        os.ftruncate(descriptor, end - written)


def _unavailable(error: OSError) -> AuditUnavailable:
    return AuditUnavailable(f"The audit log cannot be written: {os.strerror(error.errno or 0)}.")


async def _entry(request: Request) -> Entry:
    entry: Entry = request.state.entry
    return entry


EntryDep = Annotated[Entry, Depends(_entry)]


class _Image(BaseModel):
    image_id: str
    others: tuple["_Image", ...] | None = None


class _Compared(BaseModel):
    """One of the pictures of an explanation: an image, unless it was sent along."""

    image_id: str | None = None


class _Answer(BaseModel):
    """The parts of a worker's answer that name images."""

    image_id: str | None = None
    first: _Compared | None = None
    second: _Compared | None = None
    images: tuple[_Image, ...] = ()
    results: tuple[_Image, ...] | tuple[tuple[_Image, ...] | None, ...] = ()


def images_in(answer: bytes) -> list[str]:
    """The ids of all images that an answer shows, each once, in its order."""
    found = _Answer.model_validate_json(answer)
    single = (found, found.first, found.second)
    ids = [one.image_id for one in single if one is not None and one.image_id is not None]
    for item in (*found.images, *found.results):
        for image in (item,) if isinstance(item, _Image) else item or ():
            ids += [image.image_id, *(other.image_id for other in image.others or ())]
    return list(dict.fromkeys(ids))
