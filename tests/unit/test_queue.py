"""Celery reaches Redis as the ledger does, and a message that cannot be sent is left to be sent."""

import importlib
import logging
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from kombu.exceptions import OperationalError
from kombu.transport.redis import Channel
from redis._parsers.base import BaseParser

from pipeline.base.redis_url import with_ca
from pipeline.ledger import Lease
from pipeline.operations.ingest import INGEST
from pipeline.operations.search import SEARCH
from workers.queue import IN_MEMORY, broker_of, make_app, publish_lease, publish_query


@pytest.mark.parametrize(
    ("redis_url", "broker_url"),
    [
        ("redis://:pass@redis:6379/0", "redis://:pass@redis:6379/0"),
        ("redis://u:p%2Fs@[::1]/2", "redis://u:p%2Fs@[::1]:6379/2"),
        ("rediss://:pass@redis:6380/1", "rediss://:pass@redis:6380/1"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock?virtual_host=0"),
        ("unix:///run/redis.sock?db=1", "redis+socket:///run/redis.sock?virtual_host=1"),
        (
            "sentinel://:p@one,two:26380/1?service=m",
            "sentinel://:p@one:26379/1;sentinel://:p@two:26380/1",
        ),
    ],
)
def test_the_broker_is_named_in_kombus_spelling(redis_url: str, broker_url: str) -> None:
    assert broker_of(redis_url)["broker_url"] == broker_url


@pytest.mark.parametrize("url", ["redis://h/3", "unix:///run/r.sock?db=3"])
def test_the_queues_are_in_the_database_of_the_ledger(url: str) -> None:
    unopened = object.__new__(Channel)  # else it connects
    with make_app(url, current=False).connection() as connection:
        unopened.connection = SimpleNamespace(client=connection, default_port=6379)

    assert unopened._connparams()["db"] == 3


@pytest.mark.parametrize("url", ["rediss://h", "sentinels://h?service=m"])
def test_celery_verifies_certificates(url: str) -> None:
    app = make_app(with_ca(url, "/ca.pem"), current=False)
    with app.connection() as connection:
        assert connection.ssl == {"ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.pem"}


def test_celery_verifies_nothing_of_a_redis_without_tls() -> None:
    with make_app("redis://h", current=False).connection() as connection:
        assert not connection.ssl


def test_celery_asks_sentinels_for_the_master_with_their_login() -> None:
    options = broker_of("sentinels://:p@one/0?service=m&sentinel_password=s&ssl_ca_certs=/ca.pem")[
        "broker_transport_options"
    ]

    assert options["master_name"] == "m"
    asked = options["sentinel_kwargs"]
    assert (asked["password"], asked["ssl"], asked["ssl_ca_certs"]) == ("s", True, "/ca.pem")


@pytest.mark.parametrize(
    "url", ["redis://h", "rediss://h", "unix:///run/redis.sock", "sentinel://one/0?service=m"]
)
def test_a_channel_makes_one_client_for_all_of_its_calls(url: str) -> None:
    with make_app(url, current=False).connection() as connection:
        kind: Any = connection.get_transport_cls().Channel
    channel = kind.__new__(kind)  # one that is opened as usual connects

    def client() -> Any:
        with channel.conn_or_acquire() as used:
            return used

    channel._pool = redis.ConnectionPool()
    channel.Client = redis.Redis
    first = client()
    assert client() is first
    channel._pool = redis.ConnectionPool()  # as after a fork
    assert client().connection_pool is channel._pool


def test_a_worker_waits_for_its_broker_for_ever() -> None:
    conf = make_app(IN_MEMORY, current=False).conf

    assert conf.broker_connection_max_retries is None
    assert conf.broker_channel_error_retry is True


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("Error 111 connecting to redis:6379. Connection refused."),
        BaseParser.parse_error("BUSY Redis is busy running a script."),
        BaseParser.parse_error("READONLY You can't write against a read only replica."),
        BaseParser.parse_error("OOM command not allowed when used memory > 'maxmemory'."),
    ],
    ids=["no connection", "busy", "readonly", "oom"],
)
def test_what_cannot_be_published_is_left_to_the_reconciler(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(IN_MEMORY, current=False)

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(app, "send_task", refuse)
    with caplog.at_level(logging.WARNING):
        publish_lease(app, "skin", INGEST, Lease("job", 1, "token"))
        publish_query(app, "skin", SEARCH, "request")

    assert [record.getMessage() for record in caplog.records] == [
        "not published; the reconciler will"
    ] * 2


def test_flower_is_told_what_its_url_cannot_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINDRED_REDIS_URL", "sentinels://:p@one,two/0?service=m")
    sys.modules.pop("workers.flower", None)

    conf = importlib.import_module("workers.flower").app.conf

    assert conf.broker_use_ssl == {"ssl_cert_reqs": "required"}
    assert conf.broker_transport_options["master_name"] == "m"
    assert "retry" not in conf.broker_transport_options["sentinel_kwargs"]
