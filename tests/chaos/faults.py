"""What is done to the system. Each fault begins, lasts, and ends; the driver measures the rest."""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from celery import Celery

from pipeline.ledger import Lease
from pipeline.operations.base import QUEUES
from pipeline.operations.registry import operation
from tests.chaos.rig import Rig
from tests.chaos.worker import ENCODER_BROKEN, STORE_AWAY
from tests.system import kill, until
from workers.queue import make_app, publish_lease, publish_query

STOP_SECONDS = 90.0  # a worker that is asked to stop ends its batch first


@dataclass(frozen=True)
class Fault:
    """`seconds`: how long it lasts, drawn between the two. `weight`: how often it is chosen."""

    weight: int = 1
    seconds: tuple[float, float] = (0, 0)

    @property
    def name(self) -> str:
        return type(self).__doc__ or ""

    def possible(self, rig: Rig) -> bool:
        return True

    def begin(self, rig: Rig, random: Random) -> None:
        raise NotImplementedError

    def end(self, rig: Rig) -> None:
        """Nothing is left to be undone, as a rule: what fell is kept up."""


class KillWorker(Fault):
    """worker: SIGKILL"""

    def begin(self, rig: Rig, random: Random) -> None:
        kill(random.choice(rig.workers))


class KillDecoders(Fault):
    """decoders: SIGKILL, twenty times"""

    def begin(self, rig: Rig, random: Random) -> None:
        """One after the other, of any worker, each replaced by a new one meanwhile."""
        for _ in range(20):
            if decoders := decoders_of([worker.pid for worker in rig.workers]):
                with suppress(ProcessLookupError):
                    os.kill(random.choice(decoders), signal.SIGKILL)
                    rig.decoders_killed += 1
            rig.pass_time(0.1)


def decoders_of(workers: Sequence[int | None]) -> list[int]:
    """The processes of all decoders that these have started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            command = path.with_name("cmdline").read_bytes()
            if parent in workers and b".decoder" in command:
                found.append(int(path.parent.name))
    return found


class StopWorker(Fault):
    """worker: SIGTERM"""

    def begin(self, rig: Rig, random: Random) -> None:
        worker = random.choice(rig.workers)
        worker.send(signal.SIGTERM)
        until(lambda: not worker.running, "the end of a worker that was asked", STOP_SECONDS)


class KillApi(Fault):
    """api: SIGKILL"""

    def begin(self, rig: Rig, random: Random) -> None:
        kill(rig.system.api)


class RestartRedis(Fault):
    """Redis: restarted (SIGTERM or SIGKILL)"""

    def begin(self, rig: Rig, random: Random) -> None:
        redis = rig.system.redis_process
        redis.send(random.choice((signal.SIGTERM, signal.SIGKILL)))
        until(lambda: not redis.running, "the end of Redis")

    def end(self, rig: Rig) -> None:
        rig.system.start_redis()


class FreezeRedis(Fault):
    """Redis: frozen (SIGSTOP)"""

    def begin(self, rig: Rig, random: Random) -> None:
        rig.system.redis_process.send(signal.SIGSTOP)

    def end(self, rig: Rig) -> None:
        rig.system.redis_process.send(signal.SIGCONT)


class StoreFails(Fault):
    """store: every call fails"""

    def begin(self, rig: Rig, random: Random) -> None:
        (rig.switches / STORE_AWAY).touch()

    def end(self, rig: Rig) -> None:
        (rig.switches / STORE_AWAY).unlink()


class EncoderFails(Fault):
    """encoder: every vector is NaN"""

    def begin(self, rig: Rig, random: Random) -> None:
        (rig.switches / ENCODER_BROKEN).touch()

    def end(self, rig: Rig) -> None:
        (rig.switches / ENCODER_BROKEN).unlink()


class FullDisk(Fault):
    """data folder: disk full"""

    def possible(self, rig: Rig) -> bool:
        return os.path.ismount(rig.folder)

    def begin(self, rig: Rig, random: Random) -> None:
        fill(rig.folder / "filler")

    def end(self, rig: Rig) -> None:
        (rig.folder / "filler").unlink()


def fill(path: Path) -> None:
    """Takes all that is left of a file system, to the last page."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


class DeliverTwice(Fault):
    """messages: delivered twice"""

    def begin(self, rig: Rig, random: Random) -> None:
        """Whatever is out at this moment, again."""
        redis = rig.system.client()
        app = make_app(rig.system.environment["KINDRED_REDIS_URL"], current=False)
        sent, end = 0, time.monotonic() + 5
        while not sent and time.monotonic() < end:
            for queue in QUEUES:
                for member in redis.zrange(f"{rig.namespace}:leases:{queue}", 0, -1):
                    sent += self._lease_again(app, rig, redis, member)
            for request in redis.zrange(f"{rig.namespace}:requests", 0, -1):
                name = redis.hget(f"{rig.namespace}:request:{request}", "operation")
                if name:
                    publish_query(app, rig.collection, operation(name), request)
                    sent += 1
        app.close()
        redis.close()

    def _lease_again(self, app: Celery, rig: Rig, redis: Any, member: str) -> bool:
        job, _, item = member.rpartition(":")
        token, worker = redis.hmget(f"{rig.namespace}:item:{member}", "token", "worker")
        name = redis.hget(f"{rig.namespace}:job:{job}", "operation")
        if not token or not name:
            return False
        lease = Lease(job, int(item), token, worker=worker)
        publish_lease(app, rig.collection, operation(name), lease)
        return True


ALL: tuple[Fault, ...] = (
    KillWorker(weight=60),
    KillDecoders(weight=8),
    StopWorker(weight=8),
    KillApi(weight=5),
    RestartRedis(weight=10, seconds=(0, 3)),
    FreezeRedis(weight=2, seconds=(20, 20)),
    StoreFails(weight=4, seconds=(1, 8)),
    EncoderFails(weight=2, seconds=(1, 5)),
    FullDisk(weight=4, seconds=(1, 8)),
    DeliverTwice(weight=8),
)
