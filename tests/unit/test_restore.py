"""How `kindred restore` ends: with what starts the system, or with the code that fits."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import workers.restore
from cli import backup
from cli.backup import how_to_start
from cli.failure import CommandError, WrongSetting
from pipeline.base.errors import (
    BlobsMisconfigured,
    BlobsUnavailable,
    ConfigurationError,
    Conflict,
    KindredError,
    LedgerMisconfigured,
    StoreUnavailable,
)
from pipeline.base.settings import Settings

REDIS, QDRANT = "unix:///run/redis.sock", "http://127.0.0.1:6333"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "start it with `kindred up`"),
        ({"qdrant_url": QDRANT}, "`kindred up`, with the same KINDRED_QDRANT_URL"),
        ({"redis_url": REDIS}, "`kindred worker` and the api with `kindred api`"),
        ({"redis_url": REDIS, "qdrant_url": QDRANT}, "`kindred worker` and the api"),
    ],
)
def test_the_last_line_says_what_starts_this_system(given: dict[str, str], says: str) -> None:
    line = how_to_start(Settings(**given))
    assert says in line
    assert ("kindred up" in line) is ("redis_url" not in given)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError(["KINDRED_QDRANT_API_KEY: the server refuses it"]), 78),
        (BlobsMisconfigured("KINDRED_BLOBS_URL: there is no such bucket"), 78),
        (LedgerMisconfigured("its maxmemory-policy is allkeys-lru"), 78),
        (BlobsUnavailable("the bucket does not answer"), 1),
        (StoreUnavailable("it is gone"), 1),
        (Conflict("This Redis contains jobs already"), 1),
    ],
)
def test_wrong_settings_end_a_restore_as_they_end_a_worker(
    error: KindredError,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(workers.restore, "restore", refuse)
    monkeypatch.setattr(sys, "argv", ["restore", "/backups/x"])

    assert workers.restore.main() == code
    assert str(error) in capsys.readouterr().err


@pytest.mark.parametrize(("code", "kind"), [(78, WrongSetting), (1, CommandError)])
def test_the_command_ends_with_the_code_of_its_process(
    code: int, kind: type[CommandError], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = SimpleNamespace(returncode=code, stderr="warning\nA setting is wrong: it is\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)

    with pytest.raises(CommandError, match="A setting is wrong") as caught:
        backup.restore(tmp_path, Settings(data=tmp_path, redis_url=REDIS))

    assert type(caught.value) is kind
