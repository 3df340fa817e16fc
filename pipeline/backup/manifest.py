"""The names and the manifest of a backup, shared by the command line and the restore."""

import hashlib
from pathlib import Path

from pipeline.messages import EncoderInfo, Message

MANIFEST, LEDGER, BLOBS, KEYS = "manifest.json", "ledger.jsonl", "blobs.tar", "keys.json"
VECTORS, PAYLOADS = "vectors.npy", "payloads.jsonl"

# The end of the Redis key of each collection's tombstones; with ":by", of who added them.
TOMBSTONES = ":tombstones"


class BackupManifest(Message):
    """`files` maps names to SHA-256."""

    created: str
    encoder: EncoderInfo
    images: int
    blobs: int
    ledger_keys: int
    files: dict[str, str]


def file_sha256(path: Path) -> str:
    """Hex digest."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
