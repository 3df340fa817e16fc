"""Opens the file systems that hold blobs, and bounds how long their clients wait."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec

from pipeline.base.blob_errors import away, translated
from pipeline.base.errors import BlobsMisconfigured

# What an S3 client waits for, in seconds. Together with its retries a call ends well before a lease
# of 60 s does: else an outage that only hangs looks like a worker that hangs.
_S3_CLIENT = {
    "connect_timeout": 5,
    "read_timeout": 10,
    "retries": {"mode": "standard", "total_max_attempts": 3},
    # Of botocore's own ten, the previews of one batch wait for each other (`WRITERS`).
    "max_pool_connections": 64,
}
_S3 = ("s3://", "s3a://")

# The most that a call to S3 may take, in seconds. aiohttp waits without end for a server's leave to
# send a body ("100 Continue"), and for a connection of its own pool.
S3_PATIENCE = 50.0
# A slow line, in bytes a second: what is written may take this much longer.
_SLOWEST = 500_000

_TIMED_OUT = {"TimeoutError", "FSTimeoutError", "ReadTimeoutError", "ConnectTimeoutError"}


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


class Patience:
    """Bounds calls, and lets one at a time ask a store that hangs; it refuses the others at once.

    Else each of them would hold a thread for as long, until the process has none left for what
    needs no blob.
    """

    def __init__(self, url: str, seconds: float) -> None:
        """`seconds`: the most that a call to S3 may take, which bounds calls itself."""
        self._seconds = seconds if is_s3(url) else None
        self._hangs, self._asking = False, threading.Lock()

    def options(self, size: int = 0) -> dict[str, Any]:
        """What each call of the file system takes besides its own arguments.

        `size`: how many bytes it writes.
        """
        return {} if self._seconds is None else {"timeout": self._seconds + size / _SLOWEST}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Raises BlobsUnavailable at once if the store hangs and another call is asking it."""
        asks = self._hangs
        if asks and not self._asking.acquire(blocking=False):
            raise away("it does not answer")
        try:
            yield
            self._hangs = False
        except Exception as error:
            self._hangs = bool(_TIMED_OUT & {base.__name__ for base in type(error).__mro__})
            raise
        finally:
            if asks:
                self._asking.release()
