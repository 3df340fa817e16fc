"""What supervisors and operators ask. No key is needed, and no patient's data is in it."""

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from api.services import Services, ServicesDep
from pipeline.base.errors import Unavailable
from pipeline.base.settings import INGEST_QUEUE, SEARCH_QUEUE

router = APIRouter(tags=["health"])


@router.get("/healthz")
def alive() -> dict[str, str]:
    """This process answers."""
    return {"status": "alive"}


@router.get("/readyz")
def ready(services: ServicesDep) -> dict[str, str | int]:
    """A search would be answered: Redis is there, and a worker that embeds its test image."""
    services.ledger.ping()
    workers = [worker for worker in services.ledger.workers.alive() if worker.ready]
    if not workers:
        raise Unavailable(
            "No worker is ready. One that has just started loads its model first; one whose "
            "encoder fails says so in its log."
        )
    return {"status": "ready", "workers": len(workers)}


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(services: ServicesDep) -> Response:
    """Prometheus text format."""
    return Response(generate_latest(_registry(services)), media_type="text/plain; version=0.0.4")


def _registry(services: Services) -> CollectorRegistry:
    registry = CollectorRegistry()
    waiting = Gauge("kindred_queue_messages", "Messages waiting", ["queue"], registry=registry)
    for queue in (SEARCH_QUEUE, INGEST_QUEUE):
        waiting.labels(queue).set(services.ledger.queue_length(queue))
    workers = Gauge("kindred_workers", "Workers that are ready", registry=registry)
    workers.set(sum(worker.ready for worker in services.ledger.workers.alive()))
    jobs = Gauge("kindred_jobs", "Jobs among the newest 100", ["state"], registry=registry)
    images = Gauge(
        "kindred_images", "Images of the newest 100 jobs", ["outcome"], registry=registry
    )
    for job in services.ledger.jobs.recent(100):
        jobs.labels(job.state).inc()
        for outcome in ("embedded", "unchanged", "rejected"):
            images.labels(outcome).inc(getattr(job, outcome))
    return registry
