"""Opens a worker: the model, the store that it fills, and everything that uses them."""

import os
import shutil
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from uuid import uuid4

from pipeline.base.blobs import Blobs
from pipeline.base.settings import Settings
from pipeline.encoding.encoder import Encoder
from pipeline.images.watchdog import DecodeWatch
from pipeline.ledger import Lease, Ledger, Ledgers
from pipeline.lifecycle.deletion import Deletions
from pipeline.lifecycle.ingest import Ingest, Limits
from pipeline.lifecycle.sweep import Sweep
from pipeline.operations.context import Context
from pipeline.retrieval.fields import Fields
from pipeline.retrieval.search import Search
from pipeline.retrieval.targets import QueryTargets
from pipeline.sources.allowed import AllowedSources
from pipeline.sources.base import Opening
from pipeline.sources.registry import SourceCache
from pipeline.store import Store, open_store
from pipeline.store.common import in_use
from workers.health import Probe
from workers.memory import keep_freed_memory
from workers.renewal import Renewals
from workers.runtime import Runtime


def open_runtime(settings: Settings, publish: Callable[[Lease], None]) -> Runtime:
    """Loads and warms up the model, then opens the collection that it fills.

    Raises ConfigurationError, EncoderError, EncoderMismatch, StoreLocked, SchemaMismatch,
    StoreUnavailable, LedgerUnavailable, BlobsUnavailable or BlobsMisconfigured.
    """
    keep_freed_memory()
    ledgers = Ledgers(settings.redis_url, settings.timing, patience=settings.lease_seconds / 2)
    ledgers.check_schema()
    ledgers.check_eviction()
    blobs = Blobs(settings.blobs_of(settings.collection))
    # Earlier versions prepared copies of data sets there, and patients are in them.
    shutil.rmtree(settings.data / "datasets", ignore_errors=True)
    blobs.probe()  # before the model, which takes a while
    encoder = Encoder.load(settings.encoder)
    encoder.warm_up()
    stopping, decode_watch, renewals = threading.Event(), DecodeWatch(), Renewals()
    name = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:6]}"
    ledger = ledgers.of(settings.collection)
    ledger.register()
    try:
        store = open_store(settings.store, encoder.info, partial(_claim, ledger, name, encoder))
    except BaseException:
        ledger.workers.leave(name)  # its claim must not outlive it
        raise
    return Runtime(
        name=name,
        context=_context(settings, ledger, blobs, encoder, store, decode_watch, renewals, stopping),
        decode_watch=decode_watch,
        probe=Probe(encoder),
        publish=publish,
        alone="" if settings.qdrant_url else name,
        stopping=stopping,
        renewals=renewals,
    )


def _claim(ledger: Ledger, name: str, encoder: Encoder) -> None:
    """Of encoders that open an empty collection at once, all but the first are refused."""
    other = ledger.claim_encoder(name, encoder.info)
    if other is not None:
        raise in_use(ledger.collection, other, encoder.info)


def _context(
    settings: Settings,
    ledger: Ledger,
    blobs: Blobs,
    encoder: Encoder,
    store: Store,
    decode_watch: DecodeWatch,
    renewals: Renewals,
    stopping: threading.Event,
) -> Context:
    fields = Fields(store, settings.indexed_fields, settings.lesion_field)
    deletions = Deletions(store, blobs, ledger.tombstones, fields)
    targets = QueryTargets(encoder, store, blobs, settings.max_pixels, decode_watch)
    opening = Opening(blobs, AllowedSources.of(settings.sources))
    ingest = Ingest(
        encoder=encoder,
        store=store,
        blobs=blobs,
        jobs=ledger.jobs,
        deletions=deletions,
        pool=ThreadPoolExecutor(os.cpu_count(), "decode"),
        limits=Limits(settings.max_pixels, settings.preview_pixels, settings.keep_names),
        stopping=stopping.is_set,
        decode_watch=decode_watch,
    )
    return Context(
        encoder=encoder,
        store=store,
        blobs=blobs,
        ledger=ledger,
        fields=fields,
        search=Search(store, targets, fields),
        ingest=ingest,
        deletions=deletions,
        sources=SourceCache(opening),
        sweep=Sweep(blobs, deletions, settings.search_ttl + settings.result_ttl),
        keep_names=settings.keep_names,
        stopping=stopping.is_set,
        renewing=lambda lease: renewals.during(lambda: ledger.jobs.renew(lease)),
    )
