"""What a process of this package looks at before it starts, so that wrong settings end it."""

from contextlib import closing

from pipeline.base.blobs import Blobs
from pipeline.base.errors import (
    BlobsMisconfigured,
    BlobsUnavailable,
    LedgerMisconfigured,
    LedgerUnavailable,
)
from pipeline.base.settings import Settings
from pipeline.ledger import Ledgers


def check_redis(settings: Settings) -> None:
    """Raises SchemaMismatch or LedgerMisconfigured. While Redis is unavailable, `/readyz` asks
    again."""
    with closing(Ledgers(settings.redis_url, settings.timing)) as ledgers:
        try:
            ledgers.check_schema()
            ledgers.check_eviction()
        except LedgerMisconfigured:
            raise
        except LedgerUnavailable:
            return


def check_blobs(settings: Settings) -> None:
    """Raises BlobsMisconfigured, as without the package for an object store. Calls no server."""
    try:
        Blobs(settings.blobs_of(settings.collection))
    except BlobsMisconfigured:
        raise
    except BlobsUnavailable:  # each call asks again
        return
