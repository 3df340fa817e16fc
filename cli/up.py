"""`kindred up`: the stand-alone system, in one folder and on one machine."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import typer

from cli.failure import printable
from cli.preflight import claim_ports, kept_password, locked, refuse_open_host
from cli.processes import Child, Program, module_command, module_environment
from cli.redis_server import RedisServer, find_redis_server
from cli.supervisor import Stop, Supervisor
from cli.warm import Warm, WarmChild
from cli.workers import settings_of_environment, worker_programs
from pipeline.base.keys import Keys
from pipeline.base.schema import check_folder
from pipeline.base.settings import Settings, unknown_lines

QUIET_SECONDS = 3.0  # of waiting, before we print what for
SOCKET_PATH_LIMIT = 100  # characters; sun_path has 104 on macOS and 108 on Linux
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - who may send images is a setting, by default nobody
EVERY_SOURCE = ("/", "hub:*")
FLOWER_USER = "kindred"
FLOWER_SAVES = 30_000  # milliseconds between two saves of what Flower has seen


@dataclass(frozen=True)
class System:
    """What to run, with the folder absolute and the ports found."""

    settings: Settings
    host: str
    port: int
    flower_port: int
    dicom_port: int | None = None

    @property
    def url(self) -> str:
        """Where it can be reached from this machine."""
        wildcard = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
        host = wildcard.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def password_file(self) -> Path:
        return self.settings.data / "flower.password"

    def log(self, name: str) -> Path:
        return self.settings.data / "logs" / f"{name}.log"


def run_up(
    data: Path | None, host: str, port: int, flower_port: int, dicom_port: int | None = None
) -> None:
    """Returns when a signal asked it to stop and all has stopped."""
    settings = load_settings(data)
    for line in unknown_lines(os.environ):
        say(f"warning: {line}")
    has_keys = Keys.of(settings.keys_file, settings.api_keys).needed
    refuse_open_host(host, has_keys=has_keys)
    settings = with_sources(settings, has_keys=has_keys)
    with locked(settings.data, say) as lock, Stop() as stop:
        check_folder(settings.data)
        wanted = [(host, port, "--port"), ("127.0.0.1", flower_port, "--flower-port")]
        if dicom_port is not None:
            wanted.append((EVERY_ADDRESS, dicom_port, "--dicom-port"))
        ports = claim_ports(wanted)
        (settings.data / "logs").mkdir(mode=0o700, exist_ok=True)
        supervisor = Supervisor(stop, say)
        system = System(settings, host, *ports)
        # It imports while Redis starts.
        with Warm(_workers(system)[0]) as warm, private_folder() as private:
            try:
                _run(supervisor, system, private, lock, warm)
            finally:
                supervisor.stop_all()
    say("stopped")


def load_settings(data: Path | None) -> Settings:
    """From the environment, with the folder absolute, since a worker may run in another one."""
    settings = settings_of_environment()
    folder = (data or settings.data).expanduser().absolute()
    return settings.model_copy(update={"data": folder})


def with_sources(settings: Settings, *, has_keys: bool) -> Settings:
    """Without keys, only this machine can call, and may ingest whatever this user can read."""
    if has_keys or "sources" in settings.model_fields_set:
        return settings
    return settings.model_copy(update={"sources": EVERY_SOURCE})


@contextmanager
def private_folder() -> Iterator[Path]:
    """For the socket of Redis: its path must be short, and only this user may pass."""
    parent = tempfile.gettempdir()
    if len(parent) > SOCKET_PATH_LIMIT - len("/kindred-12345678/redis.sock"):
        parent = "/tmp"  # noqa: S108 - mkdtemp makes a folder of its own in it
    with tempfile.TemporaryDirectory(
        prefix="kindred-", dir=parent, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


def say(line: str) -> None:
    """Ignores a closed pipe, which is no reason to leave children behind."""
    try:
        typer.echo(printable(line))
    except OSError:
        return


# --- starting ------------------------------------------------------------------------------------


def _run(supervisor: Supervisor, system: System, private: Path, lock: int, warm: Warm) -> None:
    if "redis_url" not in system.settings.model_fields_set:
        redis = RedisServer(
            find_redis_server(), system.settings.data / "redis", private / "redis.sock"
        )
        if not _start_redis(supervisor, system, redis, lock):
            return
        settings = system.settings.model_copy(update={"redis_url": redis.url})
        system = replace(system, settings=settings)
    for program in _workers(system):
        supervisor.add(WarmChild(program, warm, keeps_open=[lock]))
    for program in _others(system):
        supervisor.add(Child(program, keeps_open=[lock]))
    say(f"flower: http://127.0.0.1:{system.flower_port} as {FLOWER_USER},"
        f" with the password in {system.password_file}")  # fmt: skip
    if supervisor.keep_up_until(Wait(lambda: missing_from(system))):
        say(f"ready: {system.url}")
        supervisor.keep_up_until(lambda: False)
    say("stopping")


def _start_redis(supervisor: Supervisor, system: System, redis: RedisServer, lock: int) -> bool:
    redis.folder.mkdir(mode=0o700, exist_ok=True)
    program = Program("redis", redis.command, os.environ, system.log("redis"))
    supervisor.add(Child(program, keeps_open=[lock]), foundation=True)
    missing = "Redis loads its file"
    return supervisor.keep_up_until(Wait(lambda: "" if redis.answers() else missing))


def programs(system: System) -> list[Program]:
    """What runs beside Redis. Secrets travel in environments, never in arguments."""
    return [*_workers(system), *_others(system)]


def _workers(system: System) -> list[Program]:
    logs = system.log("worker").parent
    return worker_programs(system.settings, _environment(system.settings), logs)


def _others(system: System) -> list[Program]:
    # The api never opens the store, so it is not told where that is.
    without_store = {"qdrant_url": None, "qdrant_api_key": None}
    listen = ("--host", system.host, "--port", str(system.port))
    doors = _environment(system.settings.model_copy(update=without_store))
    found = [
        Program("api", module_command("api", *listen), doors, system.log("api")),
        Program(
            "flower",
            module_command("celery", "--app", "workers.flower", "flower"),
            flower_environment(system),
            system.log("flower"),
        ),
    ]
    if system.dicom_port is not None:
        receiver = module_command("api.dimse", "--port", str(system.dicom_port))
        found.append(Program("dicom", receiver, doors, system.log("dicom")))
    return found


def _environment(settings: Settings) -> dict[str, str]:
    return module_environment({**_plain(settings.environment()), "PYTHONUNBUFFERED": "1"})


def flower_environment(system: System) -> dict[str, str]:
    """Flower reads its options from FLOWER_…; it needs the broker, and none of our keys."""
    others = {k: v for k, v in _plain(os.environ).items() if not k.startswith("KINDRED_")}
    environment = {
        **others,
        "KINDRED_REDIS_URL": system.settings.redis_url,  # with the CA in it
        "FLOWER_ADDRESS": "127.0.0.1",
        "FLOWER_PORT": str(system.flower_port),
        "FLOWER_BASIC_AUTH": f"{FLOWER_USER}:{kept_password(system.password_file)}",
        "FLOWER_PERSISTENT": "true",
        "FLOWER_DB": str(system.settings.data / "flower.db"),
        "FLOWER_STATE_SAVE_INTERVAL": str(FLOWER_SAVES),
        "FLOWER_CONF": os.devnull,  # else it runs a flowerconfig.py of the folder we stand in
    }
    return module_environment(environment)


def _plain(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what would configure Celery and Flower instead of us: CELERY_BROKER_URL wins."""
    return {k: v for k, v in environment.items() if not k.startswith(("CELERY_", "FLOWER_"))}


class Wait:
    """A condition that prints what is missing once the wait is long."""

    def __init__(self, missing: Callable[[], str]) -> None:
        self._missing = missing
        self._quiet_until = time.monotonic() + QUIET_SECONDS
        self._said = ""

    def __call__(self) -> bool:
        missing = self._missing()
        if missing and missing != self._said and time.monotonic() >= self._quiet_until:
            self._said = missing
            say(f"waiting: {missing}")
        return not missing


def missing_from(system: System) -> str:
    """Why it is not ready; empty if it is."""
    try:
        response = httpx.get(f"{system.url}/readyz", timeout=2, trust_env=False)
    except httpx.HTTPError:
        return "the api does not answer yet"
    if response.status_code == 200:
        return ""
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"/readyz answers {response.status_code}"
