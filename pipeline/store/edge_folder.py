"""The embedded store's folder: who owns it, and which of its shards is read.

    DATA/store/{collection}/
        lock                           held by the one worker that owns the folder
        alias.json                     {"shard": "{collection}-{fingerprint}.2"}: what is read
        purge-due                      there while files may keep what was deleted (`edge_due.py`)
        {collection}-{fingerprint}.2/  one encoder's vectors, in its second generation
            encoder.json               which encoder that is
            edge_config.json, segments/, wal/    the engine's

The first generation has no number. Each index that is built, and each purge, makes the next one
(`edge_generations.py`), which counts for nothing until the alias names it; what the alias does not
name is left over.
"""

import fcntl
import json
import os
import re
import shutil
import socket
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import qdrant_edge as edge

from pipeline.base.errors import KindredError, StoreLocked, StoreUnavailable
from pipeline.messages import EncoderInfo
from pipeline.messages.filters import json_path
from pipeline.store import common

# What must be free on the disk for a write. The engine writes through mapped files, so a disk that
# is full does not fail a call: it ends the process (SIGBUS). One segment of its log takes 32 MiB.
_LEAST_FREE = 64 * 2**20

# Words as the engine tells them apart where a field has no index; a server's are the same.
_text = partial(
    edge.TextIndexParams, tokenizer=edge.TokenizerType.Word, lowercase=True, phrase_matching=True
)
_PARAMETERS: dict[str, Any] = {
    "keyword": edge.KeywordIndexParams,
    "integer": edge.IntegerIndexParams,
    "float": edge.FloatIndexParams,
    "bool": edge.BoolIndexParams,
    "datetime": edge.DatetimeIndexParams,
    "text": _text,
}


class Folder:
    """One encoder's shards in the folder of one collection; `path` is made where it is missing."""

    def __init__(self, path: Path, collection: str, encoder: EncoderInfo) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.encoder = encoder
        self._name = common.data_name(collection, encoder)
        self._alias = path / "alias.json"

    def open(self) -> tuple[Path, edge.EdgeShard]:
        """The shard that is read, and where it lies; made and aliased where it is missing.

        Each step is whole or absent on disk, and the next start finishes one that was cut off.
        Raises EncoderMismatch when another encoder has filled the collection.
        """
        aliased = _read_json(self._alias).get("shard")
        if aliased and not self._generation(aliased):
            self._adopt_or_refuse(aliased)
        path = self.path / self._current(aliased)
        if not path.exists():
            create(path, self.encoder)
        shard = load(path)
        if aliased != path.name:
            self.switch(path)
        self.remove_others(path)  # one that was being made, or that was replaced, at a kill
        return path, shard

    def switch(self, path: Path) -> None:
        """From here on `path` is what is read, also after a power cut."""
        write_json(self._alias, {"shard": path.name})

    def others(self, path: Path) -> list[Path]:
        """All our generations but the one in `path`."""
        return [self.path / name for name in self._generations() - {path.name}]

    def remove_others(self, path: Path) -> None:
        for other in self.others(path):
            remove(other)

    def following(self) -> Path:
        """Where the next generation is to be made."""
        numbers = [
            int(match[1] or 0) for name in self._generations() if (match := self._generation(name))
        ]
        return self.path / f"{self._name}.{max(numbers, default=0) + 1}"

    def _adopt_or_refuse(self, aliased: str) -> None:
        """By what is recorded: older versions hashed the model's path into the name too."""
        recorded = _recorded(self.path / aliased)
        if recorded and recorded.identity == self.encoder.identity:
            self._name = re.sub(r"\.\d+$", "", aliased)
        else:
            _refuse_unless_empty(self.path / aliased, self.encoder)
            remove(self.path / aliased)  # empty, but its files may keep what was deleted

    def _current(self, aliased: str | None) -> str:
        stored = self._generations()
        if aliased in stored:
            return aliased
        if len(stored) > 1:
            raise KindredError(
                f"{self._alias} names none of {', '.join(sorted(stored))}. Write the one with the "
                "images into it, or put it back from a backup: the others will be deleted."
            )
        return next(iter(stored), self._name)

    def _generations(self) -> set[str]:
        """The folders of all our generations, whole or not."""
        return {entry.name for entry in self.path.iterdir() if self._generation(entry.name)}

    def _generation(self, name: str) -> re.Match[str] | None:
        return re.fullmatch(rf"{re.escape(self._name)}(?:\.(\d+))?", name)


def own(folder: Path) -> int:
    """A descriptor that keeps other processes out until it is closed, by us or by our death.

    Raises StoreLocked.
    """
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(lock, 200, 0).decode(errors="replace") or "another process"
        os.close(lock)
        raise _locked(folder, owner) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    return lock


def load(path: Path) -> edge.EdgeShard:
    """Raises StoreLocked, or KindredError when the engine cannot open what is there."""
    try:
        return edge.EdgeShard.load(str(path))
    except Exception as error:
        # The engine's own lock, on its log: a program other than ours has the shard open.
        if "WouldBlock" in str(error):
            raise _locked(path, "a program that is not Kindred") from error
        raise KindredError(f"the shard in {path} cannot be opened: {error}") from error


def add_indexes(shard: edge.EdgeShard, indexes: Mapping[str, str]) -> None:
    """Adds the payload indexes that are missing, and replaces those of another kind.

    They lie in mapped files: in memory they would take half a gigabyte for a million images.
    """
    existing = shard.info().payload_schema
    for field, kind in indexes.items():
        path, wanted = json_path(field), _PARAMETERS[kind](memory=edge.Memory.Cached)
        if path in existing:
            params = existing[path].params
            same = type(params) is type(wanted)
            if same and getattr(params, "memory", None) == wanted.memory:
                continue
            shard.update(edge.UpdateOperation.delete_field_index(path))
        shard.update(edge.UpdateOperation.create_field_index(path, wanted))


def check_free(folder: Path) -> None:
    """Raises StoreUnavailable where a write could end the process."""
    if shutil.disk_usage(folder).free < _LEAST_FREE:
        raise StoreUnavailable("the disk of the embedded store is full")


def remove(path: Path) -> None:
    """What cannot be deleted now is left over, and is tried again at the next start."""
    shutil.rmtree(path, ignore_errors=True)


def _locked(folder: Path, owner: str) -> StoreLocked:
    return StoreLocked(
        f"another worker ({owner}) owns the embedded store in {folder}. One worker can open it: "
        "stop that one, or give this one another KINDRED_DATA, or let both use a Qdrant server "
        "(KINDRED_QDRANT_URL)."
    )


def _refuse_unless_empty(path: Path, ours: EncoderInfo) -> None:
    """Raises EncoderMismatch when the shard that another encoder made holds points."""
    if not path.exists():
        return
    shard = load(path)
    count = shard.count(edge.CountRequest(exact=True))
    shard.close()
    if count:
        raise common.mismatch(f"the embedded store in {path.parent}", _recorded(path), ours)


def _recorded(path: Path) -> EncoderInfo | None:
    """The encoder that made the shard in `path`, as it was then."""
    recorded = _read_json(path / "encoder.json")
    return EncoderInfo.model_validate(recorded) if recorded else None


def create(path: Path, encoder: EncoderInfo) -> None:
    """An empty shard. It is built aside and renamed, since the engine neither opens nor replaces
    half a shard."""
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    write_json(part / "encoder.json", encoder.model_dump(mode="json"))
    vectors = edge.EdgeVectorParams(size=encoder.dimensions, distance=edge.Distance.Cosine)
    shard = edge.EdgeShard.create(str(part), edge.EdgeConfig(vectors=vectors, wal_enabled=True))
    shard.flush()
    shard.close()
    part.rename(path)


def _read_json(path: Path) -> dict[str, Any]:
    """What is not there reads as empty."""
    try:
        value: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return value


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Whole or not at all, also across a power cut; when it returns, it is on the disk."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    with suppress(OSError):  # of a disk that cannot; the name is changed already
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
