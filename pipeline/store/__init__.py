"""The vector store: one interface, two backends, chosen by whether a Qdrant server is named."""

from pipeline.base.settings import StoreOptions
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


def open_store(options: StoreOptions, encoder: EncoderInfo) -> Store:
    """The store of a collection, to be written and read with this encoder.

    Raises EncoderMismatch when another encoder filled the collection, StoreLocked when another
    worker owns the embedded folder, and StoreUnavailable when the server cannot be reached.
    """
    if options.qdrant_url:
        from pipeline.store.server import ServerStore

        return ServerStore.connect(
            options.qdrant_url,
            options.qdrant_api_key,
            options.collection,
            encoder,
            options.indexed_fields,
        )
    from pipeline.store.edge import EdgeStore

    return EdgeStore(
        options.folder, options.collection, encoder, options.indexed_fields, options.index_from
    )
