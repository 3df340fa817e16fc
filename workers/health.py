"""Checks that a worker still works: it embeds a test picture correctly.

`python -m workers.health` is the health check of containers. It looks in the ledger for heartbeats
of this host's workers: as many must be ready as were started together, so that a dead card shows.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Sequence

import numpy as np
from PIL import Image

from pipeline.base.errors import ConfigurationError, LedgerUnavailable
from pipeline.base.logs import where
from pipeline.base.settings import EXIT_CONFIGURATION, load_settings
from pipeline.encoding.encoder import Encoder
from pipeline.images.picture import Picture
from pipeline.ledger import Ledgers, WorkerInfo
from workers.names import is_of_this_host

logger = logging.getLogger("kindred.health")

# Tells supervisors that a restart can help (sysexits.h: EX_TEMPFAIL).
EXIT_TRY_AGAIN = 75

# Seconds between two checks. A test picture costs a CPU 0.05 s and a GPU next to nothing.
PROBE_SECONDS = 15.0
WATCH_SECONDS = 1.0

# Probes that must fail in a row before the worker gives up.
FAILURES = 3

# Least cosine between the test picture's vectors now and at the start. Rounding to bfloat16 stays
# above it; every fault that we have seen was below it.
_LEAST_AGREEMENT = 0.999


class Probe:
    """Embeds a test picture, as a search would, and compares its vector with the first one.

    Threads can share a probe: any of them can call it when it doubts the encoder.
    """

    def __init__(self, encoder: Encoder) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        self._encoder = encoder
        self._pixels = encoder.preprocess(Picture(Image.fromarray(noise)))[None]
        self._lock = threading.Lock()
        self._failures = 0
        self._answered = time.monotonic()
        self._expected = self._embed()

    @property
    def healthy(self) -> bool:
        """False after a failure, or if the encoder has not answered for several turns."""
        silent = time.monotonic() - self._answered
        return not self._failures and silent < (1 + FAILURES) * PROBE_SECONDS

    @property
    def hopeless(self) -> bool:
        silent = time.monotonic() - self._answered
        return self._failures >= FAILURES or silent > 2 * (1 + FAILURES) * PROBE_SECONDS

    def __call__(self) -> bool:
        """Whether the encoder still gives the test picture its first vector."""
        with self._lock:
            good = self._agrees()
            self._failures = 0 if good else self._failures + 1
            self._answered = time.monotonic()
        if not good:
            logger.error("the encoder fails", extra={"failures": self._failures})
        return good

    def _agrees(self) -> bool:
        try:
            cosine = float((self._embed() * self._expected).sum())
        except Exception as error:  # noqa: BLE001 - a broken device can raise anything
            logger.error("test picture not embedded", extra={"error": where(error)})
            return False
        return cosine >= _LEAST_AGREEMENT  # False for NaN

    def _embed(self) -> np.ndarray:
        """float64 (1, dimensions), with length 1."""
        vector = self._encoder.embed(self._pixels, bulk=False).astype(np.float64)
        unit: np.ndarray = vector / np.linalg.norm(vector)
        return unit


class Watchdog:
    """Ends the process if nothing else can help: nobody can stop a thread that hangs.

    Other workers then get its work, and find the picture at fault, as after any worker's death.
    """

    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    def __call__(self) -> None:
        if self._probe.hopeless:
            end_process("the encoder fails")


def end_process(reason: str) -> None:
    """Ends it at once: an orderly end would wait for threads, or a device, that hang."""
    logger.critical("worker ends", extra={"reason": reason})
    logging.shutdown()
    os._exit(EXIT_TRY_AGAIN)


def main() -> int:
    try:
        settings = load_settings()
        workers = (
            Ledgers(settings.redis_url, settings.timing).of(settings.collection).workers.alive()
        )
    except ConfigurationError as error:
        print(f"{error.title}: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    except LedgerUnavailable as error:
        print(error.title, file=sys.stderr)
        return 1
    return _say(workers)


def _say(workers: Sequence[WorkerInfo]) -> int:
    """0 if all workers are ready that were started together on this host."""
    here = [worker for worker in workers if is_of_this_host(worker.name)]
    wanted = max((worker.processes for worker in here), default=1)
    ready = sum(worker.ready for worker in here)
    print(f"workers ready on this host: {ready} of {wanted}")
    return 0 if ready >= wanted else 1


if __name__ == "__main__":
    sys.exit(main())
