"""Measures the ledger's cost of an image at any job size: checkpoints, and the memory of Redis.

    python -m benchmarks.scale_ledger IMAGES FOLDER      one JSON document
    python -m benchmarks.scale_ledger fleet FOLDER       what one call costs Redis, in a large fleet

It starts its own Redis, and makes the calls of a worker for a job of that many rows: two lanes,
shards of 64, batches of 8, as on a CPU. One row of a thousand is rejected, and each such row is
written into the blobs.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli.redis_server import RedisServer, find_redis_server
from pipeline.base.blobs import Blobs
from pipeline.ledger import Lease, Ledger, Ledgers, Progress, Timing, WorkerInfo
from pipeline.lifecycle.rejections import RejectedRows
from pipeline.messages import EncoderInfo, Rejection

SHARD, BATCH, LANES = 64, 8, 2
WORKERS, THEIR_LANES, JOBS = 200, 8, 1000  # of the fleet
REJECTED_EACH = 1000
WORKER = WorkerInfo(
    name="worker",
    ready=True,
    lanes={"ingest": LANES},
    device="cpu",
    dtype="float32",
    encoder=EncoderInfo(
        model="made", revision=None, weights_sha256="", pooling="", preprocessing="", dimensions=1
    ),
)
DEADLINE = 30.0  # seconds until Redis answers
MIB = 2**20


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Yields its URL. The socket has a separate path, because the path must be short."""
    (folder / "redis").mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="kindred-") as private:
        server = RedisServer(find_redis_server(), folder / "redis", Path(private) / "redis.sock")
        with subprocess.Popen(server.command, stdout=subprocess.DEVNULL) as process:
            try:
                end = time.monotonic() + DEADLINE
                while not server.answers() and time.monotonic() < end:
                    time.sleep(0.05)
                yield server.url
            finally:
                process.terminate()


def work(ledger: Ledger, blobs: Blobs, images: int) -> float:
    """Returns the seconds of all calls for one job."""
    begun = time.perf_counter()
    ledger.workers.beat(WORKER)
    ledger.jobs.create("job", "ingest", "ingest", '{"source": {"dataset": "made"}}')
    (plan,) = ledger.jobs.dispatch()
    ledger.jobs.begin(plan, "worker")
    ledger.jobs.planned(plan, images, SHARD)
    leases = ledger.jobs.dispatch()
    while leases:
        _shard(ledger, blobs, leases.pop(0))
        leases += ledger.jobs.dispatch()
    return time.perf_counter() - begun


def _shard(ledger: Ledger, blobs: Blobs, lease: Lease) -> None:
    item = ledger.jobs.begin(lease, "worker")
    assert item is not None
    count, rejected = 0, RejectedRows(blobs, lease)
    for cursor in range(item.start, item.stop, BATCH):
        stop = min(item.stop, cursor + BATCH)
        bad = [row for row in range(cursor, stop) if row % REJECTED_EACH == REJECTED_EACH - 1]
        count += len(bad)
        counts = {"embedded": stop - item.start - count, "rejected": count}
        progress = Progress(stop, min(item.stop, stop + 2 * BATCH), counts)
        rejections = [
            Rejection(image_id=f"ISIC_{row:07}", row=row, reason="This is no image.") for row in bad
        ]
        assert ledger.jobs.checkpoint(lease, progress, rejected.write(rejections))
    ledger.jobs.finish(lease)


def measure(images: int, folder: Path) -> dict[str, Any]:
    with redis(folder) as url:
        ledgers = Ledgers(url, Timing(heartbeat=DEADLINE * 100))
        ledger = ledgers.of("kindred")
        before = _state(ledger)
        cpu = time.process_time()
        seconds = work(ledger, Blobs(str(folder / "blobs")), images)
        cpu = time.process_time() - cpu
        after = _state(ledger)
        job = ledger.jobs.get("job")
        assert job.final, job.state
        assert job.done == images, job.done
        ledgers.close()
    return {
        "ms_an_image": 1000 * seconds / images,
        "cpu_ms_an_image": 1000 * (cpu + after["cpu"] - before["cpu"]) / images,
        "redis_mib": after["memory"],
        "redis_mib_more": after["memory"] - before["memory"],
        "keys": after["keys"],
        "append_only_file_mib": after["file"],
        "rejected": job.counts.get("rejected", 0),
    }


def _state(ledger: Ledger) -> dict[str, float]:
    redis = ledger.jobs._script.redis
    info = redis.info()
    return {
        "memory": info["used_memory"] / MIB,
        "file": info.get("aof_current_size", 0) / MIB,
        "keys": redis.dbsize(),
        "cpu": info["used_cpu_sys"] + info["used_cpu_user"],
    }


def fleet(folder: Path) -> dict[str, dict[str, float]]:
    """Milliseconds that Redis is busy in one call: median, percentile 95 and most, by command."""
    with redis(folder) as url:
        ledgers = Ledgers(url, Timing(heartbeat=DEADLINE * 100))
        ledger = ledgers.of("kindred")
        for number in range(WORKERS):
            named = {"name": f"worker-{number}", "lanes": {"ingest": THEIR_LANES}}
            ledger.workers.beat(WORKER.model_copy(update=named))
        found = _calls_of_a_fleet(ledger)
        ledgers.close()
    return {name: _spread(times) for name, times in found.items()}


def _calls_of_a_fleet(ledger: Ledger) -> dict[str, list[float]]:
    client, jobs = ledger.jobs._script.redis, ledger.jobs
    found: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        client.config_resetstat()
        reply = call()
        spent = client.info("commandstats")["cmdstat_evalsha"]
        found.setdefault(name, []).append(spent["usec"] / 1000)
        return reply

    def dispatch_all() -> Iterator[Lease]:
        while some := timed("dispatch, to an idle fleet", jobs._dispatch_some):
            yield from some

    for number in range(JOBS):
        timed("create", lambda job=f"job-{number}": jobs.create(job, "ingest", "ingest", "{}"))
    for plan in [*dispatch_all()]:
        timed("begin", lambda plan=plan: jobs.begin(plan, plan.worker))
        timed("planned", lambda plan=plan: jobs.planned(plan, 100_000, SHARD))
    for lease in [*dispatch_all()][:300]:
        jobs.begin(lease, lease.worker)
        done = Progress(BATCH, 2 * BATCH, {"embedded": BATCH})
        timed("checkpoint", lambda lease=lease, done=done: jobs.checkpoint(lease, done))
        timed("finish", lambda lease=lease: jobs.finish(lease))
        timed("dispatch, to one free lane", jobs.dispatch)
        timed("dispatch, no lane is free", jobs.dispatch)
    return found


def _spread(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "median": statistics.median(ordered),
        "p95": ordered[int(0.95 * (len(ordered) - 1))],
        "most": ordered[-1],
    }


def main() -> int:
    what, folder = sys.argv[1], Path(sys.argv[2])
    print(json.dumps(fleet(folder) if what == "fleet" else measure(int(what), folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
