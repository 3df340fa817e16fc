"""Settings are read once from the environment, and reach child processes unchanged."""

import os
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.base.settings import Settings

ROOT = Path(__file__).parents[2]
ONE, TWO = "one-of-16-letters", "two-of-16-letters"


@pytest.fixture(autouse=True)
def no_settings_around(monkeypatch):
    for name in list(os.environ):
        if name.upper().startswith("KINDRED_"):
            monkeypatch.delenv(name)


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("KINDRED_MODEL", "/models/dino")
    monkeypatch.setenv("KINDRED_BATCH_SIZE", "32")
    monkeypatch.setenv("KINDRED_LANES", "auto")
    monkeypatch.setenv("KINDRED_DATA", "/data")

    settings = Settings()

    assert settings.model == "/models/dino"
    assert settings.batch_size == 32
    assert settings.lanes == "auto"
    assert settings.blobs_of("skin") == "/data/blobs/skin"


def test_an_empty_variable_means_the_default(monkeypatch):
    """So that a compose file can hand on `${KINDRED_MODEL:-}`."""
    monkeypatch.setenv("KINDRED_MODEL", "")

    assert Settings().model == "facebook/dino-vits16"


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Settings().model = "another"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POOLING", "max"),
        ("BATCH_SIZE", "many"),
        ("BATCH_SIZE", "0"),
        ("BATCH_SIZE", "100000"),
        ("LANES", "0"),
        ("SHARD_SIZE", "-1"),
        ("SEARCH_THREADS", "0"),
        ("LEASE_SECONDS", "0"),
    ],
)
def test_nonsense_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(f"KINDRED_{name}", value)

    with pytest.raises(ValidationError):
        Settings()


@pytest.mark.parametrize(
    ("text", "keys"),
    [(ONE, (ONE,)), (f"{ONE},{TWO}", (ONE, TWO)), (f" {ONE} , ,{TWO}, ", (ONE, TWO)), ("", ())],
)
def test_api_keys_are_separated_by_commas(monkeypatch, text, keys):
    monkeypatch.setenv("KINDRED_API_KEYS", text)

    assert Settings().api_keys == keys


@pytest.mark.parametrize("name", ["API_KEYS", "QDRANT_API_KEY"])
@pytest.mark.parametrize("secret", ["changeme", "Change-Me", "secret"])
def test_placeholder_secrets_are_refused(monkeypatch, name, secret):
    monkeypatch.setenv(f"KINDRED_{name}", secret)

    with pytest.raises(ValidationError, match="placeholder"):
        Settings()


def test_keys_that_could_be_guessed_are_refused(monkeypatch):
    monkeypatch.setenv("KINDRED_API_KEYS", f"{ONE},short")

    with pytest.raises(ValidationError, match="16 characters") as refused:
        Settings()
    assert ONE not in str(refused.value)


@pytest.mark.parametrize("url", ["redis://redis:6379/0", "rediss://user@10.0.0.7:6380"])
def test_a_redis_that_others_reach_needs_a_password(url):
    with pytest.raises(ValidationError, match="password"):
        Settings(redis_url=url)


@pytest.mark.parametrize("url", ["redis://:p@redis/0", "redis://localhost", "unix:///r.sock"])
def test_a_redis_with_a_password_or_for_this_machine_alone_is_taken(url):
    assert Settings(redis_url=url).redis_url == url


def test_secrets_stay_out_of_the_repr():
    settings = Settings(
        redis_url="redis://:for-redis@redis/0",
        qdrant_api_key="for-qdrant",
        api_keys=("for-the-api-drawn",),
    )

    assert "for-" not in repr(settings)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {
            "data": "/data",
            "redis_url": "unix:///run/redis.sock?db=1",
            "qdrant_url": "http://qdrant:6333",
            "qdrant_api_key": "k",
            "batch_size": 32,
            "lease_seconds": 0.5,
            "device": "cpu",
            "api_keys": (ONE, TWO),
        },
    ],
    ids=["defaults", "values of every kind"],
)
def test_a_child_process_has_the_same_settings(monkeypatch, values):
    settings = Settings(**values)

    monkeypatch.setattr(os, "environ", settings.environment())

    assert Settings() == settings


def test_what_was_unset_does_not_come_back_in_a_child(monkeypatch):
    monkeypatch.setenv("KINDRED_QDRANT_URL", "http://elsewhere:6333")
    settings = Settings(qdrant_url=None)

    monkeypatch.setattr(os, "environ", settings.environment())

    assert Settings().qdrant_url is None


def test_a_child_keeps_the_rest_of_the_environment(monkeypatch):
    monkeypatch.setenv("HF_HOME", "/data/hub")

    assert Settings().environment()["HF_HOME"] == "/data/hub"


@pytest.mark.parametrize(
    ("redis_url", "broker_url"),
    [
        ("redis://:pass@redis:6379/0", "redis://:pass@redis:6379/0"),
        ("rediss://:pass@redis:6380/1", "rediss://:pass@redis:6380/1"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock"),
    ],
)
def test_the_broker_is_named_in_kombus_spelling(redis_url, broker_url):
    settings = Settings(redis_url=redis_url)

    assert settings.broker_url == broker_url


def test_payload_indexes_are_named_with_their_types():
    assert Settings(indexed_fields="dx=keyword, age = float,").index_schema == {
        "dx": "keyword",
        "age": "float",
    }


# --- docs/settings.md ----------------------------------------------------------------------------

CLI_VARIABLES = {"KINDRED_URL", "KINDRED_API_KEY"}


def documented() -> dict[str, tuple[str, str]]:
    """Variable → (default, meaning), of every table of the page."""
    row = re.compile(r"^\| `(KINDRED_\w+)` \| (.*) \| (.*) \|$", re.MULTILINE)
    rows = row.findall((ROOT / "docs/settings.md").read_text())
    names = [name for name, *_ in rows]
    assert len(names) == len(set(names)), "a variable is listed twice"
    return {name: (default, meaning) for name, default, meaning in rows}


def test_the_page_of_settings_is_true():
    expected = {}
    for name, field in Settings.model_fields.items():
        shown = "none" if field.default in (None, ()) else f"`{field.default}`"
        expected[f"KINDRED_{name.upper()}"] = (shown, field.description)

    page = documented()

    assert {name: page[name] for name in page.keys() - CLI_VARIABLES} == expected
    assert page.keys() >= CLI_VARIABLES


def test_the_page_lists_every_variable_that_the_code_names():
    named = set()
    for package in ("pipeline", "workers", "api", "cli"):
        for source in (ROOT / package).rglob("*.py"):
            named |= set(re.findall(r"\bKINDRED_[A-Z_]*[A-Z]\b", source.read_text()))

    assert named <= documented().keys()
