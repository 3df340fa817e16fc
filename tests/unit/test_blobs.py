"""Blobs appear whole or not at all, and never outside their folder."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from aiohttp import ClientPayloadError, ServerDisconnectedError
from botocore import exceptions as boto
from fsspec.asyn import FSTimeoutError
from fsspec.implementations.memory import MemoryFileSystem
from s3fs.errors import translate_boto_error

from pipeline.base.blobs import Blobs
from pipeline.base.errors import BlobsMisconfigured, BlobsUnavailable, KindredError


@pytest.fixture(params=["folder", "memory"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return Blobs(str(tmp_path) if request.param == "folder" else f"memory://{tmp_path}")


def test_what_is_written_is_read_and_what_is_deleted_is_gone(blobs: Blobs) -> None:
    blobs.write("a/b/one", b"1")
    blobs.write("a/b/one", b"2")
    assert blobs.read("a/b/one") == b"2"

    blobs.delete("a")
    blobs.delete("a")

    assert not blobs.exists("a/b/one")
    with pytest.raises(FileNotFoundError):
        blobs.read("a/b/one")


@pytest.mark.parametrize("name", ["../up", "a/../../up", "/etc/passwd", ""])
def test_no_name_leads_outside(blobs: Blobs, name: str) -> None:
    with pytest.raises(ValueError, match="not a blob name"):
        blobs.write(name, b"")


def test_a_write_that_fails_leaves_the_old_blob_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = Blobs(str(tmp_path))
    blobs.write("kept", b"old")

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(BlobsUnavailable, match="No space"):
        blobs.write("kept", b"new")

    assert blobs.read("kept") == b"old"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["kept"]


def test_a_disk_that_fails_is_no_row_s_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = Blobs(str(tmp_path))
    blobs.write("kept", b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    for name in ("cat_file", "rm"):
        monkeypatch.setattr(blobs._fs, name, fail)
    with pytest.raises(BlobsUnavailable, match="Input/output"):
        blobs.read("kept")
    with pytest.raises(BlobsUnavailable):
        blobs.delete("kept")


SECRET = "AKIA-patient-1931"  # whatever a client's text holds must not come out


class FailingFileSystem(MemoryFileSystem):
    """A store in memory that can fail as a client would: whatever method is called."""

    protocol = "failing"
    error: Exception | None = None
    METHODS = ("pipe_file", "cat_file", "info", "modified", "ls", "find", "rm", "rm_file")

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).removeprefix("failing://"))

    def __getattribute__(self, name: str) -> Any:
        if name in FailingFileSystem.METHODS and FailingFileSystem.error is not None:
            raise FailingFileSystem.error
        return super().__getattribute__(name)


CALLS: dict[str, Callable[[Blobs], object]] = {
    "write": lambda blobs: blobs.write("a/one", b"2"),
    "read": lambda blobs: blobs.read("a/one"),
    "exists": lambda blobs: blobs.exists("a/one"),
    "age": lambda blobs: blobs.age("a/one"),
    "names": lambda blobs: blobs.names("a"),
    "walk": lambda blobs: list(blobs.walk("a")),
    "delete": lambda blobs: blobs.delete("a/one"),
    "probe": lambda blobs: blobs.probe(),
}


def refused(code: str, status: int = 403, text: str = SECRET) -> Exception:
    """As s3fs raises what botocore made of a server's answer."""
    answer = {
        "Error": {"Code": code, "Message": text},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    translated: Exception = translate_boto_error(boto.ClientError(answer, "PutObject"))
    return translated


def untranslated(code: str) -> Exception:
    return boto.ClientError({"Error": {"Code": code, "Message": SECRET}}, "PutObject")


class AnswerError(Exception):
    """As clients over HTTP raise it: with the status, and a text of the server's."""

    def __init__(self, status: int) -> None:
        super().__init__(SECRET)
        self.status = status


# Each with what a user reads of it.
AWAY = [
    (boto.EndpointConnectionError(endpoint_url=SECRET), "EndpointConnectionError"),
    (boto.ConnectTimeoutError(endpoint_url=SECRET), "ConnectTimeoutError"),
    (boto.ReadTimeoutError(endpoint_url=SECRET), "ReadTimeoutError"),
    (boto.ConnectionClosedError(endpoint_url=SECRET), "ConnectionClosedError"),
    (boto.SSLError(endpoint_url=SECRET, error=SECRET), "SSLError"),
    (boto.ResponseStreamingError(error=SECRET), "ResponseStreamingError"),
    (boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), "IncompleteReadError"),
    (refused("SlowDown", 503), "SlowDown"),
    (refused("ServiceUnavailable", 503), "ServiceUnavailable"),
    (refused("InternalError", 500), "InternalError"),
    (refused("RequestTimeout", 400), "RequestTimeout"),
    (refused("RequestTimeTooSkewed"), "RequestTimeTooSkewed"),
    (refused(SECRET, 500), "Input/output error"),
    (untranslated("500"), "500"),
    (untranslated(SECRET), "ClientError"),
    (ClientPayloadError(SECRET), "ClientPayloadError"),
    (ServerDisconnectedError(SECRET), "ServerDisconnectedError"),
    (FSTimeoutError(SECRET), "FSTimeoutError"),
    (AnswerError(502), "502"),
    (ConnectionResetError(errno.ECONNRESET, SECRET), "Connection reset"),
    (OSError(SECRET), "OSError"),
    (RuntimeError(SECRET), "RuntimeError"),
    (KeyError(SECRET), "KeyError"),
    (UnicodeDecodeError("utf-8", b"", 0, 1, SECRET), "UnicodeDecodeError"),
]
FULL = [
    OSError(errno.ENOSPC, SECRET),
    OSError(errno.EDQUOT, SECRET),
    refused("XMinioStorageFull", 507),
    refused("QuotaExceeded", 403),
    refused("InternalError", 500, f"write {SECRET}: no space left on device"),
    AnswerError(507),
]
MISCONFIGURED = [
    (refused("AccessDenied"), "access is denied"),
    (refused("403"), "access is denied"),
    (refused("InvalidAccessKeyId"), "no such key"),
    (refused("SignatureDoesNotMatch"), "secret"),
    (refused("ExpiredToken", 400), "expired"),
    (refused("NoSuchBucket", 404), "no such bucket"),
    (refused("PermanentRedirect", 301), "region"),
    (refused("AuthorizationHeaderMalformed", 400), "region"),
    (untranslated("AccessDenied"), "access is denied"),
    (boto.NoCredentialsError(), "NoCredentialsError"),
    (boto.PartialCredentialsError(provider="env", cred_var=SECRET), "PartialCredentialsError"),
    (boto.ProfileNotFound(profile=SECRET), "ProfileNotFound"),
    (boto.ParamValidationError(report=SECRET), "ParamValidationError"),
    (ValueError(f"Invalid endpoint: {SECRET}"), "ValueError"),
    (ModuleNotFoundError(SECRET), "ModuleNotFoundError"),
    (NotImplementedError(SECRET), "NotImplementedError"),
    (PermissionError(errno.EACCES, SECRET), "PermissionError"),
    (AnswerError(401), "the key is refused"),
]


def named(case: object) -> str:
    error = case[0] if isinstance(case, tuple) else case
    return f"{type(error).__name__}-{getattr(error, '__cause__', None).__class__.__name__}"


@pytest.fixture
def store() -> Iterator[Blobs]:
    fsspec.register_implementation("failing", FailingFileSystem, clobber=True)
    blobs = Blobs("failing:///blobs")
    blobs.write("a/one", b"1")
    yield blobs
    FailingFileSystem.error = None
    blobs.delete("a")


def all_raised(store: Blobs, error: Exception) -> list[KindredError]:
    """What each call makes of the client's error. A FileNotFoundError, or any other, leaves."""
    FailingFileSystem.error = error
    found: list[KindredError] = []
    for name, call in CALLS.items():
        with pytest.raises(KindredError) as raised:
            call(store)
        found.append(raised.value)
        assert SECRET not in str(raised.value), name
        assert raised.value.__suppress_context__, f"{name} shows the client's error"
    return found


@pytest.mark.parametrize("case", AWAY, ids=named)
def test_a_store_that_is_away_is_waited_for(store: Blobs, case: tuple[Exception, str]) -> None:
    error, says = case
    for raised in all_raised(store, error):
        assert type(raised) is BlobsUnavailable
        assert raised.retryable
        assert says in str(raised)


@pytest.mark.parametrize("error", FULL, ids=named)
def test_a_store_that_is_full_says_so_and_is_waited_for(store: Blobs, error: Exception) -> None:
    for raised in all_raised(store, error):
        assert type(raised) is BlobsUnavailable
        assert "no room left" in str(raised)


@pytest.mark.parametrize("case", MISCONFIGURED, ids=named)
def test_a_wrong_setting_is_named_and_ends_no_work(
    store: Blobs, case: tuple[Exception, str]
) -> None:
    error, says = case
    for raised in all_raised(store, error):
        assert type(raised) is BlobsMisconfigured
        assert isinstance(raised, BlobsUnavailable), "else work that meets it would fail"
        assert not raised.retryable
        assert str(raised).startswith("KINDRED_BLOBS_URL")
        assert says in str(raised)


@pytest.mark.parametrize("error", [FileNotFoundError(SECRET), refused("NoSuchKey", 404)])
def test_a_blob_that_is_not_there_is_nothing_unusual(store: Blobs, error: Exception) -> None:
    FailingFileSystem.error = error
    with pytest.raises(FileNotFoundError) as missing:
        store.read("a/one")
    assert SECRET not in str(missing.value)
    assert store.exists("a/one") is False
    assert store.age("a/one") is None
    assert store.names("a") == []
    assert list(store.walk("a")) == []
    store.delete("a/one")
    with pytest.raises(BlobsUnavailable):  # what is written must not be lost in silence
        store.write("a/one", b"2")


def test_a_store_that_is_back_has_lost_nothing(store: Blobs) -> None:
    all_raised(store, boto.EndpointConnectionError(endpoint_url=SECRET))
    FailingFileSystem.error = None

    store.probe()

    assert store.read("a/one") == b"1"
    assert list(store.walk("a")) == ["a/one"]
    assert store.names("parts") == [], "the probe leaves nothing"


def test_all_that_lies_below_a_folder_is_found(blobs: Blobs) -> None:
    for name in ("a/one", "a/b/two", "a/b/c/three", "aside/four"):
        blobs.write(name, b"1")

    assert sorted(blobs.walk("a")) == ["a/b/c/three", "a/b/two", "a/one"]
    assert blobs.names("a") == ["a/b", "a/one"]
    assert list(blobs.walk("none")) == blobs.names("none") == []


def test_without_its_client_a_store_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(BlobsMisconfigured, match="extra s3"):
        Blobs("s3://bucket/blobs")
    with pytest.raises(BlobsMisconfigured):
        Blobs("no-such-protocol://bucket")


def test_the_client_of_s3_gives_up_before_a_lease_does() -> None:
    """Nor does it keep a listing, since other processes write and delete blobs too."""
    client = Blobs("s3://bucket/blobs")._fs
    waits = client.config_kwargs
    tries = waits["retries"]["total_max_attempts"] * client.retries
    assert tries * max(waits["connect_timeout"], waits["read_timeout"]) < 45
    assert not client.dircache.use_listings_cache
