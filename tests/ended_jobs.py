"""Jobs that have ended, in any number, as the ledger keeps them."""

from typing import Any

from pipeline.ledger import Ledger

_FILL = """
local ns, first, last = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
for n = first, last do
  local job = string.format('00000000-0000-4000-8000-%012d', n)
  local key, at = ns .. ':job:' .. job, 1700000000 + n
  redis.call('HSET', key, 'operation', 'ingest', 'queue', 'ingest', 'request',
    '{"source": {"kind": "dataset", "dataset": "/srv/scans"}}', 'state', 'succeeded', 'total', 64,
    'shard_size', 64, 'version', 'v', 'items', 2, 'next_item', 2, 'finished_items', 2, 'created_at',
    at, 'started_at', at, 'measured_at', at + 9, 'finished_at', at + 9, 'skipped', '{}')
  redis.call('HSET', key .. ':counts', 'embedded', 64)
  redis.call('ZADD', ns .. ':jobs', at, job)
  redis.call('ZADD', ns .. ':jobs:finished', at + 9, job)
  redis.call('ZADD', ns .. ':jobs:succeeded', at, job)
end
"""


def fill(redis: Any, ledger: Ledger, first: int, last: int) -> None:
    """With numbers from `first` up to and without `last`; all were put away."""
    script = redis.register_script(_FILL)
    for start in range(first, last, 5000):
        script([ledger.namespace], [start, min(start + 5000, last) - 1])
