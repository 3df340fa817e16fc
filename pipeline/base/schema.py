"""Which layout Redis and the data folder have. Another one than ours is refused."""

import os
from pathlib import Path

from pipeline.base.errors import SchemaMismatch

SCHEMA_VERSION = 2

# Version 1 had no number. Its worker made the first of these, its api the others.
_VERSION_1 = ("store", "blobs/previews", "blobs/uploads", "blobs/asks")


def check_folder(data: Path) -> None:
    """Call it before anything else uses the folder; a new one gets the version.

    Raises SchemaMismatch.
    """
    file = data / "schema"
    if not file.exists():
        if any((data / name).exists() for name in _VERSION_1):
            refuse_other_schema(1, f"data folder {data}")
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = data / f".schema.{os.getpid()}"
        part.write_text(f"{SCHEMA_VERSION}\n")
        part.replace(file)
    refuse_other_schema(int(file.read_text()), f"data folder {data}")


def refuse_other_schema(found: int, what: str = "ledger in this Redis") -> None:
    """Raises SchemaMismatch unless it is ours."""
    if found < SCHEMA_VERSION:
        raise SchemaMismatch(
            f"The {what} was written by an older Kindred (schema {found}; this one needs"
            f" {SCHEMA_VERSION}). Empty this Redis and the data folder and ingest again, or go back"
            " to the version that wrote it."
        )
    if found > SCHEMA_VERSION:
        raise SchemaMismatch(
            f"The {what} was written by a newer Kindred (schema {found}); this one knows"
            f" {SCHEMA_VERSION}: upgrade it."
        )
