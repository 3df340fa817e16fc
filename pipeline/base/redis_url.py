"""The URL of Redis, read once: redis-py and Celery spell the same address in different ways.

    redis://[[user]:password@]host[:6379][/database]
    rediss://…                                          the same over TLS
    unix://[[user]:password@]/path/of/socket[?db=1]
    sentinel://[[user]:password@]host[:26379],host…[/database]?service=NAME
    sentinels://…                                       Sentinels and Redis over TLS

The user and the password are those of Redis; those of the Sentinels are `sentinel_username` and
`sentinel_password` in the query. Over TLS, the query can have `ssl_ca_certs`, and `ssl_certfile`
and `ssl_keyfile` for a Redis that wants the client's certificate.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

_PORTS = {"redis": 6379, "rediss": 6379, "sentinel": 26379, "sentinels": 26379}
_OVER_TLS = frozenset({"rediss", "sentinels"})
_CA = "ssl_ca_certs"
_TLS_OPTIONS = frozenset({_CA, "ssl_certfile", "ssl_keyfile"})
_REDIS_OPTIONS = frozenset(
    {"client_name", "db", "health_check_interval", "max_connections", "protocol"}
    | {"socket_connect_timeout", "socket_keepalive", "socket_timeout"}
)  # redis-py's, of those that a URL can hold
_SENTINEL_OPTIONS = frozenset({"service", "sentinel_username", "sentinel_password"})

# What says the same as we do in any case: certificates and names are always verified.
_ALWAYS = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}

_HOSTS = "its hosts are host:port, separated by commas for Sentinels"
_ENCODED = "in a login, all but letters and digits is written as %-codes, such as %23 for #"


@dataclass(frozen=True)
class RedisAddress:
    """`hosts`: of Redis, or of the Sentinels if there is a `service`; none if there is a `socket`.

    `tls`: options for redis-py that begin with ssl_; None without TLS.
    """

    hosts: tuple[tuple[str, int], ...]
    socket: str
    database: int
    username: str | None
    password: str | None = field(repr=False)
    tls: Mapping[str, str] | None
    service: str = ""
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)


def parse_redis_url(url: str) -> RedisAddress:
    """Raises ValueError, with a sentence that quotes nothing of the URL."""
    parts = _parts(url)
    query = dict(parse_qsl(parts.query))
    login, _, hosts = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    is_socket, is_sentinel = parts.scheme == "unix", parts.scheme in ("sentinel", "sentinels")
    if is_sentinel:
        _refuse_other_options(query)
    else:
        _refuse_others(query, _REDIS_OPTIONS | _TLS_OPTIONS | _ALWAYS.keys())
    return RedisAddress(
        hosts=() if is_socket else _hosts(hosts, _PORTS[parts.scheme], several=is_sentinel),
        socket=unquote(parts.path) if is_socket else "",
        database=_database(parts, query, is_socket),
        username=unquote(username) or None,
        password=unquote(password) or None,
        tls=_tls(parts.scheme, query),
        service=query.get("service", "") if is_sentinel else "",
        sentinel_username=query.get("sentinel_username"),
        sentinel_password=query.get("sentinel_password"),
    )


def _parts(url: str) -> SplitResult:
    if not url.startswith(tuple(f"{scheme}://" for scheme in (*_PORTS, "unix"))):
        raise ValueError(
            "the URL begins with redis://, rediss://, unix://, sentinel:// or sentinels://"
        )
    try:
        parts = urlsplit(url)
    except ValueError:  # it can quote the login
        raise ValueError(_ENCODED) from None
    if "#" in url:
        raise ValueError(_ENCODED)
    return parts


def with_ca(url: str, ca: str) -> str:
    """The same URL with the file of the CA in it. Raises ValueError for one without TLS."""
    parts = urlsplit(url)
    if parts.scheme not in _OVER_TLS:
        raise ValueError("KINDRED_REDIS_CA is set, so it must begin with rediss:// or sentinels://")
    query = [(name, value) for name, value in parse_qsl(parts.query) if name != _CA]
    return parts._replace(query=urlencode([*query, (_CA, ca)])).geturl()


def _hosts(text: str, default: int, *, several: bool) -> tuple[tuple[str, int], ...]:
    entries = text.split(",")
    if len(entries) > 1 and not several:
        raise ValueError("several hosts are those of Sentinels: sentinel://…?service=NAME")
    if len(entries) > 1 and not all(entries):
        raise ValueError(_HOSTS)
    return tuple(_host(entry, default) for entry in entries)


def _host(entry: str, default: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{entry}")
        return parts.hostname or "localhost", parts.port or default
    except ValueError:
        raise ValueError(_HOSTS) from None


def _database(parts: SplitResult, query: Mapping[str, str], is_socket: bool) -> int:
    path = "" if is_socket else parts.path.strip("/")
    number = query.get("db", path) or "0"
    if not (number.isascii() and number.isdigit()):
        raise ValueError("the database after the host is a number")
    return int(number)


def _tls(scheme: str, query: Mapping[str, str]) -> Mapping[str, str] | None:
    options = {name: value for name, value in query.items() if name.startswith("ssl_")}
    if scheme not in _OVER_TLS:
        if options:
            raise ValueError("options ssl_… need rediss:// or sentinels://")
        return None
    for name, only in _ALWAYS.items():
        if options.pop(name, only).lower() != only:
            raise ValueError(
                "certificates are always verified: name those of a private CA in KINDRED_REDIS_CA"
            )
    _refuse_others(options, _TLS_OPTIONS)
    return MappingProxyType({**options, "ssl_cert_reqs": "required"})


def _refuse_other_options(query: Mapping[str, str]) -> None:
    if not query.get("service"):
        raise ValueError("Sentinels need the name of their master: sentinel://…?service=NAME")
    known = _SENTINEL_OPTIONS | _TLS_OPTIONS | _ALWAYS.keys() | {"db"}
    _refuse_others(query, known)


def _refuse_others(query: Mapping[str, str], known: Collection[str]) -> None:
    """Quotes only what resembles an option of ours: all else can be a part of a password."""
    if unknown := query.keys() - set(known):
        like = [name for name in sorted(unknown) if get_close_matches(name, known)]
        raise ValueError(f"no such option: {', '.join(like)}" if like else _ENCODED)
