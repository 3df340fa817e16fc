"""Keeps an evaluation to one core, and behind searches where they need it as well."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

_NICE = 10  # of 19; a search's threads have none

Made = TypeVar("Made")


def in_background(work: Callable[[], Made]) -> Made:
    """Runs it in a thread of its own, of low priority on Linux: one cannot be raised again."""
    with ThreadPoolExecutor(1, "evaluation", _step_back) as own:
        return own.submit(work).result()


def _step_back() -> None:
    if sys.platform == "linux":  # elsewhere it would be the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


@contextmanager
def one_thread() -> Iterator[None]:
    """NumPy's matrix products use one thread of the process; torch has threads of its own."""
    from threadpoolctl import ThreadpoolController

    with ThreadpoolController().select(internal_api="openblas").limit(limits=1):
        yield
