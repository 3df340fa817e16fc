"""Large keys of Redis in pages of their elements, so that no call reads one as a whole."""

from collections.abc import Callable, Iterator
from typing import Any

_PAGE = 1000  # elements

Part = dict[str, Any] | list[str]


def elements(redis: Any, key: str) -> Iterator[tuple[str, Part]]:
    """The kind of the key and pages of what it holds; nothing if it is gone. Elements that come or
    go meanwhile may be there or not."""
    kind = redis.type(key).decode()
    if kind not in _READ:
        return
    page: dict[bytes, Any] = {}
    for element, value in _READ[kind](redis, key):
        page[element] = value
        if len(page) >= _PAGE:
            yield kind, _part(kind, page)
            page = {}
    if page:
        yield kind, _part(kind, page)


def restore_elements(pipe: Any, entry: dict[str, Any]) -> bool:
    """Whether it was a page of elements."""
    for kind, write in _WRITE.items():
        if kind in entry:
            write(pipe, entry["key"], entry[kind])
            if entry["ttl"]:
                pipe.pexpire(entry["key"], entry["ttl"])
            return True
    return False


def _part(kind: str, page: dict[bytes, Any]) -> Part:
    if kind == "set":
        return [element.decode() for element in page]
    return {e.decode(): v.decode() if isinstance(v, bytes) else v for e, v in page.items()}


_READ: dict[str, Callable[[Any, str], Iterator[tuple[bytes, Any]]]] = {
    "hash": lambda redis, key: redis.hscan_iter(key, count=_PAGE),
    "zset": lambda redis, key: redis.zscan_iter(key, count=_PAGE),
    "set": lambda redis, key: ((each, None) for each in redis.sscan_iter(key, count=_PAGE)),
}
_WRITE: dict[str, Callable[[Any, str, Any], Any]] = {
    "hash": lambda pipe, key, page: pipe.hset(key, mapping=page),
    "zset": lambda pipe, key, page: pipe.zadd(key, page),
    "set": lambda pipe, key, page: pipe.sadd(key, *page),
}
