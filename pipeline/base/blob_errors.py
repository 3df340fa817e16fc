"""Says what the errors of fsspec's clients mean.

They raise what they like: botocore's errors, azure's, paramiko's and others are no OSError. Each
becomes one of four: the store is away for now, it has no room, a setting is wrong, or there is no
such blob. Names of types stand for the types, since which clients are installed is not known here.
"""

import errno
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from pipeline.base.errors import BlobsMisconfigured, BlobsUnavailable

_URL, _KEY, _SECRET = "KINDRED_BLOBS_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
_ENDPOINT, _REGION, _CA = "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE"
_CHECKSUM = ("AWS_REQUEST_CHECKSUM_CALCULATION", "the store refuses checksums: set when_required")

# By the codes of stores: the setting, and what is wrong with it. Only known codes are repeated: a
# text that a server made up could name a blob.
_WRONG_CODES = {
    "301": (_REGION, "the bucket is in another region"),
    "400": (_URL, "the endpoint does not understand the call; it may speak TLS, or be another"),
    "401": (_URL, "the key is refused"),
    "403": (_URL, "access is denied"),
    "405": (_URL, "the endpoint is no such store"),
    "411": _CHECKSUM,
    "501": (_URL, "the store cannot do what Kindred needs"),
    "530": (_URL, "the login is refused"),  # FTP
    "AccessDenied": (_KEY, "access is denied"),
    "AccountProblem": (_KEY, "the account is refused"),
    "AllAccessDisabled": (_KEY, "the account is refused"),
    "AuthorizationHeaderMalformed": (_REGION, "the region or the key is wrong"),
    "ContainerDisabled": (_URL, "the container is disabled"),  # Azure
    "ContainerNotFound": (_URL, "there is no such container"),
    "ExpiredToken": (_KEY, "the key has expired"),
    "Forbidden": (_KEY, "access is denied"),
    "IllegalLocationConstraintException": (_REGION, "the region is wrong"),
    "InvalidAccessKeyId": (_KEY, "there is no such key"),
    "InvalidBucketName": (_URL, "no bucket can have this name"),
    "InvalidSecurity": (_KEY, "the key is refused"),
    "InvalidToken": ("AWS_SESSION_TOKEN", "the token is refused"),
    "MethodNotAllowed": (_ENDPOINT, "this is no S3"),
    "MissingContentLength": _CHECKSUM,
    "NoSuchBucket": (_URL, "there is no such bucket"),
    "NotImplemented": _CHECKSUM,
    "NotSignedUp": (_KEY, "the account is refused"),
    "PermanentRedirect": (_REGION, "the bucket is in another region"),
    "SignatureDoesNotMatch": (_SECRET, "the secret of the key is wrong"),
    "TokenRefreshRequired": (_KEY, "the key has expired"),
    "Unauthorized": (_KEY, "the key is refused"),
    "XAmzContentSHA256Mismatch": _CHECKSUM,
}
_FULL_CODES = {
    *("452", "507", "552"),
    *("InsufficientCapacity", "InsufficientStorage", "QuotaExceeded", "StorageFull"),
    *("XMinioAdminBucketQuotaExceeded", "XMinioStorageFull"),
}
_AWAY_CODES = {
    *("408", "429", "500", "502", "503", "504", "InternalError", "OperationAborted"),
    *("RequestTimeout", "RequestTimeTooSkewed", "ServerBusy", "ServiceUnavailable", "SlowDown"),
}
_UNSAID = {"500", "InternalError"}  # all that rclone, among others, says of a full disk
_MISSING_CODES = {"404", "550", "BlobNotFound", "NoSuchKey", "ResourceNotFound"}

_REFUSED, _NO_KEY = "the client refuses it", "there is no key"
# Of all clients but botocore, beside the settings that some of its errors are about.
_WRONG_TYPES = {
    "ClientConnectorCertificateError": (_CA, "the certificate of the store is not trusted"),
    "SSLCertVerificationError": (_CA, "the certificate of the store is not trusted"),
    "NoCredentialsError": (_KEY, _NO_KEY),
    "PartialCredentialsError": (_SECRET, "a part of the key is missing"),
    "ProfileNotFound": ("AWS_PROFILE", "there is no such profile"),
    "NoRegionError": (_REGION, "it is missing"),
    "InvalidRegionError": (_REGION, "it is no region"),
    **dict.fromkeys(
        (
            *("ImportError", "NotImplementedError", "PermissionError", "TypeError"),
            *("InvalidURL", "NonHttpUrlClientError", "UnsupportedProtocol"),  # aiohttp, httpx
            *("InvalidSchema", "MissingSchema"),  # requests
            *("DefaultCredentialsError", "MutualTLSChannelError", "ClientCertError"),  # google
            *("OAuthError", "RefreshError", "UserAccessTokenError", "NonRetryableError"),
            *("ClientAuthenticationError", "SerializationError"),  # azure
            *("AuthenticationException", "BadHostKeyException", "IncompatiblePeer"),  # paramiko
            *("CouldNotCanonicalize", "ConfigParseError"),
            *("AccessDenied", "BadNetworkName", "LogonFailure", "PasswordExpired"),  # smbprotocol
            *("PrivilegeNotHeld", "SMBAuthenticationError", "WrongPassword"),
            "ForbiddenOperation",  # webdav4
        ),
        (_URL, _REFUSED),
    ),
}
_FULL_TYPES = {"DiskFull", "InsufficientStorage"}  # smbprotocol, webdav4
_MISSING_TYPES = {
    "FileNotFoundError",
    "ResourceNotFoundError",  # azure
    "ResourceNotFound",  # webdav4
    *("NoSuchFile", "ObjectNameNotFound", "ObjectPathNotFound"),  # smbprotocol
}
# What is looked up in vain, in a listing: the cause of a FileNotFoundError, and no more than that.
_LOOKED_UP = {"KeyError", "IndexError", "StopIteration"}
# What botocore raises after it has called somebody. All else of it is about its settings.
_CALLED = {
    *("HTTPClientError", "ConnectionError", "ClientError", "ResponseParserError"),
    *("IncompleteReadError", "ChecksumError", "FlexibleChecksumError", "AwsChunkedWrapperError"),
    *("CapacityNotAvailableError", "PaginationError", "UnseekableStreamError", "WaiterError"),
    # Who gives keys can be away too.
    *("CredentialRetrievalError", "MetadataRetrievalError", "TokenRetrievalError"),
}
_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT}
_FULL_WORDS = ("no space left", "disk quota exceeded", "not enough space")  # of some servers
# smbclient gives these no number of ours.
_NT_FULL = {0xC000007F, 0xC0000044}
_NT_REFUSED = {0xC0000022, 0xC000006D, 0xC000006A, 0xC0000071, 0xC0000072, 0xC00000CC}


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
    if isinstance(error, BlobsUnavailable):
        return error
    chain = _chain(error)
    codes = {code for each in chain for code in _codes(each)}
    if codes & _FULL_CODES or any(map(_is_full, chain)):
        return BlobsUnavailable("Blobs cannot be written just now: their store has no room left.")
    if (wrong := _wrong(error, chain, codes)) is not None:
        return misconfigured(*wrong)
    if _is_missing(error) and all(_is_missing(e) or _LOOKED_UP & _types(e) for e in chain[1:]):
        return FileNotFoundError(errno.ENOENT, "no such blob")
    known = sorted(codes & _AWAY_CODES)
    if known and known[-1] in _UNSAID:
        return away(f"{known[-1]}; its own log says why, and it may have no room left")
    return away(known[-1] if known else _said(error))


def away(why: str) -> BlobsUnavailable:
    return BlobsUnavailable(f"Blobs cannot be read or written just now: {why}.")


def misconfigured(why: str, setting: str = _URL) -> BlobsMisconfigured:
    return BlobsMisconfigured(
        f"{setting}: {why}. What a store of blobs needs is in docs/deploy.md, An object store."
    )


def _chain(error: BaseException) -> list[BaseException]:
    """The error and its causes. s3fs turns botocore's errors into others, and keeps them there."""
    found = [error]
    while (cause := _cause(found[-1])) is not None and cause not in found:
        found.append(cause)
    return found


def _cause(error: BaseException) -> BaseException | None:
    """botocore keeps that of its own errors among the words of their texts."""
    words = getattr(error, "kwargs", None)
    inner = words.get("error") if isinstance(words, dict) else None
    return inner if isinstance(inner, BaseException) else error.__cause__


def _codes(error: BaseException) -> Iterator[str]:
    """The code in botocore's response, azure's own, and the status that others keep."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        yield str(response.get("Error", {}).get("Code"))
    for holder in (error, response):
        yield from _code(getattr(holder, "error_code", None))
        # The first that there is: some only warn that they are the old name of another.
        found = (getattr(holder, name, None) for name in ("status", "status_code", "code"))
        yield from _code(next((each for each in found if each is not None), None))
    if {"error_perm", "error_temp"} & _types(error):  # of FTP, whose text begins with it
        yield from _code(_text(error)[:3])


def _code(value: Any) -> Iterator[str]:
    value = getattr(value, "value", value)  # azure's are an enumeration
    if isinstance(value, int | str) and re.fullmatch(r"[345]\d\d|[A-Z][A-Za-z]+", str(value)):
        yield str(value)


def _text(error: BaseException) -> str:
    """What it says, which is only looked at."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - not even that is sure
        return ""


def _types(error: BaseException) -> set[str]:
    return {base.__name__ for base in type(error).__mro__}


def _is_full(error: BaseException) -> bool:
    return (
        getattr(error, "errno", None) in _FULL_ERRNOS
        or getattr(error, "ntstatus", None) in _NT_FULL
        or bool(_types(error) & _FULL_TYPES)
        or any(words in _text(error).lower() for words in _FULL_WORDS)
    )


def _is_missing(error: BaseException) -> bool:
    """Only a store that answers can say so.

    Some clients raise FileNotFoundError for whatever fails, and a proxy whose store is away can
    answer 404: where S3 itself says so, it gives its own code.
    """
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return bool({*_codes(error)} & (_MISSING_CODES - {"404"}))
    return (
        getattr(error, "errno", None) == errno.ENOENT
        or bool(_types(error) & _MISSING_TYPES)
        or bool({*_codes(error)} & _MISSING_CODES)
    )


def _wrong(error: Exception, chain: list[BaseException], codes: set[str]) -> tuple[str, str] | None:
    """What is wrong, and with which setting; None if nothing is."""
    for code in sorted(codes & _WRONG_CODES.keys(), reverse=True):
        setting, why = _WRONG_CODES[code]
        return f"{why} ({_named(code)})", setting
    if codes & _AWAY_CODES or any(getattr(each, "retryable", None) is True for each in chain):
        return None
    types = [name for each in chain for name in sorted(_types(each))]
    for name in sorted({*types} & _WRONG_TYPES.keys(), key=types.index):
        setting, why = _WRONG_TYPES[name]
        return f"{why} ({type(error).__name__})", setting
    if "BotoCoreError" in types and not _CALLED.intersection(types):
        return f"{_REFUSED} ({type(error).__name__})", _URL
    return _of_its_own(error, chain)


def _of_its_own(error: Exception, chain: list[BaseException]) -> tuple[str, str] | None:
    """What clients raise of Python's own types."""
    root = chain[-1]
    if (
        len(chain) > 1
        and _types(root) & {"FileNotFoundError"}
        and "HTTPClientError" in _types(error)
    ):
        return f"there is no such file ({type(error).__name__})", _CA
    if type(root) is ssl.SSLError:
        return f"it cannot be read, or the endpoint speaks no TLS ({type(error).__name__})", _CA
    if type(root) is ValueError:  # for an argument that they refuse, such as an endpoint
        setting = _ENDPOINT if _text(root).startswith("Invalid endpoint") else _URL
        return f"{_REFUSED} ({type(error).__name__})", setting
    if type(root) is OSError and _text(root).startswith("Forbidden"):  # gcsfs
        return "access is denied (403 Forbidden)", _URL
    if getattr(root, "ntstatus", None) in _NT_REFUSED:
        return f"access is denied ({type(error).__name__})", _URL
    return None


def _named(code: str) -> str:
    known = {status.value: status.phrase for status in HTTPStatus}
    phrase = known.get(int(code), "") if code.isdecimal() else ""
    return f"{code} {phrase}".strip()


def _said(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number > 0:  # those of names that nobody resolves are negative
        return os.strerror(number)
    return type(error).__name__
