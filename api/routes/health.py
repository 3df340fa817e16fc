"""Health checks and metrics. They contain no patient's data; only metrics need a key."""

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from api.readiness import Readiness, readiness
from api.services import Services, ServicesDep
from pipeline import metrics
from pipeline.operations.base import LEASED_QUEUES, queue_name

router = APIRouter(tags=["health"])


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", name="is_alive")
def alive() -> dict[str, str]:
    """This process answers."""
    return {"status": "alive"}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", name="is_ready")
def ready(services: ServicesDep) -> Readiness:
    """Whether a search would be answered, and how Redis (`broker`), the vector store and the blobs
    are, each by itself.

    It would if Redis is available, and a worker of the default collection embeds its test picture
    correctly and reaches the store and the blobs. A store that only takes no writes, as on a full
    disk, still answers searches. A 503 has the same parts.
    """
    return readiness(services)


@router.get("/metrics", name="get_metrics", response_class=PlainTextResponse)
def exposed(services: ServicesDep) -> Response:
    """Prometheus text format: of this process, of all workers, and of each collection."""
    texts: list[tuple[dict[str, str], str]] = [({"process": "api"}, metrics.text())]
    registry = CollectorRegistry()
    for name in services.names():
        collection = services.ledgers.of(name)
        for worker, text in collection.workers.metrics():
            texts.append(({"process": worker, "collection": name}, text))
        for receiver, text in collection.receivers.alive():
            texts.append(({"process": receiver.name, "collection": name}, text))
    registry.register(metrics.Gathered(texts))
    _count_collections(services, registry)
    return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")


def _count_collections(services: Services, registry: CollectorRegistry) -> None:
    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, ["collection", *labels], registry=registry)

    waiting = gauge("kindred_queue_messages", "Queries that wait for a thread", "queue")
    leased = gauge("kindred_items_leased", "Work items that workers have", "queue")
    quarantined = gauge("kindred_items_quarantined", "Work items to be tried alone", "queue")
    lanes = gauge("kindred_lanes", "Work items that live workers take at once", "queue")
    workers = gauge("kindred_workers", "Workers that are ready")
    jobs = gauge("kindred_jobs", "Jobs among the newest 100", "operation", "state")
    withheld = gauge("kindred_quarantined_images", "Images that wait for an admin to look at them")
    images = gauge("kindred_images", "Images of the newest 100 jobs", "outcome")
    for name in services.names():
        ledger = services.ledgers.of(name)
        waiting.labels(name, "search").set(
            services.ledgers.queue_length(queue_name(name, "search"))
        )
        withheld.labels(name).set(ledger.withheld.count())
        alive = ledger.workers.alive()
        workers.labels(name).set(sum(worker.ready for worker in alive))
        for queue in LEASED_QUEUES:
            items = ledger.jobs.items_of(queue)
            leased.labels(name, queue).set(items.leased)
            quarantined.labels(name, queue).set(items.quarantined)
            lanes.labels(name, queue).set(sum(worker.lanes.get(queue, 0) for worker in alive))
        for job in ledger.jobs.recent(100):
            jobs.labels(name, job.operation, job.state).inc()
            for outcome, count in job.counts.items():
                images.labels(name, outcome).inc(count)
