"""A process that has imported all that a worker needs, and forks workers from it.

    python -m workers.warm SOCKET

Importing takes most of a worker's start, and a fork has it at once, in memory that both share. Each
message on the socket asks for a worker: its environment as JSON, with descriptors for its answer
and its output, and for what it only keeps open. The worker's parent is not this process but whoever
asked, who must be a subreaper (prctl(2)); it answers with its process id, and goes on as
`python -m workers` does.

This process computes nothing, opens nothing and starts no CUDA, so a fork of it is whole. Threads
that libraries start at their import (OpenBLAS, jemalloc) are started again by these in a fork.
"""

import ctypes
import gc
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

gc.disable()  # until a worker has opened its runtime: see `workers.__main__`

_MOST_BYTES, _MOST_DESCRIPTORS = 1 << 20, 16
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_CUDA_STARTED = 3  # the exit code: whoever starts CUDA cannot fork its users
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(descriptor: int) -> int:
    """Ends with its socket, or as the worker that it has become."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
    work = _import()
    if _has_started_cuda():
        return _CUDA_STARTED
    gc.freeze()  # no collection of a fork writes to the memory that it shares
    with socket.socket(fileno=descriptor) as orders:
        order = _await_order_as_worker(orders)
    if order is None:
        return 0
    for number, handler in before.items():
        signal.signal(number, handler)
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = ["workers"]
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return work()


def _import() -> Callable[[], int]:
    """What `python -m workers` runs, and what loading a model imports."""
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # what counts cards must not start CUDA
    from transformers import AutoConfig, AutoModel, AutoTokenizer  # noqa: F401 - lazily, by name
    from transformers.models.vit import modeling_vit  # noqa: F401

    from workers.service import main

    return main


def _has_started_cuda() -> bool:
    """The driver's library is loaded by the first call that needs a card."""
    return "/libcuda.so" in Path("/proc/self/maps").read_text()


def _await_order_as_worker(orders: socket.socket) -> dict[str, Any] | None:
    """Returns in each worker with what it was asked for, and here with None when nobody asks."""
    while True:
        text, descriptors, _, _ = socket.recv_fds(orders, _MOST_BYTES, _MOST_DESCRIPTORS)
        if not text:
            return None
        order = json.loads(text)
        if _fork_twice(order["parent"]):
            _take_descriptors(*descriptors)
            return dict(order)
        for each in descriptors:
            os.close(each)


def _fork_twice(parent: int) -> bool:
    """True in the grandchild, once it is a child of `parent`, or it ends."""
    middle = os.fork()
    if middle:
        os.waitpid(middle, 0)
        return False
    middle = os.getpid()
    try:
        if os.fork():
            os._exit(0)
    except OSError:
        os._exit(1)  # the descriptors close, and so it is known
    while os.getppid() == middle:
        time.sleep(0.001)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before the call above
        os._exit(1)
    return True


def _take_descriptors(answer: int, output: int, errors: int, *kept: int) -> None:
    """`kept` stay open as long as we live, and go to no program that we run."""
    os.setsid()
    os.umask(0o077)
    for given, number in ((output, 1), (errors, 2)):
        os.dup2(given, number)
        os.close(given)
    for each in kept:
        os.set_inheritable(each, False)
    with socket.socket(fileno=answer) as told:
        try:
            told.sendall(str(os.getpid()).encode())
        except OSError:  # nobody wants it any more
            os._exit(1)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
