"""What many tests of the ledger do: jobs to their plan, and items into a worker's hands."""

from collections.abc import Iterator

from pipeline.ledger import Ledger, WorkerInfo, WorkItem
from pipeline.messages import EncoderInfo

INGEST = ("ingest", "kindred.ingest", '{"dataset": "any"}')  # operation, queue, request
US, OTHER = "worker-a", "worker-b"


def planned(ledger: Ledger, job: str, total: int, shard_size: int) -> None:
    """A job whose plan is done and whose shards are all still to be dispatched."""
    ledger.jobs.create(job, *INGEST)
    [plan] = ledger.jobs.dispatch()
    assert ledger.jobs.begin(plan, US)
    ledger.jobs.planned(plan, total, shard_size)


def begin_all(ledger: Ledger, owner: str) -> list[WorkItem]:
    begun = [ledger.jobs.begin(lease, owner) for lease in ledger.jobs.dispatch()]
    return [item for item in begun if item is not None]


def work(ledger: Ledger) -> Iterator[WorkItem]:
    while leases := ledger.jobs.dispatch():
        for lease in leases:
            item = ledger.jobs.begin(lease, US)
            assert item is not None
            yield item


def worker(name: str, lanes: int, queue: str = INGEST[1]) -> WorkerInfo:
    encoder = EncoderInfo(
        model="m",
        revision=None,
        weights_sha256="0",
        pooling="mean",
        preprocessing="p",
        dimensions=2,
    )
    return WorkerInfo(
        name=name,
        ready=True,
        lanes={queue: lanes},
        device="cpu",
        dtype="float32",
        encoder=encoder,
    )
