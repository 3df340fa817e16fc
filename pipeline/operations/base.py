"""An operation is something that a user can request, declared once.

Everything else follows from the declaration: the name of its Celery task and that task's queue, how
a worker finds the code to run, and its schemas in OpenAPI.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pydantic import BaseModel

from pipeline.messages import Message
from pipeline.messages.base import read

if TYPE_CHECKING:
    from pipeline.ledger import WorkItem
    from pipeline.operations.context import Context

# `query`: answered within seconds by any free search thread, in a blob.
# `job`: planned, cut into shards, resumable, cancellable, with totals and progress.
Lifetime = Literal["query", "job"]

# Queries have their own threads, so they never wait behind bulk work. Deletions have their own
# thread, so they wait for neither.
Queue = Literal["search", "ingest", "deletion"]
QUEUES: tuple[Queue, ...] = ("search", "deletion", "ingest")
# Their work items are leased, each to one worker: every worker has queues of its own for them.
LEASED_QUEUES: tuple[Queue, ...] = ("deletion", "ingest")

Body = TypeVar("Body", bound=Message)


class Envelope(Message, Generic[Body]):
    """A query as a blob stores it. `base` is the path of the collection it was sent to."""

    base: str
    body: Body


@dataclass(frozen=True)
class Call:
    """One running query: its id, and the path of its collection, such as /v1."""

    id: str
    base: str


@dataclass(frozen=True)
class Plan:
    """How a job is divided: `total` rows in shards of `shard_size`.

    `version` is that of the source whose rows were counted; it changes when the source changes.
    `skipped` has how many of its files are no rows, by kind.
    """

    total: int
    shard_size: int
    version: str = ""
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class JobRun:
    """How a job runs on a worker. Both functions raise KindredError.

    `plan` counts the rows; it returns None if it has ended the job itself. `work` runs a shard to
    its end and finishes it; it returns False if it was stopped before, with its progress recorded.
    """

    plan: "Callable[[Context, WorkItem], Plan | None]"
    work: "Callable[[Context, WorkItem], bool]"


@dataclass(frozen=True)
class Operation:
    """`run` is `(context, request, call) -> answer` for a query, and a JobRun for a job.

    `pictures`: some may come with its request; they go when it is answered.
    """

    name: str
    request: type[Message]
    answer: type[BaseModel]
    queue: Queue
    lifetime: Lifetime
    run: "Callable[[Context, Any, Call], BaseModel] | JobRun"
    pictures: bool = False

    @property
    def task(self) -> str:
        """The name of its Celery task, on the queue and in Flower."""
        return f"kindred.{self.name}"

    def envelope(self, base: str, body: Message) -> bytes:
        """The JSON of a query."""
        found: Envelope[Message] = self._envelope(base=base, body=body)
        return found.model_dump_json(exclude_none=True).encode()

    def answer_to(self, context: "Context", identifier: str, envelope: bytes) -> bytes:
        """Answers a query, from JSON to JSON. Ignores fields that a newer version added."""
        found = read(self._envelope, envelope)
        assert callable(self.run)  # noqa: S101 - its lifetime is query
        answer = self.run(context, found.body, Call(identifier, found.base))
        return answer.model_dump_json().encode()

    @property
    def _envelope(self) -> Any:
        return Envelope[self.request]  # type: ignore[name-defined]

    @property
    def job(self) -> JobRun:
        assert isinstance(self.run, JobRun)  # noqa: S101 - its lifetime is job
        return self.run


def query(
    name: str,
    request: type[Message],
    answer: type[BaseModel],
    run: "Callable[[Context, Any, Call], BaseModel]",
    *,
    pictures: bool = False,
) -> Operation:
    """An operation that any free search thread answers."""
    return Operation(name, request, answer, "search", "query", run, pictures)


def queue_name(collection: str, queue: str) -> str:
    """The Celery queue of a collection. Only this collection's workers consume it."""
    return f"kindred.{collection}.{queue}"


def worker_queue(collection: str, queue: str, worker: str) -> str:
    """The Celery queue of the work items that are leased to one worker."""
    return f"{queue_name(collection, queue)}.{worker}"
