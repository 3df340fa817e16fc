"""How a long computation is stopped.

It calls a `Check` between steps of some tenths of a second, which raises if it is to end. What was
begun is then dropped: nothing is written before an evaluation's end.
"""

from collections.abc import Callable

Check = Callable[[], None]


def never() -> None:
    """The check of what nobody stops."""
