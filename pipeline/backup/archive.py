"""The files of a backup, which `kindred backup` writes and `restore` reads.

    manifest.json     time, encoder, how many of everything, SHA-256 of every file
    ledger.jsonl      jobs, searches, tombstones: one JSON object for each Redis key
    vectors.npy       float32 (rows, dimensions)
    payloads.jsonl    {"image_id", "point_id", "payload"}, one line for each of those rows
    blobs.tar         uploads, previews, quarantine, receipts, accounts of jobs, evaluations,
                      closeness
    keys.json         API keys, hashed

The backup reads the ledger first, then the store, then the blobs. So whatever the ledger calls done
is in the backup's store, and whatever is in its store has its picture in the backup's blobs. The
tombstones are read again at the end, so that a restore can delete images that were read before they
were deleted.
"""

import json
import tarfile
from pathlib import Path
from uuid import UUID

import numpy as np

from pipeline.backup.manifest import (
    BLOBS,
    KEYS,
    LEDGER,
    MANIFEST,
    PAYLOADS,
    VECTORS,
    BackupManifest,
    file_sha256,
)
from pipeline.backup.snapshot import Snapshots
from pipeline.base.blobs import Blobs
from pipeline.base.errors import Conflict, SourceError
from pipeline.base.files import write_private
from pipeline.base.keys import KeyFile
from pipeline.store import Points, Store

_POINTS = 256  # in one write


def verify(folder: Path) -> BackupManifest:
    """The manifest of a complete backup. Raises SourceError, naming what is missing or damaged."""
    try:
        manifest = BackupManifest.model_validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise SourceError(f"{folder} contains no backup: there is no {MANIFEST}.") from None
    except ValueError as error:
        raise SourceError(f"{folder / MANIFEST} cannot be read.") from error
    for name, digest in manifest.files.items():
        path = folder / name
        if not path.is_file() or file_sha256(path) != digest:
            raise SourceError(f"{path} is missing, or has changed since it was written.")
    return manifest


def refuse_unless_empty(keys: Path, store: Store, snapshots: Snapshots) -> None:
    """Call it before writing anything. Raises Conflict, KeysUnavailable or LedgerUnavailable."""
    if KeyFile(keys).read():
        raise Conflict(f"There are keys in {keys}: restore onto an empty machine.")
    if store.count():
        raise Conflict("The collection contains images already: restore into an empty one.")
    snapshots.refuse_unless_empty()


def restore_blobs(folder: Path, blobs: Blobs) -> int:
    count = 0
    with tarfile.open(folder / BLOBS) as archive:
        for entry in archive:
            file = archive.extractfile(entry)
            if file is not None:
                blobs.write(entry.name, file.read())
                count += 1
    return count


def restore_ledger(folder: Path, snapshots: Snapshots) -> int:
    with (folder / LEDGER).open() as lines:
        return snapshots.restore(lines)


def restore_keys(folder: Path, file: Path) -> None:
    keys = (folder / KEYS).read_bytes()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(file, keys)


def restore_store(folder: Path, store: Store) -> int:
    """Writes points in parts; the array of vectors is mapped, not read as a whole."""
    vectors = np.load(folder / VECTORS, mmap_mode="r")
    with (folder / PAYLOADS).open() as lines:
        for start in range(0, len(vectors), _POINTS):
            part = np.asarray(vectors[start : start + _POINTS])
            images = [json.loads(next(lines)) for _ in range(len(part))]
            ids = [UUID(image["point_id"]) for image in images]
            store.upsert(Points(ids, part, [image["payload"] for image in images]))
    store.flush()
    return store.count()
