"""How the Lua script replies: lists of names and values, as HGETALL gives them."""

from typing import Any


def named(reply: list[Any]) -> dict[str, Any]:
    """A value can be such a list again."""
    return dict(zip(reply[::2], reply[1::2], strict=True))
