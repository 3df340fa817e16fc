"""What `kindred backup` writes, as the command line that writes it and the restore both know it."""

import hashlib
from pathlib import Path

from pipeline.messages import EncoderInfo, Message

MANIFEST, LEDGER, BLOBS, KEYS = "manifest.json", "ledger.jsonl", "blobs.tar", "keys.json"
VECTORS, PAYLOADS = "vectors.npy", "payloads.jsonl"

TOMBSTONES = ":tombstones"  # how the ledger's key for what was deleted ends, in each collection


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
