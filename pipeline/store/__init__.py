"""The vector store: one interface, two backends, chosen by whether a Qdrant server is named."""

from pipeline.base.settings import StoreOptions
from pipeline.messages import EncoderInfo
from pipeline.store.base import Examples, Points, Query, Record, ScoredPoint, Store, Vectors
from pipeline.store.common import Claim, fingerprint, no_claim

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


def open_store(options: StoreOptions, encoder: EncoderInfo, claim: Claim = no_claim) -> Store:
    """The store of a collection, to be written and read with this encoder.

    `claim` is called once, when it is known that no other encoder filled the collection, and before
    a server's collection is made or changed.

    Raises EncoderMismatch when another encoder filled the collection or has claimed it, StoreLocked
    when another worker owns the embedded folder, ConfigurationError when the server is too old or
    refuses the key, and StoreUnavailable when it cannot be reached.
    """
    if options.qdrant_url:
        from pipeline.store.server import ServerStore

        return ServerStore.connect(
            options.qdrant_url,
            options.qdrant_api_key,
            options.collection,
            encoder,
            options.indexed_fields,
            claim,
            grpc_port=options.qdrant_grpc_port,
            ca=options.qdrant_ca,
        )
    from pipeline.store.edge import EdgeStore

    store = EdgeStore(
        options.folder, options.collection, encoder, options.indexed_fields, options.index_from
    )
    try:
        claim()  # now that the folder is ours: no other worker can fill it
    except BaseException:
        store.close()
        raise
    return store
