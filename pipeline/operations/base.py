"""What an operation is: something that a user can ask for, declared once.

Everything else follows from the declaration: the name of its Celery task and the queue of it, how a
worker finds what to run, whether it is renewed while it runs, and its schemas in OpenAPI.
"""

from collections.abc import Callable
from dataclasses import dataclass
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

# Queries have threads of their own, so that they never wait behind bulk work. Deletions have one
# thread, so that they wait for neither.
Queue = Literal["search", "ingest", "deletion"]
QUEUES: tuple[Queue, ...] = ("search", "deletion", "ingest")  # in the order they are served

Body = TypeVar("Body", bound=Message)


class Envelope(Message, Generic[Body]):
    """A query as it lies in a blob. `base` is the path of the collection it was sent to."""

    base: str
    body: Body


@dataclass(frozen=True)
class Call:
    """One query under way: its id, and the path of its collection, as in /v1."""

    id: str
    base: str


@dataclass(frozen=True)
class Plan:
    """What a job counted: `total` rows in shards of `shard_size`.

    `version` tells the source that was counted from what it may become.
    """

    total: int
    shard_size: int
    version: str = ""


@dataclass(frozen=True)
class JobRun:
    """How a job runs on a worker. Both raise KindredError.

    `plan` counts; None where it has ended the job itself. `work` runs a shard to its end and
    finishes it; False where it was stopped before, with all so far recorded.
    """

    plan: "Callable[[Context, WorkItem], Plan | None]"
    work: "Callable[[Context, WorkItem], bool]"


@dataclass(frozen=True)
class Operation:
    """`run` is `(context, request, call) -> answer` for a query, and a JobRun for a job."""

    name: str
    request: type[Message]
    answer: type[BaseModel]
    queue: Queue
    lifetime: Lifetime
    run: "Callable[[Context, Any, Call], BaseModel] | JobRun"

    @property
    def task(self) -> str:
        """Its name on the queue and in Flower."""
        return f"kindred.{self.name}"

    def envelope(self, base: str, body: Message) -> bytes:
        """The JSON of a query."""
        found: Envelope[Message] = self._envelope(base=base, body=body)
        return found.model_dump_json(exclude_none=True).encode()

    def answer_to(self, context: "Context", identifier: str, envelope: bytes) -> bytes:
        """From a query's JSON to its answer's. Fields of newer versions are ignored."""
        found = read(self._envelope, envelope)
        assert callable(self.run)  # noqa: S101 - lifetime says so
        answer = self.run(context, found.body, Call(identifier, found.base))
        return answer.model_dump_json().encode()

    @property
    def _envelope(self) -> Any:
        return Envelope[self.request]  # type: ignore[name-defined]

    @property
    def job(self) -> JobRun:
        assert isinstance(self.run, JobRun)  # noqa: S101 - lifetime says so
        return self.run


def query(
    name: str,
    request: type[Message],
    answer: type[BaseModel],
    run: "Callable[[Context, Any, Call], BaseModel]",
) -> Operation:
    """An operation that any free search thread answers."""
    return Operation(name, request, answer, "search", "query", run)


def queue_name(collection: str, queue: str) -> str:
    """The Celery queue of a collection: its workers consume no other's."""
    return f"kindred.{collection}.{queue}"
