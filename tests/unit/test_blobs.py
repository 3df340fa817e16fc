"""Blobs appear whole or not at all, and never outside their folder."""

import errno
import os
import socket
import ssl
import string
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from aiohttp import (
    ClientPayloadError,
    ClientResponseError,
    ServerDisconnectedError,
    client_exceptions,
)
from botocore import exceptions as boto
from fsspec.asyn import FSTimeoutError
from fsspec.implementations.memory import MemoryFileSystem
from s3fs.errors import translate_boto_error

from pipeline.base.blob_errors import translated
from pipeline.base.blobs import Blobs
from pipeline.base.errors import BlobsMisconfigured, BlobsUnavailable, KindredError
from pipeline.lifecycle.ingest import WRITERS


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


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


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
    (refused("InternalError", 500), "InternalError; its own log says why, and it may have no room"),
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
    (socket.gaierror(socket.EAI_NONAME, SECRET), "gaierror"),
    # A client that takes whatever fails for a missing file, and a proxy whose store is away.
    (caused(FileNotFoundError(SECRET), ServerDisconnectedError()), "FileNotFoundError"),
    (refused("404", 404), "FileNotFoundError"),
    (boto.CredentialRetrievalError(provider="process", error_msg=SECRET), "CredentialRetrieval"),
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
# Each with the setting that is named, and what a user reads of it.
MISCONFIGURED = [
    (refused("AccessDenied"), "AWS_ACCESS_KEY_ID", "access is denied"),
    (refused("403"), "KINDRED_BLOBS_URL", "access is denied"),
    (refused("InvalidAccessKeyId"), "AWS_ACCESS_KEY_ID", "no such key"),
    (refused("SignatureDoesNotMatch"), "AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch"),
    (refused("ExpiredToken", 400), "AWS_ACCESS_KEY_ID", "expired"),
    (refused("NoSuchBucket", 404), "KINDRED_BLOBS_URL", "no such bucket"),
    (refused("PermanentRedirect", 301), "AWS_DEFAULT_REGION", "region"),
    (refused("AuthorizationHeaderMalformed", 400), "AWS_DEFAULT_REGION", "region"),
    (refused("MissingContentLength", 411), "AWS_REQUEST_CHECKSUM_CALCULATION", "when_required"),
    (refused("400", 400), "KINDRED_BLOBS_URL", "TLS"),
    (untranslated("AccessDenied"), "AWS_ACCESS_KEY_ID", "access is denied"),
    (boto.NoCredentialsError(), "AWS_ACCESS_KEY_ID", "NoCredentialsError"),
    (
        boto.PartialCredentialsError(provider="env", cred_var=SECRET),
        "AWS_SECRET_ACCESS_KEY",
        "PartialCredentialsError",
    ),
    (boto.ProfileNotFound(profile=SECRET), "AWS_PROFILE", "ProfileNotFound"),
    (boto.ParamValidationError(report=SECRET), "KINDRED_BLOBS_URL", "ParamValidationError"),
    (
        boto.SSLError(endpoint_url=SECRET, error=ssl.SSLCertVerificationError(1, SECRET)),
        "AWS_CA_BUNDLE",
        "not trusted",
    ),
    (
        boto.HTTPClientError(error=FileNotFoundError(errno.ENOENT, SECRET)),
        "AWS_CA_BUNDLE",
        "no such file",
    ),
    (boto.HTTPClientError(error=ssl.SSLError(1, SECRET)), "AWS_CA_BUNDLE", "cannot be read"),
    (ValueError(f"Invalid endpoint: {SECRET}"), "AWS_ENDPOINT_URL", "ValueError"),
    (ValueError(SECRET), "KINDRED_BLOBS_URL", "ValueError"),
    (TypeError(SECRET), "KINDRED_BLOBS_URL", "TypeError"),
    (ModuleNotFoundError(SECRET), "KINDRED_BLOBS_URL", "ModuleNotFoundError"),
    (NotImplementedError(SECRET), "KINDRED_BLOBS_URL", "NotImplementedError"),
    (PermissionError(errno.EACCES, SECRET), "KINDRED_BLOBS_URL", "PermissionError"),
    (AnswerError(401), "KINDRED_BLOBS_URL", "the key is refused"),
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
    store: Blobs, case: tuple[Exception, str, str]
) -> None:
    error, setting, says = case
    for raised in all_raised(store, error):
        assert type(raised) is BlobsMisconfigured
        assert isinstance(raised, BlobsUnavailable), "else work that meets it would fail"
        assert not raised.retryable
        assert str(raised).startswith(f"{setting}: ")
        assert "docs/deploy.md" in str(raised)
        assert says in str(raised)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(SECRET),
        refused("NoSuchKey", 404),
        caused(FileNotFoundError(SECRET), KeyError(SECRET)),
    ],
)
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
    blobs = Blobs("s3://bucket/blobs")
    client = blobs._fs
    waits = client.config_kwargs
    tries = waits["retries"]["total_max_attempts"] * client.retries
    assert tries * max(waits["connect_timeout"], waits["read_timeout"]) < 45
    assert waits["max_pool_connections"] >= WRITERS, "previews would wait for each other"
    assert blobs._patience.options()["timeout"] < 60
    assert not client.dircache.use_listings_cache


# What botocore raises when it has called somebody, who did not answer as he should. Warnings too.
BOTO_AWAY = {
    *("BotoCoreError", "ClientError", "EventStreamError", "HTTPClientError", "ConnectionError"),
    *("ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError", "SSLError"),
    *("EndpointConnectionError", "ProxyConnectionError", "ResponseStreamingError"),
    *("IncompleteReadError", "ChecksumError", "FlexibleChecksumError", "AwsChunkedWrapperError"),
    *("CapacityNotAvailableError", "PaginationError", "UnseekableStreamError", "WaiterError"),
    *("CredentialRetrievalError", "MetadataRetrievalError", "TokenRetrievalError"),
    *("ImminentRemovalWarning", "UnsupportedTLSVersionWarning"),
    *("UndefinedModelAttributeError", "MissingServiceIdError"),
}


def exceptions_of(module: Any) -> dict[str, type[Exception]]:
    found = {n: c for n, c in vars(module).items() if isinstance(c, type)}
    return {n: c for n, c in found.items() if issubclass(c, Exception)}


def made(kind: type[Exception]) -> Exception:
    """One with a text that must not come out, however it wants to be made."""
    words = [name for _, name, _, _ in string.Formatter().parse(getattr(kind, "fmt", "")) if name]
    try:
        return kind(**dict.fromkeys(words, SECRET))
    except Exception:  # noqa: BLE001 - it wants other arguments
        return kind.__new__(kind, SECRET)


def test_whatever_botocore_raises_is_known() -> None:
    found = {name: translated(made(kind)) for name, kind in exceptions_of(boto).items()}

    away = {name for name, error in found.items() if type(error) is BlobsUnavailable}
    assert away | {"BotoCoreError"} == BOTO_AWAY
    for name, error in found.items():
        assert isinstance(error, BlobsUnavailable), name
        assert SECRET not in str(error), name


def test_whatever_aiohttp_raises_is_known() -> None:
    wrong = {name for name in exceptions_of(client_exceptions) if "URL" in name.upper()}
    wrong |= {"ClientConnectorCertificateError", "WSMessageTypeError"}
    for name, kind in exceptions_of(client_exceptions).items():
        raised: Any = kind.__new__(kind, SECRET)  # some have not even a text without the call
        if issubclass(kind, ClientResponseError):
            raised.status = 500
        error = translated(raised)
        assert isinstance(error, BlobsUnavailable), name
        assert isinstance(error, BlobsMisconfigured) == (name in wrong), name
        assert SECRET not in str(error)


def like(name: str, *bases: type[Exception], **said: Any) -> Exception:
    """As a client raises it that is not installed here."""
    error: Exception = type(name, bases or (Exception,), {})(SECRET)
    for attribute, value in said.items():
        setattr(error, attribute, value)
    return error


def ftp(name: str, text: str) -> Exception:
    error: Exception = type(name, (Exception,), {})(f"{text} {SECRET}")
    return error


class Answer:
    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


MISSING, REFUSED, NO_ROOM, GONE = FileNotFoundError, BlobsMisconfigured, "no room", BlobsUnavailable
# Read in gcsfs 2026.10, google-auth 2.63, adlfs 2026.8, azure-core 1.41, paramiko 5.1,
# smbprotocol 1.17, webdav4 0.11, requests, httpx and ftplib.
OTHERS: list[tuple[Exception, Any]] = [
    (like("HttpError", code=404), MISSING),  # gcsfs
    (like("HttpError", code=401), REFUSED),
    (like("HttpError", code="429"), GONE),
    (like("HttpError", code=503), GONE),
    (OSError(f"Forbidden: {SECRET}"), REFUSED),
    (like("NonRetryableError"), REFUSED),
    (like("ChecksumError"), GONE),
    (like("RefreshError", retryable=False), REFUSED),  # google.auth
    (like("RefreshError", retryable=True), GONE),
    (like("TransportError", retryable=False), GONE),
    (like("DefaultCredentialsError", retryable=False), REFUSED),
    (caused(ValueError(SECRET), like("RefreshError", retryable=False)), REFUSED),
    (like("ServiceRequestError"), GONE),  # azure
    (like("ServiceResponseTimeoutError"), GONE),
    (like("HttpResponseError", status_code=403, error_code="AuthorizationFailure"), REFUSED),
    (like("HttpResponseError", status_code=503, error_code="ServerBusy"), GONE),
    (like("ClientAuthenticationError", status_code=None), REFUSED),
    (like("ResourceNotFoundError", status_code=404, error_code="BlobNotFound"), MISSING),
    (like("ResourceNotFoundError", status_code=404, error_code="ContainerNotFound"), REFUSED),
    (
        caused(FileNotFoundError(SECRET), like("ResourceNotFoundError", status_code=404)),
        MISSING,
    ),
    (caused(FileNotFoundError(SECRET), like("ServiceRequestError")), GONE),
    (caused(ValueError(SECRET), like("ServiceRequestError")), GONE),
    (caused(RuntimeError(SECRET), like("HttpResponseError", status_code=403)), REFUSED),
    (like("AuthenticationException"), REFUSED),  # paramiko
    (like("BadHostKeyException"), REFUSED),
    (like("SSHException"), GONE),
    (like("NoValidConnectionsError", OSError), GONE),
    (EOFError(SECRET), GONE),
    (like("SMBAuthenticationError"), REFUSED),  # smbprotocol
    (like("LogonFailure"), REFUSED),
    (like("BadNetworkName"), REFUSED),
    (like("SMBConnectionClosed"), GONE),
    (like("DiskFull"), NO_ROOM),
    (like("SMBOSError", OSError, errno=errno.ENOENT, ntstatus=0xC0000034), MISSING),
    (like("SMBOSError", OSError, errno=0, ntstatus=0xC0000022), REFUSED),
    (like("SMBOSError", OSError, errno=0, ntstatus=0xC000007F), NO_ROOM),
    (like("SMBOSError", OSError, errno=0, ntstatus=0xC00000B5), GONE),
    (like("ResourceNotFound"), MISSING),  # webdav4
    (like("ForbiddenOperation"), REFUSED),
    (like("InsufficientStorage"), NO_ROOM),
    (like("BadGatewayError"), GONE),
    (like("HTTPError", status_code=401), REFUSED),
    (like("HTTPStatusError", response=Answer(403)), REFUSED),  # httpx, requests
    (like("HTTPStatusError", response=Answer(507)), NO_ROOM),
    (like("ConnectError"), GONE),
    (like("MissingSchema", ValueError), REFUSED),
    (ftp("error_perm", "530 Login incorrect"), REFUSED),
    (ftp("error_perm", "552 Quota"), NO_ROOM),
    (ftp("error_temp", "421 Timeout"), GONE),
    (caused(FileNotFoundError(SECRET), ftp("error_perm", "550 No such file")), MISSING),
]


def told(case: Any) -> str:
    return f"{type(case).__name__}" if isinstance(case, Exception) else ""


@pytest.mark.parametrize(("error", "meaning"), OTHERS, ids=told)
def test_what_other_clients_raise_is_known(error: Exception, meaning: Any) -> None:
    found = translated(error)

    assert SECRET not in str(found)
    if meaning == NO_ROOM:
        assert "no room left" in str(found)
    else:
        assert type(found) is meaning


def test_a_store_that_hangs_is_asked_by_one_call_at_a_time(store: Blobs) -> None:
    """Else previews alone take every thread of the api, and nothing answers any more."""
    asked, answer = threading.Event(), threading.Event()
    FailingFileSystem.error = FSTimeoutError(SECRET)
    with pytest.raises(BlobsUnavailable):
        store.read("a/one")
    FailingFileSystem.error = None

    def hang(*_: Any, **__: Any) -> bytes:
        asked.set()
        assert answer.wait(60)
        return b"1"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FailingFileSystem, "cat_file", hang)
        asking = threading.Thread(target=store.read, args=("a/one",))
        asking.start()
        assert asked.wait(60)
        for call in CALLS.values():
            with pytest.raises(BlobsUnavailable, match="does not answer"):
                call(store)
        answer.set()
        asking.join()

    for call in CALLS.values():
        call(store)
