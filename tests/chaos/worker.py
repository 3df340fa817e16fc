"""A worker that a test can break from inside: the product's own, with a few calls wrapped.

The product has no such hooks. A switch is a file in the folder that CHAOS_SWITCHES names; it is
looked at in every call, so a test turns a fault on and off in a running worker. Pictures of one
plain colour are poison:

    red     its decoder ends, by a fault as in C code (`decoder.py`)
    green   its decoder does not come back
    blue    the device has no memory for it, however small the batch
    white   the model ends the worker, by a fault as in C code
"""

import ctypes
import faulthandler
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STORE_AWAY = "store-away"
ENCODER_BROKEN = "encoder-broken"

BLUE, WHITE = (0, 0, 255), (255, 255, 255)


def break_inside(environment: Mapping[str, str]) -> None:
    """In a worker that is about to run: broken where the switches say so."""
    faulthandler.register(signal.SIGUSR1)  # prints where every thread stands
    _break(Path(environment["CHAOS_SWITCHES"]))


def _break(switches: Path) -> None:
    import pipeline.store.edge_folder as edge_folder
    from pipeline.encoding.encoder import Encoder
    from pipeline.images import decoders

    _tiny_visibility()
    _look_often()
    decoders.PROGRAM = "tests.chaos.decoder"
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


def _look_often() -> None:
    import workers.service as entry

    entry.WATCH_SECONDS = 0.2
    entry.PROBE_SECONDS = float(os.environ.get("CHAOS_PROBE_SECONDS") or entry.PROBE_SECONDS)


def _hungry(embed: Any, broken: Path) -> Any:
    import torch

    started = time.time()

    def hungry(self: Any, batch: Any) -> Any:
        if _has(batch, WHITE):
            # A real fault, which this thread does not survive. A signal would go to the process,
            # whose main thread may take it when this picture has long been embedded.
            ctypes.string_at(0)
        if _has(batch, BLUE):
            raise torch.OutOfMemoryError("simulated")
        vectors = embed(self, batch)
        return vectors * float("nan") if _newer(broken, started) else vectors

    return hungry


def _has(batch: Any, colour: tuple[int, int, int]) -> bool:
    """Whether one of the pictures (n, 3, H, W) is all of that colour."""
    low, high = batch.amin((2, 3)).tolist(), batch.amax((2, 3)).tolist()
    return any(tuple(a) == tuple(b) == colour for a, b in zip(low, high, strict=True))


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
