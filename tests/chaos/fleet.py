"""Several workers on one Redis and one Qdrant: a rig of them, and what befalls fleets.

With KINDRED_TEST_QDRANT_URL it is that server, else a stand-in (`tests/chaos/qdrant.py`).
"""

import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, Self
from uuid import UUID

from cli.processes import Child, module_command
from pipeline.base.identity import point_id
from tests import real_qdrant
from tests.chaos import checks, clock
from tests.chaos.faults import (
    DeliverTwice,
    Fault,
    FreezeRedis,
    KillApi,
    KillDecoders,
    KillWorker,
    RestartRedis,
    StopWorker,
    StoreFails,
)
from tests.chaos.qdrant import SharedClient, Unreliable
from tests.chaos.rig import Rig
from tests.chaos.worker import STORE_AWAY, break_inside
from tests.redis_nodes import Watched
from tests.system import end, until

SERVER, SERVER_GRPC = real_qdrant.URL, real_qdrant.GRPC_PORT

SOCKET = "CHAOS_QDRANT"
BLOBS_SLOW, BLOBS_FAIL = "blobs-slow", "blobs-fail"
SLOW_SECONDS = 0.25

HOUR = 3600.0


class Fleet(Rig):
    """`size` workers. Their collection is theirs alone, and goes with them.

    With `watched`, their Redis is that which the Sentinels name.
    """

    def __init__(
        self,
        folder: Path,
        encoder: Path,
        size: int,
        watched: Watched | None = None,
        **settings: str,
    ) -> None:
        self.collection = f"fleet-{os.getpid()}"
        self._socket = folder / "qdrant.sock"
        self.watched = watched
        if watched is not None:
            settings["REDIS_URL"] = watched.url
        store = {"QDRANT_URL": SERVER or "http://127.0.0.1:9", "COLLECTION": self.collection}
        store["RESULT_TTL"] = str(100 * HOUR)  # jumps ahead add up
        if SERVER and SERVER_GRPC:
            store["QDRANT_GRPC_PORT"] = SERVER_GRPC
        super().__init__(folder, encoder, size, break_fleet, **{**store, **settings})
        if watched is not None:
            master = watched.master
            self.system.client = lambda: watched.client(master())  # type: ignore[method-assign]
        if not SERVER:
            self.system.environment[SOCKET] = str(self._socket)
        command = module_command("tests.chaos.api", "--port", str(self.system.port))
        self.system.api = self.system.child("api", command)
        command = module_command("tests.chaos.qdrant", str(self._socket))
        self.qdrant = Child(self.system.child("qdrant", command).program)

    def __enter__(self) -> Self:
        if not SERVER:
            self.qdrant.start()
            until(self._socket.exists, "the stand-in of Qdrant")
        return super().__enter__()

    def __exit__(self, *arguments: object) -> None:
        super().__exit__(*arguments)
        client = self.client()
        for alias in client.get_aliases().aliases:
            if alias.alias_name == self.collection:
                client.delete_collection(alias.collection_name)
        if not SERVER:
            end(self.qdrant)

    def client(self) -> Any:
        if not SERVER:
            return SharedClient(self._socket)
        return real_qdrant.client()

    def store_is_right(self, expected: set[str]) -> list[str]:
        """Read with a client alone: each image once, and no other."""
        client, cursor = self.client(), None
        found: list[tuple[UUID, str]] = []
        while True:
            records, cursor = client.scroll(self.collection, limit=1000, offset=cursor)
            found += [(UUID(str(each.id)), each.payload["image_id"]) for each in records]
            if cursor is None:
                break
        return checks.points_are_right(self, found, {point_id(image_id) for image_id in expected})


def break_fleet(environment: Mapping[str, str]) -> None:
    """In a worker that is about to run."""
    clock.shift_clock()
    break_inside(environment)
    switches = Path(environment["CHAOS_SWITCHES"])
    _break_blobs(switches)
    import pipeline.store.server as server

    real_qdrant.take_older(environment)
    socket, connect = environment.get(SOCKET), server.connect

    def connected(*arguments: Any) -> Any:
        client = SharedClient(Path(socket)) if socket else connect(*arguments)
        return Unreliable(client, switches / STORE_AWAY)

    server.connect = connected


def _break_blobs(switches: Path) -> None:
    from pipeline.base.blobs import Blobs
    from pipeline.base.errors import BlobsUnavailable

    write = Blobs.write

    def hindered(self: Blobs, name: str, data: bytes) -> None:
        if (switches / BLOBS_FAIL).exists():
            raise BlobsUnavailable("simulated")
        if (switches / BLOBS_SLOW).exists():
            time.sleep(SLOW_SECONDS)
        write(self, name, data)

    Blobs.write = hindered  # type: ignore[method-assign]


class _Switch(Fault):
    switch = ""

    def begin(self, rig: Rig, random: Random) -> None:
        (rig.switches / self.switch).touch()

    def end(self, rig: Rig) -> None:
        (rig.switches / self.switch).unlink()


class SlowBlobs(_Switch):
    """blobs: every write takes 0.25 s"""

    switch = BLOBS_SLOW


class FailingBlobs(_Switch):
    """blobs: every write fails"""

    switch = BLOBS_FAIL


class FailOver(Fault):
    """Redis: the master is killed, a replica takes over"""

    def begin(self, rig: Rig, random: Random) -> None:
        _watched(rig).kill_master()

    def end(self, rig: Rig) -> None:
        _watched(rig).start_again()


def _watched(rig: Rig) -> Watched:
    assert isinstance(rig, Fleet)
    assert rig.watched is not None
    return rig.watched


class JumpForward(Fault):
    """Redis: its clock jumps an hour ahead"""

    seconds_ahead = HOUR

    def begin(self, rig: Rig, random: Random) -> None:
        redis = rig.system.client()
        clock.jump(redis, self.seconds_ahead)
        redis.close()


class JumpBack(JumpForward):
    """Redis: its clock jumps an hour back"""

    seconds_ahead = -HOUR


def spread(rig: Fleet) -> Counter[str]:
    """How many shards each process has finished, by its log."""
    return Counter(
        {
            worker.program.log.stem: worker.program.log.read_text().count(" shard finished ")
            for worker in rig.workers
        }
    )


FLEET: tuple[Fault, ...] = (
    KillWorker(weight=60),
    KillDecoders(weight=25),
    StopWorker(weight=8),
    KillApi(weight=5),
    RestartRedis(weight=10, seconds=(0, 3)),
    FreezeRedis(weight=2, seconds=(20, 20)),
    StoreFails(weight=4, seconds=(1, 8)),
    DeliverTwice(weight=8),
    SlowBlobs(weight=5, seconds=(3, 10)),
    FailingBlobs(weight=4, seconds=(1, 8)),
    JumpForward(weight=4),
    JumpBack(weight=4),
)

# A restart that lasts, or a freeze, is a failover to Sentinels.
WATCHED_FLEET: tuple[Fault, ...] = (
    FailOver(weight=10),
    *(fault for fault in FLEET if not isinstance(fault, RestartRedis | FreezeRedis)),
)
