"""Whether this worker still does what it says: it embeds a test picture, and its decodes come back.

`python -m workers.health` asks the ledger whether the worker of this host says that it lives, for
containers.
"""

import logging
import os
import socket
import sys
import threading
import time

import numpy as np
from PIL import Image

from pipeline.base.errors import ConfigurationError, LedgerUnavailable
from pipeline.base.logs import where
from pipeline.base.settings import EXIT_CONFIGURATION, load_settings
from pipeline.encoding.encoder import Encoder
from pipeline.images.decoding import Picture
from pipeline.images.watchdog import DecodeWatch
from pipeline.ledger import open_ledgers

logger = logging.getLogger("kindred.health")

# A fault that starting again can cure (sysexits.h: EX_TEMPFAIL).
EXIT_TRY_AGAIN = 75

# Between two looks, in seconds. A picture costs a CPU 0.05 s and a GPU next to nothing.
PROBE_SECONDS = 15.0
WATCH_SECONDS = 1.0

# Probes that must fail one after the other until the worker gives up.
FAILURES = 3

# Least cosine between a picture's vectors now and at the start: less than bfloat16 costs, and more
# than any fault that was seen.
_LEAST_AGREEMENT = 0.999


class Probe:
    """Embeds one picture now and then, as a search would, and compares with the first time.

    Safe to share between threads: whoever doubts the encoder can call it.
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
        """False after a failure, and where the encoder has not answered for several turns."""
        silent = time.monotonic() - self._answered
        return not self._failures and silent < (1 + FAILURES) * PROBE_SECONDS

    @property
    def hopeless(self) -> bool:
        silent = time.monotonic() - self._answered
        return self._failures >= FAILURES or silent > 2 * (1 + FAILURES) * PROBE_SECONDS

    def __call__(self) -> bool:
        """Whether the encoder gives the picture the vector that it had."""
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
        except Exception as error:  # noqa: BLE001 - whatever a broken device raises
            logger.error("no test picture embedded", extra={"error": where(error)})
            return False
        return cosine >= _LEAST_AGREEMENT  # a NaN is no agreement

    def _embed(self) -> np.ndarray:
        """float64 (1, dimensions), of length 1."""
        vector = self._encoder.embed(self._pixels, bulk=False).astype(np.float64)
        unit: np.ndarray = vector / np.linalg.norm(vector)
        return unit


class Watchdog:
    """Ends the process where only that can help: threads cannot be stopped.

    What it held is handed out again, and a picture that was to blame is found, as after any death.
    """

    def __init__(self, decode_watch: DecodeWatch, probe: Probe, decode_seconds: float) -> None:
        self._decode_watch, self._probe, self._decode_seconds = decode_watch, probe, decode_seconds

    def __call__(self) -> None:
        if self._decode_watch.longest() > self._decode_seconds:
            end_process("a decode did not come back")
        if self._probe.hopeless:
            end_process("the encoder fails")


def end_process(reason: str) -> None:
    """At once: threads that hang, and a device that does, would keep an orderly end waiting."""
    logger.critical("worker ends", extra={"reason": reason})
    logging.shutdown()
    os._exit(EXIT_TRY_AGAIN)


def main() -> int:
    host = f"{socket.gethostname()}-"  # how the names of its workers begin
    try:
        settings = load_settings()
        workers = open_ledgers(settings).of(settings.collection).workers.alive()
    except ConfigurationError as error:
        print(f"{error.title}: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    except LedgerUnavailable as error:
        print(error.title, file=sys.stderr)
        return 1
    return 0 if any(worker.name.startswith(host) and worker.ready for worker in workers) else 1


if __name__ == "__main__":
    sys.exit(main())
