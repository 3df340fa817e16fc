"""Opens the file systems that hold blobs, and says what their clients' errors mean.

fsspec's clients raise what they like: botocore's errors, aiohttp's and those of other vendors are
no OSError. Each becomes one of four: the store is away for now, it has no room, a setting is
wrong, or there is no such blob.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import fsspec

from pipeline.base.errors import BlobsMisconfigured, BlobsUnavailable

# What an S3 client waits for, in seconds. Together with its retries a call must end well before a
# lease of 60 s does: else an outage that only hangs looks like a worker that hangs.
_S3_CLIENT = {
    "connect_timeout": 5,
    "read_timeout": 10,
    "retries": {"mode": "standard", "total_max_attempts": 3},
}
_S3 = ("s3://", "s3a://")

# The most that any call to S3 may take, in seconds. aiohttp waits without end for a server's leave
# to send a body ("100 Continue").
_S3_PATIENCE = 50

# Codes of S3. Only known ones are repeated: a text that a server made up could name a blob.
_MISCONFIGURED_CODES = {
    "301": "it is in another region",
    "401": "the key is refused",
    "403": "access is denied",
    "AccessDenied": "access is denied",
    "AccountProblem": "the account is refused",
    "AllAccessDisabled": "the account is refused",
    "AuthorizationHeaderMalformed": "the region or the key is wrong",
    "ExpiredToken": "the key has expired",
    "Forbidden": "access is denied",
    "IllegalLocationConstraintException": "the region is wrong",
    "InvalidAccessKeyId": "there is no such key",
    "InvalidBucketName": "no bucket can have this name",
    "InvalidSecurity": "the key is refused",
    "InvalidToken": "the key is refused",
    "NoSuchBucket": "there is no such bucket",
    "NotSignedUp": "the account is refused",
    "PermanentRedirect": "the bucket is in another region",
    "SignatureDoesNotMatch": "the secret of the key is wrong",
    "TokenRefreshRequired": "the key has expired",
    "Unauthorized": "the key is refused",
}
_FULL_CODES = {
    "507",
    "InsufficientCapacity",
    "InsufficientStorage",
    "QuotaExceeded",
    "StorageFull",
    "XMinioAdminBucketQuotaExceeded",
    "XMinioStorageFull",
}
_AWAY_CODES = {"500", "502", "503", "504", "InternalError", "ServiceUnavailable", "SlowDown"} | {
    "RequestTimeout",
    "RequestTimeTooSkewed",
}

# Names of types, since which clients are installed is not known here.
_MISCONFIGURED_TYPES = {
    "AuthenticationException",  # paramiko
    "ClientAuthenticationError",  # azure
    "DefaultCredentialsError",  # google
    "InvalidConfigError",  # from here on botocore
    "InvalidRegionError",
    "NoAuthTokenError",
    "NoCredentialsError",
    "NoRegionError",
    "ParamValidationError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "UnauthorizedSSOTokenError",
    "ImportError",
    "NotImplementedError",
    "PermissionError",
}
_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT}


def open_file_system(url: str) -> tuple[Any, str, bool]:
    """The file system, the path of `url` on it, and whether it is a local folder.

    Raises BlobsMisconfigured. Most clients only call their server later.
    """
    try:
        fs, root = fsspec.core.url_to_fs(url, **_options(url))
    except ImportError:
        raise _not_installed(url) from None
    except Exception as error:  # noqa: BLE001 - a client can raise anything
        raise translated(error) from None
    if is_s3(url):
        fs.retries = 1  # botocore tries again itself; both together multiply
    return fs, root, "file" in fs.protocol


def is_s3(url: str) -> bool:
    return url.startswith(_S3)


def call_options(url: str) -> dict[str, Any]:
    """What each call of the file system takes besides its own arguments."""
    return {"timeout": _S3_PATIENCE} if is_s3(url) else {}


def _options(url: str) -> dict[str, Any]:
    """Of the client. What the operator sets in `FSSPEC_S3` comes first."""
    if not is_s3(url):
        return {}
    theirs = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
    return {
        "config_kwargs": {**_S3_CLIENT, **theirs},
        "use_listings_cache": False,  # other processes write and delete blobs too
        "max_concurrency": 1,  # else each read first asks for the size
    }


def _not_installed(url: str) -> BlobsMisconfigured:
    if is_s3(url):
        needed = "install Kindred's extra s3 (pip install 'kindred[s3]'), which brings s3fs"
    else:
        needed = "install the package that fsspec needs for such a URL"
    return BlobsMisconfigured(f"KINDRED_BLOBS_URL: {needed}.")


@contextmanager
def disk_errors() -> Iterator[None]:
    """For local folders. FileNotFoundError stays what it is."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise away(_said(error)) from error


@contextmanager
def client_errors() -> Iterator[None]:
    """For all other file systems: FileNotFoundError, BlobsUnavailable or BlobsMisconfigured.

    The client's text goes no further, so its error is not shown as the cause either: it can hold
    keys and names.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a client can raise anything
        raise translated(error) from None


def translated(error: Exception) -> Exception:
    """FileNotFoundError, BlobsUnavailable or BlobsMisconfigured, without the client's text."""
    chain = _chain(error)
    codes = {code for each in chain for code in _codes(each)}
    if _is_full(chain, codes):
        return BlobsUnavailable("Blobs cannot be written just now: their store has no room left.")
    if (why := _setting(error, chain, codes)) is not None:
        return misconfigured(why)
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "no such blob")
    known = sorted(codes & _AWAY_CODES)
    return away(known[-1] if known else _said(error))


def away(why: str) -> BlobsUnavailable:
    return BlobsUnavailable(f"Blobs cannot be read or written just now: {why}.")


def misconfigured(why: str) -> BlobsMisconfigured:
    return BlobsMisconfigured(
        f"KINDRED_BLOBS_URL: {why}. Check the bucket, the endpoint, the region and the key"
        " (docs/deploy.md)."
    )


def _chain(error: Exception) -> list[BaseException]:
    """The error and its causes. s3fs turns botocore's errors into others, and keeps them there."""
    found: list[BaseException] = [error]
    while found[-1].__cause__ is not None and found[-1].__cause__ not in found:
        found.append(found[-1].__cause__)
    return found


def _codes(error: BaseException) -> Iterator[str]:
    """The code in botocore's response, and the HTTP status that other clients keep."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        yield str(response.get("Error", {}).get("Code"))
    for name in ("status", "status_code", "code"):
        value = getattr(error, name, None)
        if isinstance(value, int | str) and re.fullmatch(r"[45]\d\d", str(value)):
            yield str(int(value))


def _is_full(chain: list[BaseException], codes: set[str]) -> bool:
    """Some servers say it only in words."""
    return bool(codes & _FULL_CODES) or any(
        (isinstance(each, OSError) and each.errno in _FULL_ERRNOS)
        or "no space left" in str(each).lower()
        for each in chain
    )


def _setting(error: Exception, chain: list[BaseException], codes: set[str]) -> str | None:
    """What is wrong with the settings; None if nothing is."""
    for code in sorted(codes & _MISCONFIGURED_CODES.keys(), reverse=True):
        return f"{_MISCONFIGURED_CODES[code]} ({_named(code)})"
    if codes & _AWAY_CODES:
        return None
    types = {base.__name__ for each in chain for base in type(each).__mro__}
    # Clients raise a bare ValueError for an argument that they refuse, such as an endpoint.
    if types & _MISCONFIGURED_TYPES or type(error) is ValueError:
        return f"the client refuses it ({type(error).__name__})"
    return None


def _named(code: str) -> str:
    return f"{code} {HTTPStatus(int(code)).phrase}" if code.isdecimal() else code


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return type(error).__name__
