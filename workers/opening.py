"""Opens a worker: the model, the store that it fills, and everything that uses them."""

import shutil
import threading
from collections.abc import Callable
from functools import partial

from pipeline.base.blobs import Blobs
from pipeline.base.errors import EncoderMismatch
from pipeline.base.settings import Settings
from pipeline.encoding.device import cores
from pipeline.encoding.encoder import Encoder
from pipeline.images.decoders import Decoders
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
from workers.names import name_worker
from workers.runtime import Runtime


def open_runtime(settings: Settings, publish: Callable[[Lease], None]) -> Runtime:
    """Starts the decoders, loads and warms up the model, opens the collection that it fills.

    Raises ConfigurationError, EncoderError, EncoderMismatch, StoreLocked, SchemaMismatch,
    StoreUnavailable, LedgerUnavailable, BlobsUnavailable, BlobsMisconfigured or
    DecodersUnavailable.
    """
    keep_freed_memory()
    ledgers = Ledgers(settings.redis_url, settings.timing, patience=settings.lease_seconds / 2)
    ledgers.check_schema()
    ledgers.check_eviction()
    blobs = Blobs(settings.blobs_of(settings.collection))
    # Earlier versions prepared copies of data sets there, and patients are in them.
    shutil.rmtree(settings.data / "datasets", ignore_errors=True)
    blobs.probe()  # before the model, which takes a while
    decoders = Decoders(_decoders(settings), settings.max_pixels, settings.decode_seconds)
    try:
        return _opened(settings, publish, ledgers.of(settings.collection), blobs, decoders)
    except BaseException:
        decoders.close()
        raise


def _decoders(settings: Settings) -> int:
    """By default a core is left for the worker itself, which feeds the model."""
    if settings.decoders == "auto":
        return max(1, cores(settings.processes) - 1)
    return settings.decoders


def _opened(
    settings: Settings,
    publish: Callable[[Lease], None],
    ledger: Ledger,
    blobs: Blobs,
    decoders: Decoders,
) -> Runtime:
    encoder = Encoder.load(settings.encoder)
    encoder.warm_up()
    stopping = threading.Event()
    # Of the cards, the process sees one alone: what torch calls cuda:0 can be another.
    device = settings.device if ":" in settings.device else str(encoder.device)
    name = name_worker(device)
    ledger.register()
    encoder, store = _open_store(settings, ledger, name, encoder)
    return Runtime(
        name=name,
        context=_context(settings, ledger, blobs, encoder, store, decoders, stopping),
        decoders=decoders,
        probe=Probe(encoder),
        publish=publish,
        alone="" if settings.qdrant_url else name,
        stopping=stopping,
        device=device,
        processes=settings.processes,
    )


def _open_store(
    settings: Settings, ledger: Ledger, name: str, encoder: Encoder
) -> tuple[Encoder, Store]:
    """A collection that was filled with pixels of an earlier version's making keeps to them."""
    refusals = []
    for way in encoder.ways():
        try:
            return way, open_store(settings.store, way.info, partial(_claim, ledger, name, way))
        except EncoderMismatch as refusal:
            refusals.append(refusal)
            ledger.workers.leave(name)  # its claim must not outlive it
        except BaseException:
            ledger.workers.leave(name)
            raise
    raise refusals[0]


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
    decoders: Decoders,
    stopping: threading.Event,
) -> Context:
    fields = Fields(store, settings.indexed_fields, settings.lesion_field)
    deletions = Deletions(store, blobs, ledger.tombstones, fields)
    targets = QueryTargets(encoder, store, blobs, decoders)
    opening = Opening(blobs, AllowedSources.of(settings.sources))
    ingest = Ingest(
        encoder=encoder,
        store=store,
        blobs=blobs,
        jobs=ledger.jobs,
        deletions=deletions,
        decoders=decoders,
        limits=Limits(settings.preview_pixels, settings.keep_names),
        stopping=stopping.is_set,
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
        sweep=Sweep(
            blobs,
            deletions,
            ledger,
            forgotten=settings.search_ttl + settings.result_ttl,
            job_seconds=settings.job_days * 86_400,
        ),
        keep_names=settings.keep_names,
        stopping=stopping.is_set,
    )
