"""The connection to a Qdrant server: its ports, its certificate, its key, and its version."""

import logging
import re
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from qdrant_client import QdrantClient

from pipeline.base.addresses import is_loopback
from pipeline.base.errors import ConfigurationError, StoreUnavailable
from pipeline.store.server_errors import errors_at_start

logger = logging.getLogger("kindred.store")

# That of docker-compose.yml. Older ones answer some filters wrongly and refuse others: in 1.19
# `match.text` without an index is a substring in one case of letters, and there is no `substring`.
LEAST_VERSION = (1, 20)

_TIMEOUT = 30  # seconds a request; the client's own 5 are short for a write to a busy cluster

# By default gRPC waits longer and longer, up to two minutes, before it connects anew.
_RECONNECTS = {"grpc.max_reconnect_backoff_ms": 2000}

_HTTP_PORT, _GRPC_PORT = 6333, 6334  # Qdrant's own

_VERSION = re.compile(r"(\d+)\.(\d+)(\.\d+)?")


def connect(
    url: str, api_key: str | None, grpc_port: int | None = None, ca: Path | None = None
) -> QdrantClient:
    """A client of the server at `url`, over gRPC if that answers on its port, else over REST.

    `grpc_port`: None for Qdrant's own if the URL has Qdrant's own port, 0 for REST alone. `ca` is a
    PEM file of certificates to trust in place of the system's.

    Raises ConfigurationError when the server is too old, its certificate not trusted or `ca`
    unreadable, and StoreUnavailable when it cannot be reached.
    """
    port = _grpc_port_of(url) if grpc_port is None else grpc_port
    options = {**_key(url, api_key), **_trust(ca)}
    if not port:
        return _checked(_client(url, options))
    try:
        return _checked(_client(url, _over_grpc(options, port, ca)))
    except StoreUnavailable as error:
        return _over_rest_instead(url, options, port, error)


def _over_rest_instead(
    url: str, options: dict[str, Any], port: int, error: StoreUnavailable
) -> QdrantClient:
    try:
        client = _checked(_client(url, options))
    except StoreUnavailable:
        raise error from None
    logger.warning(
        "no gRPC to Qdrant, so REST is used, which is slower; see KINDRED_QDRANT_GRPC_PORT",
        extra={"port": port, "reason": str(error)},
    )
    return client


def _client(url: str, options: dict[str, Any]) -> QdrantClient:
    # The client's own check of versions is but a warning, and a thread of its own.
    return QdrantClient(url=url, timeout=_TIMEOUT, check_compatibility=False, **options)


def _checked(client: QdrantClient) -> QdrantClient:
    """Closes the client if it raises."""
    try:
        with errors_at_start():
            version = client.info().version
        _refuse_old(version)
    except BaseException:
        client.close()
        raise
    return client


def _refuse_old(version: str) -> None:
    found = _VERSION.match(version)
    if found and (int(found[1]), int(found[2])) < LEAST_VERSION:
        least = ".".join(map(str, LEAST_VERSION))
        raise ConfigurationError(
            [
                f"KINDRED_QDRANT_URL: this is Qdrant {found[0]}, which answers some filters "
                f"wrongly; Kindred needs {least} or newer. Upgrade it one minor version at a time"
            ]
        )


def _grpc_port_of(url: str) -> int:
    """A port that is not Qdrant's own is forwarded or another server's: gRPC could be anywhere."""
    port = _parts(url).port
    return _GRPC_PORT if port in (None, _HTTP_PORT) else 0


def _key(url: str, api_key: str | None) -> dict[str, Any]:
    """For `api_key` the client warns unless the line is encrypted. Loopback needs no encryption."""
    if api_key and is_loopback(_parts(url).hostname or ""):
        return {"headers": {"api-key": api_key}}
    return {"api_key": api_key}


def _parts(url: str) -> Any:
    return urlsplit(url if "://" in url else f"//{url}")


def _trust(ca: Path | None) -> dict[str, Any]:
    if ca is None:
        return {}
    try:
        return {"verify": ssl.create_default_context(cafile=ca)}
    except (OSError, ValueError):  # an SSLError is an OSError
        problem = "KINDRED_QDRANT_CA: this is not a readable file of certificates in PEM"
    raise ConfigurationError([problem])


def _over_grpc(options: dict[str, Any], port: int, ca: Path | None) -> dict[str, Any]:
    roots = {} if ca is None else {"root_certificates": ca.read_bytes()}
    return {
        **options,
        "grpc_options": {**_RECONNECTS, **roots},
        "prefer_grpc": True,
        "grpc_port": port,
    }
