"""`python -m workers.restore FOLDER` restores a backup onto an empty machine, without the model.

The settings name the target: the data folder or Qdrant, Redis, and the blobs. They must be unused.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.backup import archive
from pipeline.backup.manifest import BackupManifest
from pipeline.backup.snapshot import Snapshots
from pipeline.base.blobs import Blobs
from pipeline.base.errors import (
    BlobsMisconfigured,
    ConfigurationError,
    Conflict,
    KindredError,
    LedgerMisconfigured,
)
from pipeline.base.schema import check_folder
from pipeline.base.settings import EXIT_CONFIGURATION, Settings, load_settings
from pipeline.ledger import Ledgers, namespace_of
from pipeline.lifecycle.audit_reports import LabelAudits
from pipeline.lifecycle.deletion import Deletions
from pipeline.lifecycle.quarantine import Quarantine
from pipeline.retrieval.fields import Fields
from pipeline.store import Store, open_store

_WRONG_SETTINGS = (ConfigurationError, BlobsMisconfigured, LedgerMisconfigured)


def restore(folder: Path, settings: Settings) -> BackupManifest:
    """Verifies the backup, restores it, and counts what it has restored. Raises KindredError."""
    manifest = archive.verify(folder)
    check_folder(settings.data.absolute())
    Blobs(settings.blobs_of(settings.collection)).probe()
    # Build no index here, since it would be built again and again. The first worker builds it once.
    store = open_store(settings.model_copy(update={"index_from": 0}).store, manifest.encoder)
    snapshots = Snapshots(settings.redis_url, namespace_of(settings.collection))
    try:
        archive.refuse_unless_empty(settings.keys_file, store, snapshots)
        with _unfinished(settings):
            _restore(folder, settings, manifest, store, snapshots)
            deleted = _delete_again(settings, store)
    finally:
        store.close()
        snapshots.close()
    return manifest.model_copy(update={"images": manifest.images - deleted})


def refuse_half_a_restore(settings: Settings) -> None:
    """Raises Conflict after an incomplete restore, which lacks images or deletions."""
    if _mark(settings).exists():
        raise Conflict(
            f"A restore into {settings.data} was not completed. Empty that folder, and the Redis"
            " and the collection that belong to it, and restore again."
        )


@contextmanager
def _unfinished(settings: Settings) -> Iterator[None]:
    refuse_half_a_restore(settings)
    mark = _mark(settings)
    mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mark.touch(mode=0o600)
    yield
    mark.unlink()


def _mark(settings: Settings) -> Path:
    return settings.data.absolute() / "restore-unfinished"


def _restore(
    folder: Path, settings: Settings, manifest: BackupManifest, store: Store, snapshots: Snapshots
) -> None:
    archive.restore_keys(folder, settings.keys_file)
    images = archive.restore_store(folder, store)
    blobs = archive.restore_blobs(folder, Blobs(settings.blobs_of(settings.collection)))
    keys = archive.restore_ledger(folder, snapshots)
    if (images, blobs, keys) != (manifest.images, manifest.blobs, manifest.ledger_keys):
        raise Conflict(
            f"Restored {images} images, {blobs} blobs and {keys} entries of the ledger; the backup "
            f"has {manifest.images}, {manifest.blobs} and {manifest.ledger_keys}."
        )


def _delete_again(settings: Settings, store: Store) -> int:
    """Deletes images that were deleted after the backup had read them. Returns how many."""
    ledgers = Ledgers(settings.redis_url, settings.timing)
    ledger = ledgers.of(settings.collection)
    fields = Fields(store, settings.indexed_fields, settings.lesion_field)
    blobs = Blobs(settings.blobs_of(settings.collection))
    quarantine = Quarantine(blobs, ledger.withheld)
    deleted = Deletions(store, blobs, ledger.tombstones, fields, quarantine).repeat()
    LabelAudits(blobs, ledger).forget_deleted()
    store.flush()
    ledgers.close()
    return deleted


def main() -> int:
    try:
        manifest = restore(Path(sys.argv[1]), load_settings())
    except KindredError as error:
        print(f"{error.title}: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION if isinstance(error, _WRONG_SETTINGS) else 1
    print(manifest.model_dump_json(exclude={"files"}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
