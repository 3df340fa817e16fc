"""Redis' clock with an offset that a test sets: what the ledger takes for the time.

A real jump cannot be tried: it would be one of the whole machine.
"""

from typing import Any

import pipeline.ledger.script as script

OFFSET = "test:offset"  # a key of Redis, in seconds


def shift_clock() -> None:
    """In a process that is about to open its ledger."""
    real = "local time = call('TIME')"
    shifted = f"{real}\ntime[1] = time[1] + math.floor(tonumber(call('GET', '{OFFSET}') or 0))"
    source = script.source()
    assert real in source
    script.source = lambda: source.replace(real, shifted)  # type: ignore[assignment]


def jump(redis: Any, seconds: float) -> None:
    redis.incrbyfloat(OFFSET, seconds)
