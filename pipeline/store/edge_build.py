"""`python edge_build.py SHARD PARENT DIMENSIONS EXACT_BELOW`: gives a shard its index, and ends.

A process of its own, since the engine holds the interpreter's lock while it builds: in the worker
no search could run meanwhile. It imports nothing of ours, so it starts in an instant and needs
neither a path nor the model's libraries. `edge_generations.py` starts it on a copy of the store.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

import qdrant_edge as edge

# Measured: with 12 and 64, a third less work, recall@10 falls from 0.996 among 20,000 points to
# 0.989 among 100,000; with these it is 0.9985 among 20,000, in 9 s of processor time.
M = 16  # neighbours of a point in the graph
EF_CONSTRUCT = 100  # candidates among which they are chosen
# Searches go first. Of cores that ingest keeps busy it still gets a quarter: with 19 it would be a
# hundredth, and an index costs half a millisecond an image, where embedding one takes a hundred.
NICE = 5
_LINUX_PR_SET_PDEATHSIG = 1


def main() -> int:
    path, parent, dimensions, exact_below = sys.argv[1], *map(int, sys.argv[2:])
    end_with(parent)
    os.nice(NICE)
    build(path, dimensions, exact_below)
    sync(Path(path))
    return 0


def end_with(parent: int) -> None:
    """Linux ends this process with the one that started it; elsewhere it runs to its end.

    A thread that watches would not do: none runs while the engine has the interpreter's lock.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_LINUX_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        sys.exit(1)


def build(path: str, dimensions: int, exact_below: int) -> None:
    """`exact_below`: a filter that leaves fewer points is answered by comparing with all of them.

    One segment: a search walks one graph, and what is written later goes into another segment.
    """
    kilobytes = max(1, exact_below * dimensions * 4 // 1024)
    hnsw = edge.HnswIndexConfig(M, EF_CONSTRUCT, kilobytes, payload_m=0)
    config = edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(size=dimensions, distance=edge.Distance.Cosine),
        hnsw_config=hnsw,
        optimizers=edge.EdgeOptimizersConfig(indexing_threshold=1, default_segment_number=1),
    )
    shard = edge.EdgeShard.load(path, config)
    shard.optimize()
    shard.flush()
    shard.close()


def sync(folder: Path) -> None:
    """What is built must survive a power cut before anything refers to it."""
    for path in (folder, *folder.rglob("*")):
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.close(file)


if __name__ == "__main__":
    sys.exit(main())
