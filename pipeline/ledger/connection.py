"""The connection to Redis, and what it raises, in our words."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from pipeline.base.errors import LedgerMisconfigured, LedgerUnavailable
from pipeline.base.redis_url import RedisAddress, parse_redis_url

# Redis answers in well under a millisecond. A caller must learn soon that it is unavailable, but a
# server that is only busy rewriting its append-only file must not look dead.
CONNECT_TIMEOUT = 1.0
SOCKET_TIMEOUT = 5.0

_TIMEOUTS = {"socket_connect_timeout": CONNECT_TIMEOUT, "socket_timeout": SOCKET_TIMEOUT}

_SILENT = "Redis does not answer. Nothing was lost; try again in a moment."
_FULL = "Redis takes no writes; its disk or its memory may be full. Nothing was lost."
_BUSY = "Redis runs a script that takes long, and answers nothing else. Nothing was lost."
_ELSEWHERE = "Redis takes no writes now; another one may take over. Nothing was lost."

# The codes with which Redis refuses what it will do later. redis-py has a class for some, and takes
# the code away from their text; a code that a command met in a script or a transaction can stand
# anywhere in the text. (https://redis.io/docs/latest/develop/reference/protocol-spec/)
_AWAY = {
    "OOM": _FULL,
    "MISCONF": _FULL,
    "READONLY": _ELSEWHERE,
    "NOREPLICAS": _ELSEWHERE,
    "MASTERDOWN": _ELSEWHERE,
    "CLUSTERDOWN": _ELSEWHERE,
    "TRYAGAIN": _ELSEWHERE,
    "LOADING": _SILENT,
    "NOSCRIPT": _SILENT,  # redis-py has just sent the script, and another Redis has answered
    "BUSY": _BUSY,
    "UNKILLABLE": _BUSY,
    "Script killed by user": _BUSY,
}
_CODES = re.compile(rf"(?<!\w)({'|'.join(_AWAY)})(?!\w)")
_CLASSES: Mapping[type[redis.RedisError], str] = {
    redis.exceptions.OutOfMemoryError: _FULL,
    redis.exceptions.ReadOnlyError: _ELSEWHERE,
    redis.exceptions.ClusterDownError: _ELSEWHERE,  # and of a replica, MASTERDOWN
    redis.exceptions.TryAgainError: _ELSEWHERE,
    redis.exceptions.NoScriptError: _SILENT,
    redis.ConnectionError: _SILENT,  # among them LOADING, and that there are too many clients
    redis.TimeoutError: _SILENT,
    redis.exceptions.InvalidResponse: _SILENT,  # an answer that broke off
}

_LOGIN = "Redis refuses the login in KINDRED_REDIS_URL: its password, or that of its Sentinels."
_NOT_TRUSTED = (
    "The certificate of Redis is not trusted, or is for another name than that in"
    " KINDRED_REDIS_URL. KINDRED_REDIS_CA names the certificates of a private CA."
)
_FORBIDDEN = (
    "The user in KINDRED_REDIS_URL may not run a command that Kindred needs: allow it all commands"
    " but the dangerous ones (+@all -@dangerous +info +keys) on all keys and channels."
)
_NOPERM = re.compile(r"(?<!\w)NOPERM(?!\w)|ACL failure in script")
_CLUSTER = "KINDRED_REDIS_URL leads to a Redis Cluster; Kindred needs a single Redis or Sentinels."


def connect(url: str, **options: Any) -> Any:  # redis-py does not know that every answer is text
    """A client of the Redis that the URL names; with Sentinels, of the master that they name.

    `options` are redis-py's. The connection is made when it is first used.
    """
    usual = {
        "decode_responses": True,
        **_TIMEOUTS,
        "health_check_interval": 30,
        "retry": Retry(NoBackoff(), 1),  # a connection that a restart cut is opened once more
    }
    return _client(redis.Redis, Sentinel, Retry(NoBackoff(), 0), url, {**usual, **options})


def connect_async(url: str) -> Any:
    """As `connect`, for asyncio. A command waits for its answer as long as it takes."""
    options = {
        "decode_responses": True,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_timeout": None,
    }
    once = AsyncRetry(NoBackoff(), 0)
    return _client(redis.asyncio.Redis, AsyncSentinel, once, url, options)


def _client(kind: Any, sentinels: Any, once: Any, url: str, options: Mapping[str, Any]) -> Any:
    """`once`: no Sentinel is asked twice, since there are others."""
    address = parse_redis_url(url)
    if not address.service:
        return kind.from_url(url, **options)
    asked = sentinels(list(address.hosts), sentinel_kwargs=sentinel_options(address, once))
    return asked.master_for(address.service, **_master_options(address), **options)


def sentinel_options(address: RedisAddress, retry: Any) -> dict[str, Any]:
    """What redis-py's client of a Sentinel is made with."""
    return {
        "username": address.sentinel_username,
        "password": address.sentinel_password,
        "retry": retry,
        **_TIMEOUTS,
        **({} if address.tls is None else {"ssl": True, **address.tls}),
    }


def _master_options(address: RedisAddress) -> dict[str, Any]:
    """What redis-py's client of the master is made with, besides its address."""
    return {
        "db": address.database,
        "username": address.username,
        "password": address.password,
        **({} if address.tls is None else {"ssl": True, **address.tls}),
    }


@contextmanager
def reachable() -> Iterator[None]:
    """Raises LedgerUnavailable, or LedgerMisconfigured, in the place of what redis-py raises.

    What neither waiting nor a setting mends, as a command that is wrong, is raised as it is.
    """
    try:
        yield
    except redis.RedisError as error:
        if wrong := _wrong_setting(error):
            raise LedgerMisconfigured(wrong) from error
        if away := why_away(error):
            raise LedgerUnavailable(away) from error
        raise


def _wrong_setting(error: redis.RedisError) -> str | None:
    text = str(error)  # of Sentinels, all that went wrong with each
    refused = (redis.AuthenticationError, redis.exceptions.AuthorizationError)
    if isinstance(error, refused) or "AuthenticationError" in text:
        return _LOGIN
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return _NOT_TRUSTED
    if isinstance(error, redis.exceptions.NoPermissionError) or _NOPERM.search(text):
        return _FORBIDDEN
    if isinstance(error, redis.exceptions.MovedError | redis.exceptions.ClusterCrossSlotError):
        return _CLUSTER
    return None


def why_away(error: redis.RedisError) -> str | None:
    """A sentence for what waiting can mend; None for all else."""
    for kind, said in _CLASSES.items():
        if isinstance(error, kind):
            return said
    found = _CODES.search(str(error)) if isinstance(error, redis.ResponseError) else None
    return _AWAY[found[1]] if found else None
