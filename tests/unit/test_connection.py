"""What redis-py raises, in our words: what waiting mends, what a setting does, what is a bug."""

import pytest
import redis
from redis._parsers.base import BaseParser
from redis.sentinel import MasterNotFoundError

from pipeline.base.errors import KindredError, LedgerMisconfigured, LedgerUnavailable
from pipeline.ledger.connection import connect, connect_async, reachable

BUSY = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
IN_A_PIPELINE = "Command # 1 (INCR kindred:calls:x:1) of pipeline caused error: "

# As Redis 6.2 to 8 and Valkey write them.
AWAY = [
    BUSY,
    "BUSY Redis is busy running a function. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.",
    "UNKILLABLE Sorry the script already executed write commands against the dataset.",
    "ERR Script killed by user with SCRIPT KILL... script: 694a5f, on @user_script:1.",
    "ERR Error running script (call to f_694a5f): @user_script:1: Script killed by user with"
    " SCRIPT KILL...",
    "READONLY You can't write against a read only replica.",
    "READONLY You can't write against a read only replica. script: 694a5f, on @user_script:12.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "ERR Error running script (call to f_694a5f): @user_script:12: @user_script: 12: -OOM command"
    " not allowed when used memory > 'maxmemory'.",
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "NOREPLICAS Not enough good replicas to write.",
    "CLUSTERDOWN The cluster is down",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist.",
    "ERR max number of clients reached",
    "NOSCRIPT No matching script. Please use EVAL.",
    f"EXECABORT Transaction discarded because of: {BUSY}",
]
WRONG = [
    "WRONGPASS invalid username-password pair or user is disabled.",
    "NOAUTH Authentication required.",
    "ERR invalid password",
    "ERR AUTH <password> called without any password configured for the default user. Are you sure"
    " your configuration is correct?",
    "NOPERM this user has no permissions to run the 'evalsha' command",
    "ERR ACL failure in script: User kindred has no permissions to run the 'keys' command",
    "MOVED 3999 127.0.0.1:6381",
    "CROSSSLOT Keys in request don't hash to the same slot",
]
OURS = ["WRONGTYPE Operation against a key holding the wrong kind of value", "ERR syntax error"]


def raised(text: str) -> Exception:
    error: Exception = BaseParser.parse_error(text)
    return error


def in_our_words(error: Exception) -> Exception:
    try:
        with reachable():
            raise error
    except (KindredError, redis.RedisError) as found:
        return found


@pytest.mark.parametrize("text", AWAY)
def test_what_waiting_mends_is_away_for_now(text: str) -> None:
    found = in_our_words(raised(text))

    assert type(found) is LedgerUnavailable
    assert (found.status, found.retryable) == (503, True)
    assert "user_script" not in str(found)


@pytest.mark.parametrize("text", [text for text in AWAY if not text.startswith("EXECABORT")])
def test_so_it_is_in_a_pipeline(text: str) -> None:
    """redis-py writes the command before what Redis has said."""
    error = raised(text)
    error.args = (IN_A_PIPELINE + str(error),)

    assert type(in_our_words(error)) is LedgerUnavailable


@pytest.mark.parametrize(
    "error",
    [
        redis.ConnectionError("Connection closed by server."),
        redis.TimeoutError("Timeout reading from socket"),
        redis.exceptions.InvalidResponse("Protocol Error: b'H'"),
        MasterNotFoundError("No master found for 'mymaster'"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_connection_that_broke_is_away_for_now(error: Exception) -> None:
    assert type(in_our_words(error)) is LedgerUnavailable


@pytest.mark.parametrize("text", WRONG)
def test_what_a_setting_mends_ends_a_start_and_is_away_later(text: str) -> None:
    found = in_our_words(raised(text))

    assert isinstance(found, LedgerMisconfigured)
    assert isinstance(found, LedgerUnavailable)
    assert (found.status, found.retryable) == (503, False)
    assert "KINDRED_REDIS_URL" in str(found)


def test_a_certificate_that_is_not_trusted_is_a_wrong_setting() -> None:
    text = (
        "Error 1 connecting to redis:6380. [SSL: CERTIFICATE_VERIFY_FAILED] unable to get issuer."
    )
    found = in_our_words(redis.ConnectionError(text))

    assert isinstance(found, LedgerMisconfigured)
    assert "KINDRED_REDIS_CA" in str(found)


def test_sentinels_that_refuse_their_password_are_a_wrong_setting() -> None:
    text = "No master found for 'm' : Redis<…> - AuthenticationError('invalid password')"

    assert isinstance(in_our_words(MasterNotFoundError(text)), LedgerMisconfigured)


@pytest.mark.parametrize("text", OURS)
def test_a_wrong_command_stays_a_fault_of_ours(text: str) -> None:
    assert isinstance(in_our_words(raised(text)), redis.ResponseError)


@pytest.mark.parametrize("client", [connect, connect_async])
def test_of_sentinels_the_master_is_asked_for_by_name_over_tls(client) -> None:
    made = client(
        "sentinels://u:p%2Fw@one:26380,[::1]/2?service=mymaster&sentinel_password=s"
        "&ssl_ca_certs=/ca.pem"
    )

    pool = made.connection_pool
    assert pool.service_name == "mymaster"
    kept = pool.connection_kwargs
    assert (kept["db"], kept["username"], kept["password"]) == (2, "u", "p/w")
    assert (kept["ssl_cert_reqs"], kept["ssl_ca_certs"]) == ("required", "/ca.pem")
    assert [
        s.connection_pool.connection_kwargs["host"] for s in pool.sentinel_manager.sentinels
    ] == [
        "one",
        "::1",
    ]
    for sentinel in pool.sentinel_manager.sentinels:
        asked = sentinel.connection_pool.connection_kwargs
        assert (asked["password"], asked["ssl_ca_certs"]) == ("s", "/ca.pem")
        assert asked["retry"].get_retries() == 0
