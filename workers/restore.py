"""`python -m workers.restore FOLDER`: a backup onto an empty machine, without the model.

The settings say where to: the data folder or Qdrant, Redis, the blobs. Nothing may use them yet.
"""

import sys
from pathlib import Path

from pipeline import archive
from pipeline.blobs import Blobs
from pipeline.errors import Conflict, KindredError
from pipeline.ledger.snapshot import Snapshots
from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.store import open_store


def restore(folder: Path, settings: Settings) -> Manifest:
    """Verified before anything is written, and counted afterwards. Raises KindredError."""
    manifest = archive.verify(folder)
    # The worker that opens it builds an index once, of all; here it would be built again and again.
    store = open_store(settings.model_copy(update={"index_from": 0}), manifest.encoder)
    snapshots = Snapshots(settings.redis_url)
    try:
        archive.restore_keys(folder, settings.keys_file)
        images = archive.restore_store(folder, store)
        blobs = archive.restore_blobs(folder, Blobs(settings.blobs))
        keys = archive.restore_ledger(folder, snapshots)
    finally:
        store.close()
        snapshots.close()
    restored = (images, blobs, keys)
    if restored != (manifest.images, manifest.blobs, manifest.ledger_keys):
        raise Conflict(
            f"Restored {images} images, {blobs} blobs and {keys} entries of the ledger; the backup "
            f"has {manifest.images}, {manifest.blobs} and {manifest.ledger_keys}."
        )
    return manifest


def main() -> int:
    try:
        manifest = restore(Path(sys.argv[1]), Settings())
    except KindredError as error:
        print(f"{error.title}: {error}", file=sys.stderr)
        return 1
    print(manifest.model_dump_json(exclude={"files"}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
