"""The vector store: one interface, two backends, chosen by whether a Qdrant server is named."""

from pipeline.base.settings import Settings
from pipeline.messages import EncoderInfo
from pipeline.store.base import Examples, Points, Query, Record, ScoredPoint, Store, Vectors
from pipeline.store.common import fingerprint

__all__ = [
    "Examples",
    "Points",
    "Query",
    "Record",
    "ScoredPoint",
    "Store",
    "Vectors",
    "fingerprint",
    "open_store",
]


def open_store(settings: Settings, encoder: EncoderInfo) -> Store:
    """The store of `settings`, to be written and read with this encoder.

    Raises EncoderMismatch when another encoder filled the collection, StoreLocked when another
    worker owns the embedded folder, and StoreUnavailable when the server cannot be reached.
    """
    if settings.qdrant_url:
        from pipeline.store.server import ServerStore

        return ServerStore.connect(
            settings.qdrant_url,
            settings.qdrant_api_key,
            settings.collection,
            encoder,
            settings.indexed_fields,
        )
    from pipeline.store.edge import EdgeStore

    folder = settings.data / "store" / settings.collection
    return EdgeStore(
        folder, settings.collection, encoder, settings.indexed_fields, settings.index_from
    )
