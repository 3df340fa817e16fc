"""Settings are read once from the environment, and reach child processes unchanged."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import certifi
import pytest
from pydantic import ValidationError

from cli.main import run
from pipeline.base.errors import ConfigurationError
from pipeline.base.redis_url import parse_redis_url
from pipeline.base.settings import (
    IndexType,
    Settings,
    as_text,
    load_settings,
    unknown_lines,
    unknown_variables,
    warn_of_unknown_variables,
)

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
        ("INDEXED_FIELDS", "dx"),
        ("COLLECTION", "a:b"),
        ("LESION_FIELD", "shoe_size"),
        ("LESION_FIELD", "age"),
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


@pytest.mark.parametrize(
    "url",
    [
        "redis://redis:6379/0",
        "rediss://user@10.0.0.7:6380",
        "sentinel://localhost,two/0?service=m",
        "sentinel://localhost,two/0?service=m&sentinel_password=s",
    ],
)
def test_a_redis_that_others_reach_needs_a_password(url):
    with pytest.raises(ValidationError, match="password"):
        Settings(redis_url=url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:p@redis/0",
        "redis://localhost",
        "unix:///r.sock",
        "sentinel://:p@one,two/0?service=m",
        "sentinel://localhost,127.0.0.1:26380/0?service=m",
    ],
)
def test_a_redis_with_a_password_or_for_this_machine_alone_is_taken(url):
    assert Settings(redis_url=url).redis_url == url


@pytest.mark.parametrize("url", ["http://:drawn@redis", "sentinel://:drawn@one/0"])
def test_a_url_that_makes_no_sense_is_refused_and_not_quoted(monkeypatch, url):
    monkeypatch.setenv("KINDRED_REDIS_URL", url)

    with pytest.raises(ConfigurationError, match="KINDRED_REDIS_URL: ") as refused:
        load_settings()
    assert "drawn" not in str(refused.value)


def test_the_ca_of_redis_is_in_its_url_for_all_that_connect(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("ca.pem").write_bytes(Path(certifi.where()).read_bytes())

    settings = Settings(redis_url="rediss://:p@redis/0", redis_ca="ca.pem")

    absolute = str(tmp_path / "ca.pem")
    assert parse_redis_url(settings.redis_url).tls["ssl_ca_certs"] == absolute
    monkeypatch.setattr(os, "environ", settings.environment())
    assert Settings() == settings


@pytest.mark.parametrize("contents", [None, "no certificate"])
def test_a_ca_of_redis_that_cannot_be_read_is_refused(monkeypatch, tmp_path, contents):
    monkeypatch.setenv("KINDRED_REDIS_CA", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("KINDRED_REDIS_URL", "rediss://:p@redis/0")
    if contents:
        (tmp_path / "ca.pem").write_text(contents)

    with pytest.raises(ConfigurationError, match=r"KINDRED_REDIS_CA: .*PEM"):
        load_settings()


def test_a_ca_for_a_redis_without_tls_is_refused():
    with pytest.raises(ValidationError, match="rediss://"):
        Settings(redis_url="redis://:p@redis/0", redis_ca=certifi.where())


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
            "rate_limit": 0,
            "sources": "/srv/images, hub:org/*",
            "indexed_fields": "dx=keyword, age = float",
        },
        {"sources": (), "indexed_fields": {}, "api_keys": ()},
    ],
    ids=["defaults", "values of every kind", "nothing, where the default is something"],
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


def test_payload_indexes_are_named_with_their_types(monkeypatch):
    monkeypatch.setenv("KINDRED_INDEXED_FIELDS", "dx=keyword, age = float,")

    assert Settings().indexed_fields == {"dx": "keyword", "age": "float"}


@pytest.mark.parametrize("entry", ["dx=geo", "dx", "dx=", "=keyword", "dx=Keyword"])
def test_an_index_of_no_type_is_named_with_the_types_that_there_are(monkeypatch, entry):
    monkeypatch.setenv("KINDRED_INDEXED_FIELDS", f"age=float,{entry}")

    with pytest.raises(ConfigurationError) as refused:
        load_settings()

    [line] = str(refused.value).splitlines()
    assert line.startswith(f"KINDRED_INDEXED_FIELDS: {entry!r} is not NAME=TYPE")
    assert line.endswith(", ".join(get_args(IndexType)))


def test_sources_are_separated_by_commas(monkeypatch):
    monkeypatch.setenv("KINDRED_SOURCES", " /srv/images , ,hub:org/*, ")

    assert Settings().sources == ("/srv/images", "hub:org/*")


@pytest.mark.parametrize("name", ["k", "kindred", "Skin_2.v-1", "0", "a" * 100])
def test_a_collection_has_a_plain_name(name):
    assert Settings(collection=name).collection == name


@pytest.mark.parametrize(
    "name", ["a:b", ".hidden", "-x", "_x", "..", "a/b", "a b", "a\n", "é", "a" * 101, ""]
)
def test_a_collection_whose_name_would_break_keys_and_folders_is_refused(name):
    with pytest.raises(ValidationError, match="100 letters and digits"):
        Settings(collection=name)


# --- what is wrong -------------------------------------------------------------------------------


def test_every_wrong_setting_is_a_line_without_its_value(monkeypatch):
    monkeypatch.setenv("KINDRED_LANES", "a-secret")
    monkeypatch.setenv("KINDRED_POOLING", "a-secret")
    monkeypatch.setenv("KINDRED_REDIS_URL", "redis://a-secret/0")
    monkeypatch.setenv("KINDRED_COLLECTION", "a:secret")
    monkeypatch.setenv("KINDRED_API_KEYS", "a-secret")

    with pytest.raises(ConfigurationError) as refused:
        load_settings(rate_limit=-1)

    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is refused.value.__context__ is None
    assert not refused.value.retryable
    assert refused.value.problems == tuple(str(refused.value).splitlines())
    assert [line.partition(": ")[0] for line in refused.value.problems] == [
        f"KINDRED_{name}"
        for name in ("REDIS_URL", "COLLECTION", "POOLING", "LANES", "API_KEYS", "RATE_LIMIT")
    ]


def test_overrides_go_before_the_environment(monkeypatch):
    monkeypatch.setenv("KINDRED_LANES", "x")

    assert load_settings(lanes=2).lanes == 2


@pytest.mark.parametrize("module", ["workers", "workers.health", "workers.restore", "api"])
def test_a_process_with_a_wrong_setting_says_so_in_one_line(module):
    done = subprocess.run(
        [sys.executable, "-m", module, *(["backup"] if module == "workers.restore" else [])],
        env={**os.environ, "KINDRED_LANES": "x", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (done.returncode, done.stdout) == (78, "")
    [line] = done.stderr.splitlines()
    assert "A setting is wrong: KINDRED_LANES: Input should be a valid integer" in line


@pytest.mark.parametrize("command", [["up"], ["keys", "list"], ["restore", "backup"]])
def test_a_command_with_a_wrong_setting_says_so_in_one_line(monkeypatch, capsys, command):
    monkeypatch.setenv("KINDRED_LANES", "x")
    monkeypatch.setenv("KINDRED_DTYPE", "x")

    assert run(command) == 78

    [line] = capsys.readouterr().err.splitlines()
    assert re.search("^kindred: KINDRED_DTYPE: .*; KINDRED_LANES: Input should be", line)


# --- what is no setting --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("KINDRED_LANE", "KINDRED_LANES"),
        ("KINDRED_REDIS", "KINDRED_REDIS_URL"),
        ("KINDRED_APIKEYS", "KINDRED_API_KEYS"),
        ("kindred_lane", "KINDRED_LANES"),
        ("KINDRED_", None),
        ("KINDRED_XYZZY", None),
    ],
)
def test_a_variable_that_is_no_setting_is_named_with_the_nearest(variable, nearest):
    environment = {variable: "a secret", "KINDRED_DATA": "/data", "HOME": "/"}

    assert unknown_variables(environment) == [(variable, nearest)]


@pytest.mark.parametrize(
    "variable", ["KINDRED_LANES", "kindred_lanes", "KINDRED_URL", "KINDRED_TEST_X", "KINDREDLANE"]
)
def test_no_other_variable_is_named(variable):
    assert unknown_variables({variable: "1"}) == []


def test_the_warning_is_a_line_without_the_value(monkeypatch, caplog):
    monkeypatch.setenv("KINDRED_LANE", "a secret")
    monkeypatch.setenv("KINDRED_XYZZY", "a secret")

    warn_of_unknown_variables()

    assert unknown_lines(os.environ) == [
        "KINDRED_LANE is no setting; did you mean KINDRED_LANES?",
        "KINDRED_XYZZY is no setting",
    ]
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
        (logging.WARNING, line) for line in unknown_lines(os.environ)
    ]


# Each goes on to a fault that ends it at once: no Redis, no key for an address that others reach.
@pytest.mark.parametrize("arguments", [["workers"], ["api", "--host", "0.0.0.0"]])  # noqa: S104
def test_a_process_warns_when_it_starts(tmp_path, arguments):
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        env={
            **os.environ,
            "KINDRED_LANE": "3",
            "KINDRED_DATA": str(tmp_path),
            "KINDRED_REDIS_URL": f"unix://{tmp_path}/no.sock",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode in (75, 78)
    warning = "WARNING kindred.settings KINDRED_LANE is no setting; did you mean KINDRED_LANES?\n"
    assert warning in done.stderr


def test_up_warns_where_it_was_started(monkeypatch, capsys):
    monkeypatch.setenv("KINDRED_LANE", "3")

    assert run(["up", "--host", "0.0.0.0"]) != 0  # noqa: S104 - refused, for it has no keys

    said = capsys.readouterr().out
    assert said == "warning: KINDRED_LANE is no setting; did you mean KINDRED_LANES?\n"


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
        shown = "none" if field.default in (None, (), "") else f"`{as_text(field.default)}`"
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
