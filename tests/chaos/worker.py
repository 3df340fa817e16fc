"""A worker that a test can break from inside: the product's own, with a few calls wrapped.

The product has no such hooks. A switch is a file in the folder that CHAOS_SWITCHES names; it is
looked at in every call, so a test turns a fault on and off in a running worker. Pictures of one
plain colour are poison:

    red     the decoder ends the process, as a fault in C code would
    green   the decoder does not come back
    blue    the device has no memory for it, however small the batch
"""

import ctypes
import faulthandler
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from cli.processes import Program, tail

STORE_AWAY = "store-away"
ENCODER_BROKEN = "encoder-broken"

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)

# What takes nearly all of a worker's start. Imported once, in the process that workers are forked
# from; it computes nothing, so it has no threads that a fork would lose.
PRELOADED = ["torch", "transformers", "datasets", "qdrant_edge", "workers.service"]


def forking() -> ForkServerContext:
    """Forks workers from a process that has imported what they need: one second instead of ten."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


class ForkedWorker:
    """As `cli.processes.Child`, but forked."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.starts = 0
        self._process: BaseProcess | None = None

    def start(self) -> None:
        self.starts += 1
        arguments = (dict(self.program.environment), str(self.program.log))
        self._process = forking().Process(target=run, args=arguments, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def exit_code(self) -> int | None:
        return self._process.exitcode if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.is_alive()

    def send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.pid is not None and self.running:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def last_words(self, lines: int = 1) -> str:
        return "\n".join(tail(self.program.log, lines))


def run(environment: Mapping[str, str], log: str) -> None:
    """In the forked process: `python -m workers`, broken where the switches say so."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: none outlives the tests
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
    sys.argv = ["workers"]
    faulthandler.register(signal.SIGUSR1)  # prints where every thread stands
    from workers.service import main

    _break(Path(environment["CHAOS_SWITCHES"]))
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)


def _break(switches: Path) -> None:
    import pipeline.lifecycle.ingest
    import pipeline.retrieval.targets
    import pipeline.store.edge_folder as edge_folder
    from pipeline.encoding.encoder import Encoder

    _tiny_visibility()
    _probe_often()
    for module in (pipeline.lifecycle.ingest, pipeline.retrieval.targets):
        module.decode = _poisoned(module.decode)  # type: ignore[attr-defined]
    Encoder._embed = _hungry(Encoder._embed, switches / ENCODER_BROKEN)  # type: ignore[method-assign]
    loaded = edge_folder.load
    edge_folder.load = lambda path: _Flaky(loaded(path), switches / STORE_AWAY)


def _tiny_visibility() -> None:
    """The broker hands out again, after a second, whatever was not acknowledged."""
    seconds = os.environ.get("CHAOS_VISIBILITY_SECONDS")
    if not seconds:
        return
    import workers.service as entry

    make = entry.make_app

    def make_hasty(settings: Any) -> Any:
        app = make(settings)
        app.conf.broker_transport_options = {
            **app.conf.broker_transport_options,
            "visibility_timeout": float(seconds),
            "unacked_restore_interval": 1,
        }
        return app

    entry.make_app = make_hasty


def _probe_often() -> None:
    import workers.service as entry

    entry.PROBE_SECONDS = float(os.environ.get("CHAOS_PROBE_SECONDS") or entry.PROBE_SECONDS)


def _poisoned(decode: Any) -> Any:
    def poisoned(data: bytes, max_pixels: int) -> Any:
        picture = decode(data, max_pixels)
        image = getattr(picture, "image", None)
        colours = image and image.resize((8, 8)).getcolors(1)
        if colours and colours[0][1] == RED:
            os.kill(os.getpid(), signal.SIGSEGV)
        while colours and colours[0][1] == GREEN:
            time.sleep(1)
        return picture

    return poisoned


def _hungry(embed: Any, broken: Path) -> Any:
    import torch

    started = time.time()

    def hungry(self: Any, batch: Any) -> Any:
        plain = (batch.float().amax((2, 3)) == torch.tensor(BLUE)).all(1)
        plain &= (batch.float().amin((2, 3)) == torch.tensor(BLUE)).all(1)
        if plain.any():
            raise torch.OutOfMemoryError("simulated")
        vectors = embed(self, batch)
        return vectors * float("nan") if _newer(broken, started) else vectors

    return hungry


def _newer(path: Path, moment: float) -> bool:
    """A broken device is whole again for the next process."""
    try:
        return path.stat().st_mtime > moment
    except FileNotFoundError:
        return False


class _Flaky:
    """The engine's shard; while the switch is on, every call fails as the engine's own do."""

    def __init__(self, shard: Any, switch: Path) -> None:
        self._shard, self._switch = shard, switch

    def __getattr__(self, name: str) -> Any:
        if self._switch.exists() and name not in ("close", "info"):
            raise Exception("simulated: the engine is away")
        return getattr(self._shard, name)
