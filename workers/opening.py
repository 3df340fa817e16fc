"""Opens a worker: the model, the store that it fills, and everything that uses them."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from pipeline.base.allowed_models import AllowedModels
from pipeline.base.blobs import Blobs
from pipeline.base.errors import (
    BlobsUnavailable,
    ConfigurationError,
    EncoderMismatch,
    StoreUnavailable,
)
from pipeline.base.settings import Settings
from pipeline.dicom.describing import Policy
from pipeline.dicom.frames import parse
from pipeline.dicom.originals import Sealing
from pipeline.dicom.pseudonyms import Pseudonyms
from pipeline.encoding.device import cores
from pipeline.encoding.encoder import Encoder
from pipeline.encoding.others import OtherEncoders
from pipeline.evaluation.closeness import Calibrations
from pipeline.images.decoders import Decoders, ImageDecoders
from pipeline.images.text_detector import detector
from pipeline.ledger import Lease, Ledger, Ledgers
from pipeline.lifecycle.audit_jobs import AuditJobs
from pipeline.lifecycle.deletion import Deletions
from pipeline.lifecycle.drift import DriftWatch
from pipeline.lifecycle.ingest import Ingest, Limits
from pipeline.lifecycle.quarantine import Quarantine
from pipeline.lifecycle.sweep import Sweep
from pipeline.lifecycle.withholding import Withholding
from pipeline.operations.context import Context
from pipeline.retrieval.fields import Fields
from pipeline.retrieval.search import Search
from pipeline.retrieval.targets import QueryTargets
from pipeline.sources.allowed import AllowedSources
from pipeline.sources.archives import Archives
from pipeline.sources.base import Opening
from pipeline.sources.registry import SourceCache
from pipeline.store import Store, open_store
from pipeline.store.common import in_use
from workers.health import Probe
from workers.memory import keep_freed_memory
from workers.names import name_worker
from workers.runtime import Runtime
from workers.services import Services


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
    ledger = ledgers.of(settings.collection)
    with _told(ledger, "blobs"):
        blobs.probe()  # before the model, which takes a while
    # They import torch beside the model that is loaded meanwhile.
    decoders = Decoders(
        _decoders(settings), settings.max_pixels, settings.decode_seconds, wait=False
    )
    try:
        return _opened(settings, publish, ledger, blobs, decoders)
    except BaseException:
        decoders.close()
        raise


def _decoders(settings: Settings) -> int:
    """By default a core is left for the worker itself, which feeds the model."""
    if settings.decoders == "auto":
        return max(1, cores(settings.processes) - 1)
    return settings.decoders


def _on_card(settings: Settings, encoder: Encoder, cpu: Decoders) -> ImageDecoders:
    """The decoders of jobs: where the settings say so, those on the card, before those on the CPU.

    Raises ConfigurationError where there is no card, or no decoder for it.
    """
    if settings.decode == "cpu":
        return cpu
    if encoder.device.type != "cuda":
        raise ConfigurationError(("KINDRED_DECODE=card needs a GPU: set it to cpu",))
    from pipeline.images.card.codecs import NvImageCodec
    from pipeline.images.card.decoders import CardDecoders

    device = encoder.device
    return CardDecoders(cpu, lambda: NvImageCodec(device), settings.max_pixels)


def _opened(
    settings: Settings,
    publish: Callable[[Lease], None],
    ledger: Ledger,
    blobs: Blobs,
    decoders: Decoders,
) -> Runtime:
    encoder = Encoder.load(settings.encoder)
    encoder.warm_up()
    decoders.wait_for_one()
    bulk = _on_card(settings, encoder, decoders)
    stopping = threading.Event()
    # Of the cards, the process sees one alone: what torch calls cuda:0 can be another.
    device = settings.device if ":" in settings.device else str(encoder.device)
    name = name_worker(device)
    ledger.register()
    with _told(ledger, "store"):
        encoder, store = _open_store(settings, ledger, name, encoder)
    return Runtime(
        name=name,
        context=_context(settings, ledger, blobs, encoder, store, decoders, bulk, stopping),
        decoders=bulk,
        probe=Probe(encoder),
        publish=publish,
        alone="" if settings.qdrant_url else name,
        stopping=stopping,
        device=device,
        processes=settings.processes,
        services=Services.of(store, blobs),
    )


@contextmanager
def _told(ledger: Ledger, service: str) -> Iterator[None]:
    """A worker that ends here has no heartbeat to say why."""
    try:
        yield
    except (StoreUnavailable, BlobsUnavailable) as error:
        ledger.workers.cannot_start(service, str(error))
        raise
    ledger.workers.can_start(service)


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


def _policy(settings: Settings, keys: Callable[[], Pseudonyms]) -> Policy:
    frames = parse(settings.dicom_frames)
    trusted = frozenset(settings.dicom_trusted)
    return Policy(keys(), settings.dicom_dates, settings.keep_dicom, frames=frames, trusted=trusted)


def _context(
    settings: Settings,
    ledger: Ledger,
    blobs: Blobs,
    encoder: Encoder,
    store: Store,
    decoders: Decoders,
    bulk: ImageDecoders,
    stopping: threading.Event,
) -> Context:
    keys = partial(ledger.pseudonyms.get, settings.pseudonym_key)
    keys()  # so that they are drawn at the first start
    fields = Fields(store, settings.indexed_fields, settings.lesion_field, keys)
    quarantine = Quarantine(blobs, ledger.withheld)
    deletions = Deletions(store, blobs, ledger.tombstones, fields, quarantine, keys)
    targets = QueryTargets(encoder, store, blobs, decoders)
    policy = partial(_policy, settings, keys)
    archives = Archives(settings.dicomweb_auth or {}, settings.dicomweb_ca)
    allowed = AllowedSources.of(settings.sources)
    opening = Opening(blobs, allowed, policy=policy, archives=archives)
    ingest = Ingest(
        encoder=encoder,
        store=store,
        blobs=blobs,
        jobs=ledger.jobs,
        deletions=deletions,
        decoders=bulk,
        withholding=Withholding(
            quarantine, detector(cores(settings.processes)), settings.dicom_ocr
        ),
        limits=Limits(settings.preview_pixels, settings.keep_names),
        stopping=stopping.is_set,
        sealing=Sealing(keys()) if settings.viewer_url else None,
    )
    sweep = Sweep(
        blobs,
        deletions,
        ledger,
        forgotten=settings.search_ttl + settings.result_ttl,
        job_seconds=settings.job_days * 86_400,
    )
    return Context(
        encoder=encoder,
        others=OtherEncoders(settings.encoder, AllowedModels.of(settings.models, settings.model)),
        store=store,
        blobs=blobs,
        ledger=ledger,
        fields=fields,
        search=Search(store, targets, fields),
        calibrations=Calibrations(blobs, store.encoder, store.count),
        ingest=ingest,
        deletions=deletions,
        sources=SourceCache(opening),
        sweep=sweep,
        audit_jobs=AuditJobs(store, fields, sweep.label_audits, ledger.jobs, stopping.is_set),
        drift=DriftWatch(store, blobs, settings.drift_fields, settings.lesion_field),
        keep_names=settings.keep_names,
        stopping=stopping.is_set,
    )
