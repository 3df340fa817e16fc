"""Measures how much of the time a card computes, by its driver's count: NVML or nvidia-smi."""

import contextlib
import shutil
import subprocess
import threading
from collections.abc import Callable

import torch

EVERY = 0.1  # seconds; the driver's own period is 1/6 of a second to one second


class Busy:
    """Samples during its `with` block. `percent` is None if nothing can measure it."""

    def __init__(self, card: int = 0) -> None:
        self._read, self.how = _reader(card)
        self._samples: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "Busy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def percent(self) -> float | None:
        """The mean of the samples, without two at each end, before and after the work."""
        inner = self._samples[2:-2]
        return sum(inner) / len(inner) if inner else None

    def _sample(self) -> None:
        while self._read is not None and not self._over.wait(EVERY):
            with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
                self._samples.append(self._read())


def _reader(card: int) -> tuple[Callable[[], int] | None, str]:
    if not torch.cuda.is_available():
        return None, "there is no card"
    try:
        torch.cuda.utilization(card)
    except Exception:  # noqa: BLE001 - nvidia-ml-py is missing, or NVML does not answer
        if shutil.which("nvidia-smi") is None:
            return None, "neither NVML nor nvidia-smi"
        return lambda: _query_smi(card), "nvidia-smi"
    return lambda: torch.cuda.utilization(card), "NVML"


def _query_smi(card: int) -> int:
    query = ("--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", f"--id={card}")
    answer = subprocess.run(["nvidia-smi", *query], capture_output=True, text=True, check=True)
    return int(answer.stdout.strip())
