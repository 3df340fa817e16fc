"""Jobs with a report of their own, evaluations and comparisons: as their routes show them."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from fastapi import Request

from api.queries import preferred_wait
from api.services import Collection
from pipeline.base.errors import NotFound
from pipeline.ledger import JobRecord
from pipeline.operations.base import Operation


def newest(
    collection: Collection, wanted: Operation, identifiers: Iterable[str], limit: int
) -> list[JobRecord]:
    """Of these jobs those of one operation, the newest first."""
    found = [job for job in _known(collection, identifiers) if job.operation == wanted.name]
    return sorted(found, key=lambda job: job.created_at, reverse=True)[:limit]


def _known(collection: Collection, identifiers: Iterable[str]) -> Iterator[JobRecord]:
    for identifier in identifiers:
        try:
            yield collection.ledger.jobs.get(identifier)
        except NotFound:  # the sweep forgets it just now
            continue


async def awaited(
    collection: Collection, request: Request, wanted: Operation, identifier: str, kind: str
) -> JobRecord:
    """With `Prefer: wait=N`, once it has ended. Raises NotFound for a job of another operation."""
    get, wait = collection.ledger.jobs.get, preferred_wait(request)
    job = await collection.services.waiting.finished(get, identifier, wait)
    if job.operation != wanted.name:
        raise NotFound(f"There is no {kind} {identifier}.")
    return job


def progress(job: JobRecord) -> dict[str, Any]:
    """What each of their views says beside the report."""
    return {
        "id": job.id,
        "state": job.state,
        "final": job.final,
        "created_at": datetime.fromtimestamp(job.created_at, UTC),
        "total": job.total,
        "counts": job.counts,
        "error": job.error,
        "notice": job.notice,
    }
