"""Reads the ledger of a collection, at one moment, as lines of text, and writes it back."""

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.base.errors import Conflict
from pipeline.base.schema import SCHEMA_VERSION, refuse_other_schema
from pipeline.ledger.connection import connect, reachable
from pipeline.ledger.ledger import COLLECTIONS_KEY
from pipeline.ledger.schema import check_schema

# One call, so that all values belong to one moment: a job and its shards must fit together.
_DUMP = """
local all = {}
for _, key in ipairs(redis.call('KEYS', KEYS[1] .. ':*')) do
  local at = #all
  all[at + 1], all[at + 2], all[at + 3] = key, redis.call('PTTL', key), redis.call('DUMP', key)
end
return all
"""


class Snapshots:
    """Values are in Redis's own format (DUMP), which the same or a newer Redis can restore.

    `namespace` is that of the collection's ledger. A snapshot leaves out the workers that are
    alive, the sessions of signed-in users, and other collections.
    """

    def __init__(self, url: str, namespace: str) -> None:
        self._redis = connect(url, decode_responses=False)
        self._namespace = namespace

    def lines(self) -> Iterator[str]:
        """The schema's version, then one JSON object for each key. Raises LedgerUnavailable."""
        with reachable():
            found: list[bytes | int] = self._redis.eval(_DUMP, 1, self._namespace)
        yield json.dumps({"schema": SCHEMA_VERSION}) + "\n"
        for key, ttl, value in zip(found[::3], found[1::3], found[2::3], strict=True):
            name = bytes(key).decode()
            if not name.startswith(f"{self._namespace}:workers"):
                encoded = base64.b64encode(bytes(value)).decode()
                yield json.dumps({"key": name, "ttl": max(0, int(ttl)), "value": encoded}) + "\n"

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
            for line in lines:
                self._restore(json.loads(line))
                count += 1
            self._redis.sadd(COLLECTIONS_KEY, self._namespace.partition(":")[2])
        return count

    def _restore(self, entry: dict[str, Any]) -> None:
        if "schema" in entry:
            self._check_schema(entry["schema"])
            return
        if not entry["key"].startswith(f"{self._namespace}:"):
            raise Conflict(
                "The backup is of another collection, or of an older Kindred: restore it under the"
                " name that it had, or with the version that wrote the backup."
            )
        value = base64.b64decode(entry["value"])
        self._redis.restore(entry["key"], entry["ttl"], value, replace=True)

    def _check_schema(self, version: int) -> None:
        """All collections of a Redis share one schema, so the backup's must be the same."""
        refuse_other_schema(version, "backup")
        check_schema(self._redis)

    def close(self) -> None:
        self._redis.close()
