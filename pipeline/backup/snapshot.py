"""The ledger as lines of text, at one moment, and back again."""

import base64
import json
from collections.abc import Iterable, Iterator

import redis

from pipeline.base.errors import Conflict
from pipeline.ledger.script import CONNECT_TIMEOUT, reachable

# Not taken along: who is alive now, and who is signed in.
_SKIPPED = ("kindred:workers", "kindred:session")

# One call, so that all keys are of one moment: a job and its shards must fit together.
_DUMP = """
local all = {}
for _, key in ipairs(redis.call('KEYS', 'kindred:*')) do
  local at = #all
  all[at + 1], all[at + 2], all[at + 3] = key, redis.call('PTTL', key), redis.call('DUMP', key)
end
return all
"""


class Snapshots:
    """Values travel in Redis's own form (DUMP), which the same or a newer version takes back."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url, socket_connect_timeout=CONNECT_TIMEOUT)

    def lines(self) -> Iterator[str]:
        """One JSON object a key. Raises LedgerUnavailable."""
        with reachable():
            found: list[bytes | int] = self._redis.eval(_DUMP, 0)
        for key, ttl, value in zip(found[::3], found[1::3], found[2::3], strict=True):
            name = bytes(key).decode()
            if not name.startswith(_SKIPPED):
                kept = base64.b64encode(bytes(value)).decode()
                yield json.dumps({"key": name, "ttl": max(0, int(ttl)), "value": kept}) + "\n"

    def refuse_unless_empty(self) -> None:
        """Raises Conflict where there is a ledger already, and LedgerUnavailable."""
        with reachable():
            if next(self._redis.scan_iter("kindred:job*"), None) is not None:
                raise Conflict("This Redis holds jobs already: restore into an empty one.")

    def restore(self, lines: Iterable[str]) -> int:
        """How many keys. Raises as `refuse_unless_empty`."""
        self.refuse_unless_empty()
        count = 0
        with reachable():
            for line in lines:
                entry = json.loads(line)
                value = base64.b64decode(entry["value"])
                self._redis.restore(entry["key"], entry["ttl"], value, replace=True)
                count += 1
        return count

    def close(self) -> None:
        self._redis.close()
