"""Refuses a Redis that throws keys away when its memory is full: jobs and deletions are among
them."""

import logging
from typing import Any

import redis

from pipeline.base.errors import LedgerMisconfigured
from pipeline.ledger.connection import why_away

logger = logging.getLogger("kindred.ledger")

NONE = "noeviction"


def check_eviction(client: Any, *, warn: bool) -> bool:
    """Raises LedgerMisconfigured for a policy that evicts, even while no `maxmemory` is set:
    whoever sets one later does not think of Kindred.

    Returns whether the policy cannot be known, and says so if `warn`.
    """
    policy = _policy(client)
    if policy is None and warn:
        logger.warning(
            "Redis says neither by CONFIG GET nor by INFO what it does when its memory is full;"
            " its maxmemory-policy must be noeviction"
        )
    if policy not in (None, NONE):
        raise LedgerMisconfigured(
            f"Its maxmemory-policy is {policy}, so it would throw away jobs and deletions when its"
            f" memory is full. Set it to {NONE}, or give Kindred a Redis of its own."
        )
    return policy is None


def _policy(client: Any) -> str | None:
    """None if it says nothing: managed services forbid CONFIG or do not know it, some INFO too."""
    for ask in (_by_config, _by_info):
        try:
            found = ask(client)
        except redis.ResponseError as error:
            if why_away(error):
                raise
            found = None
        if found:
            return found
    return None


def _by_config(client: Any) -> str | None:
    found: str | None = client.config_get("maxmemory-policy").get("maxmemory-policy")
    return found


def _by_info(client: Any) -> str | None:
    found: str | None = client.info("memory").get("maxmemory_policy")
    return found
