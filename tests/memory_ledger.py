"""The ledger itself, with its own Lua, over a Redis that lives in this process's memory."""

import fakeredis

from pipeline.ledger import Ledgers, Timing


def memory_ledgers(
    timing: Timing | None = None, server: fakeredis.FakeServer | None = None
) -> Ledgers:
    """Fresh and empty, unless `server` is given: all that share one see the same keys."""
    redis = fakeredis.FakeRedis(server=server or fakeredis.FakeServer(), decode_responses=True)
    return Ledgers("", timing or Timing(), redis=redis)
