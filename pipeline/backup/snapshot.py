"""Reads the ledger of a collection as lines of text, and writes it back.

No call blocks Redis for long: each reads a few hundred keys, or as much as is open. Read in this
order, the lines fit together as if they had been read at one moment, the last:

    1. jobs that ended before the snapshot began, a page at a time: they stay as they are
    2. large sets, in pages: tombstones, searches, which images a job has seen. They only grow while
       they are needed, so an older one is a smaller one
    3. what is open, with its items, leases and counts, and all jobs that ended since the beginning,
       in one call. A job that was retried meanwhile is read again here, and the last line wins
"""

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.backup.elements import elements, restore_elements
from pipeline.base.errors import Conflict
from pipeline.base.schema import SCHEMA_VERSION, refuse_other_schema
from pipeline.ledger.connection import connect, reachable
from pipeline.ledger.ledger import COLLECTIONS_KEY
from pipeline.ledger.replies import named
from pipeline.ledger.retention import Retention
from pipeline.ledger.schema import check_schema
from pipeline.ledger.script import Script

PAGE = 200  # jobs, keys or lines in one call

# Behind the namespace: what others know, or find again in the lists of uploads.
_LEFT_OUT = ("workers", "reconciled", "tombstones:fresh", "uploads:")
_LARGE = ("tombstones", "requests", "claims:", "withheld")  # read in pages of elements
_REQUEST = "request:"


class Snapshots:
    """Values are in Redis's own format (DUMP), which the same or a newer Redis can restore; those
    of large keys are lists of their elements.

    `namespace` is that of the collection's ledger. A snapshot leaves out the workers that are
    alive, the sessions of signed-in users, and other collections.
    """

    def __init__(self, url: str, namespace: str) -> None:
        self._redis = connect(url, decode_responses=False)
        self._namespace = namespace
        self._script = Script(self._redis, namespace)

    def lines(self) -> Iterator[str]:
        """The schema's version, then one JSON object for each key, or part of one; of two for one
        key the last holds. Raises LedgerUnavailable."""
        yield _line({"schema": SCHEMA_VERSION})
        with reachable():
            began: str = self._script("begin_snapshot").decode()
            Retention(self._script).index_jobs()
            yield from self._ended(began)
            names = self._names()
            yield from self._requests([name for name in names if name.startswith(_REQUEST)])
            for name in names:
                if name.startswith(_LARGE):
                    yield from self._elements(self._script.key(name))
            rest = (name for name in names if not name.startswith((_REQUEST, *_LARGE)))
            yield from self._open(began, [self._script.key(name) for name in rest])

    def _ended(self, began: str) -> Iterator[str]:
        """`skip` jobs of the moment `after` were read before."""
        after, skip, size = "-inf", 0, PAGE
        while size == PAGE:
            page = self._page("dump_ended", after, began, skip, PAGE)
            yield from self._lines_of(page)
            size = int(page["size"])
            if size:
                last, many = page["last"].decode(), int(page["many"])
                after, skip = last, many + (skip if last == after else 0)

    def _open(self, began: str, names: list[str]) -> Iterator[str]:
        yield from self._lines_of(self._page("dump_open", began, *names))

    def _page(self, command: str, *args: str | int) -> dict[str, Any]:
        found: dict[Any, Any] = named(self._script(command, *args))
        return {name.decode(): value for name, value in found.items()}

    def _lines_of(self, page: dict[str, Any]) -> Iterator[str]:
        scores = page["jobs"]
        if scores:
            jobs = {
                job.decode(): float(at) for job, at in zip(scores[::2], scores[1::2], strict=True)
            }
            yield _line({"key": self._script.key("jobs"), "ttl": 0, "zset": jobs})
        keys = page["keys"]
        for key, ttl, value in zip(keys[::3], keys[1::3], keys[2::3], strict=True):
            yield _line({"key": key.decode(), "ttl": int(ttl), "value": _text(value)})
        for key in page["large"]:
            yield from self._elements(key.decode())

    def _names(self) -> list[str]:
        """Behind the namespace, all keys but those of jobs and items, which have an `index`."""
        start = len(self._namespace) + 1
        found = self._redis.scan_iter(f"{self._namespace}:[^ji]*", count=1000)
        names = sorted({key.decode()[start:] for key in found})
        return [name for name in names if not name.startswith(_LEFT_OUT)]

    def _requests(self, names: list[str]) -> Iterator[str]:
        for at in range(0, len(names), PAGE):
            keys = [self._script.key(name) for name in names[at : at + PAGE]]
            pipe = self._redis.pipeline(transaction=False)
            for key in keys:
                pipe.pttl(key)
                pipe.dump(key)
            found = pipe.execute()
            for key, ttl, value in zip(keys, found[::2], found[1::2], strict=True):
                if value is not None:
                    yield _line({"key": key, "ttl": max(0, ttl), "value": _text(value)})

    def _elements(self, key: str) -> Iterator[str]:
        ttl = max(0, self._redis.pttl(key))
        for kind, part in elements(self._redis, key):
            yield _line({"key": key, "ttl": ttl, kind: part})

    def refuse_unless_empty(self) -> None:
        """Raises Conflict if there is a ledger already, and LedgerUnavailable."""
        with reachable():
            if self._redis.exists(f"{self._namespace}:jobs"):
                raise Conflict("This Redis contains jobs already: restore into an empty one.")

    def restore(self, lines: Iterable[str]) -> int:
        """Returns the number of lines. Raises as `refuse_unless_empty` does, and SchemaMismatch."""
        self.refuse_unless_empty()
        count = 0
        with reachable():
            pipe = self._redis.pipeline(transaction=False)
            for line in lines:
                self._restore(pipe, json.loads(line))
                count += 1
                if len(pipe) >= PAGE:
                    pipe.execute()
            pipe.execute()
            Retention(self._script).index_jobs()
            self._redis.sadd(COLLECTIONS_KEY, self._namespace.partition(":")[2])
        return count

    def _restore(self, pipe: Any, entry: dict[str, Any]) -> None:
        if "schema" in entry:
            self._check_schema(entry["schema"])
            return
        key, ttl = entry["key"], entry["ttl"]
        if not key.startswith(f"{self._namespace}:"):
            raise Conflict(
                "The backup is of another collection, or of an older Kindred: restore it under the"
                " name that it had, or with the version that wrote the backup."
            )
        if not restore_elements(pipe, entry):
            if entry["value"] is None:
                pipe.unlink(key)
            else:
                pipe.restore(key, ttl, base64.b64decode(entry["value"]), replace=True)

    def _check_schema(self, version: int) -> None:
        """All collections of a Redis share one schema, so the backup's must be the same."""
        refuse_other_schema(version, "backup")
        check_schema(self._redis)

    def close(self) -> None:
        self._redis.close()


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry) + "\n"


def _text(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()
