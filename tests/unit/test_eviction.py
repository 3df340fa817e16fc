"""A Redis that would throw jobs away is refused, however it says so."""

import logging
from pathlib import Path
from typing import Any

import pytest
import redis
from redis._parsers.base import BaseParser

from api import checks
from pipeline.base.errors import LedgerMisconfigured, LedgerUnavailable
from pipeline.base.settings import Settings
from pipeline.ledger import Ledgers, Timing
from tests.memory_api import MemoryApi

FORBIDDEN = [
    "NOPERM this user has no permissions to run the 'config|get' command",
    "ERR unknown command 'CONFIG', with args beginning with: 'GET' 'maxmemory-policy' ",
    "ERR Command is not available: 'CONFIG'.",
]


class Managed:
    """Answers with what it is given: a policy, nothing, or an error."""

    def __init__(self, config: str | None, info: str | None) -> None:
        self._config, self._info = config, info

    def config_get(self, name: str) -> dict[str, str]:
        return _answer(self._config, name)

    def info(self, section: str) -> dict[str, str]:
        assert section == "memory"
        return _answer(self._info, "maxmemory_policy")

    def register_script(self, source: str) -> Any:
        return None


def _answer(given: str | None, name: str) -> dict[str, str]:
    if given and " " in given:
        raise BaseParser.parse_error(given)
    return {} if given is None else {name: given}


def ledgers(config: str | None, info: str | None) -> Ledgers:
    return Ledgers("", Timing(), redis=Managed(config, info))


@pytest.mark.parametrize("config", ["noeviction", *FORBIDDEN, None])
def test_one_that_keeps_everything_is_taken(config: str | None) -> None:
    ledgers(config, "noeviction").check_eviction()


@pytest.mark.parametrize("config", ["allkeys-lru", "volatile-ttl"])
def test_one_that_evicts_is_refused_by_its_name(config: str) -> None:
    with pytest.raises(LedgerMisconfigured, match=f"{config}.*noeviction"):
        ledgers(config, "noeviction").check_eviction()


@pytest.mark.parametrize("config", [*FORBIDDEN, None])
def test_where_config_is_forbidden_info_says_it(config: str | None) -> None:
    with pytest.raises(LedgerMisconfigured, match="volatile-lru"):
        ledgers(config, "volatile-lru").check_eviction()


@pytest.mark.parametrize("info", [*FORBIDDEN, None])
def test_what_cannot_be_known_is_said_once(
    info: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    asked = ledgers(FORBIDDEN[0], info)
    with caplog.at_level(logging.WARNING):
        asked.check_eviction()
        asked.check_eviction()

    assert len(caplog.records) == 1
    assert "maxmemory-policy" in caplog.text


def test_a_redis_that_is_busy_is_away_and_not_unknown() -> None:
    with pytest.raises(LedgerUnavailable) as found:
        ledgers("BUSY Redis is busy running a script.", None).check_eviction()
    assert not isinstance(found.value, LedgerMisconfigured)


@pytest.mark.story
def test_a_real_redis_is_asked(backend: Any) -> None:
    if not backend.url:
        pytest.skip("a Redis in memory knows no policies")
    with redis.Redis.from_url(backend.url) as client:
        backend.ledgers().check_eviction()
        client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(LedgerMisconfigured, match="allkeys-lru"):
            backend.ledgers().check_eviction()
        client.config_set("maxmemory-policy", "noeviction")


def test_the_api_does_not_start_with_one_that_evicts_and_does_without_an_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for policy in ("allkeys-lru", "BUSY Redis is busy running a script."):
        asked = ledgers(policy, None)
        monkeypatch.setattr(asked, "check_schema", lambda: None)
        monkeypatch.setattr(asked, "close", lambda: None)
        monkeypatch.setattr(checks, "Ledgers", lambda *_, asked=asked: asked)
        if " " in policy:
            checks.check_redis(Settings(data=tmp_path))
            continue
        with pytest.raises(LedgerMisconfigured):
            checks.check_redis(Settings(data=tmp_path))


def test_readiness_says_that_it_evicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Ledgers) -> None:
        raise LedgerMisconfigured("Its maxmemory-policy is allkeys-lru.")

    monkeypatch.setattr(Ledgers, "check_eviction", refuse)
    answer = MemoryApi(tmp_path).http.get("/readyz")

    assert answer.status_code == 503
    assert "allkeys-lru" in answer.json()["detail"]
