"""Keeps an evaluation to one core, so that searches have the others."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """NumPy's matrix products use one thread of the process; torch has threads of its own."""
    from threadpoolctl import ThreadpoolController

    with ThreadpoolController().select(internal_api="openblas").limit(limits=1):
        yield
