"""Measures the ledger's cost of an image at any job size: checkpoints, and the memory of Redis.

    python -m benchmarks.scale_ledger IMAGES FOLDER      one JSON document

It starts its own Redis, and makes the calls of a worker for a job of that many rows: two lanes,
shards of 64, batches of 8, as on a CPU. One row of a thousand is rejected, and each such row is
written into the blobs.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli.redis_server import RedisServer, find_redis_server
from pipeline.base.blobs import Blobs
from pipeline.ledger import Lease, Ledger, Ledgers, Progress, Timing, WorkerInfo
from pipeline.lifecycle.rejections import RejectedRows
from pipeline.messages import EncoderInfo, Rejection

SHARD, BATCH, LANES = 64, 8, 2
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


def main() -> int:
    print(json.dumps(measure(int(sys.argv[1]), Path(sys.argv[2]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
