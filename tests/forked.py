"""Processes forked from one that has imported what they need: one second instead of ten."""

import ctypes
import faulthandler
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess

from cli.processes import Program, tail

# What takes nearly all of a worker's start. Imported once, in the process that workers are forked
# from; it computes nothing, so it has no threads that a fork would lose.
PRELOADED = ["torch", "transformers", "datasets", "qdrant_edge", "workers.service"]

Prepare = Callable[[Mapping[str, str]], None]


def forking() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


class ForkedWorker:
    """As `cli.processes.Child`, but forked. `prepare` runs in the worker, before its own code.

    What its libraries read from the environment when they are imported, it has from the tests: a
    worker whose environment differs in such a variable must be a `Child`.
    """

    def __init__(self, program: Program, prepare: Prepare | None = None) -> None:
        self.program = program
        self.starts = 0
        self._prepare = prepare
        self._process: BaseProcess | None = None

    def start(self) -> None:
        self.starts += 1
        self.program.log.touch(0o600)
        arguments = (dict(self.program.environment), str(self.program.log), self._prepare)
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


def run(environment: Mapping[str, str], log: str, prepare: Prepare | None) -> None:
    """In the forked process: `python -m workers`."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: none outlives the tests
    resource.setrlimit(
        resource.RLIMIT_CORE, (1, 1)
    )  # no core file, nor one for a program (core(5))
    os.setsid()
    os.umask(0o077)
    os.environ.clear()
    os.environ.update(environment)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
    faulthandler.enable()
    sys.argv = ["workers"]
    from workers.service import main

    if prepare is not None:
        prepare(environment)
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)
