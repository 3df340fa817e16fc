"""What must be true before anything starts: a locked folder, free ports, keys where needed."""

import errno
import fcntl
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cli.failure import CommandError
from pipeline.base.addresses import is_loopback

# Seconds for the children of a killed `kindred up` to stop; a worker needs up to 60.
LEFTOVER_SECONDS = 90

Say = Callable[[str], None]


def refuse_open_host(host: str, *, has_keys: bool) -> None:
    if not is_loopback(host) and not has_keys:
        raise CommandError(
            f"not listening on {host} without keys: everyone who reaches it could see all images;"
            " make one with `kindred keys create`, or stay with --host 127.0.0.1"
        )


def claim_ports(wanted: list[tuple[str, int, str]]) -> list[int]:
    """The ports to use, given (host, port, option): the same ones if they are free, any for 0.

    All stay bound until the last is found, so that no two are the same.
    """
    with ExitStack() as bound:
        return [bound.enter_context(_listen(*one)).getsockname()[1] for one in wanted]


def _listen(host: str, port: int, option: str) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CommandError(f"cannot listen on {host}: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            message = f"port {port} is taken; choose another with {option}"
        else:
            message = f"cannot listen on {host}, port {port}: {error.strerror}"
        raise CommandError(message) from error
    return listener


@contextmanager
def locked(data: Path, say: Say) -> Iterator[int]:
    """Locks the folder for us alone. Yields the lock's file descriptor.

    Children inherit it and hold the lock as long as they live. So if we are killed, the next start
    waits for their end, and no two Redis write into the same file.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(data / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CommandError(f"{data} cannot be used: {error.strerror}") from error
    try:
        _acquire(lock, data, say)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield lock
    finally:
        os.close(lock)


def runs(data: Path) -> bool:
    """Whether a `kindred up`, or what it started, has the folder."""
    try:
        lock = os.open(data / "up.lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _try_lock(lock)
    finally:
        os.close(lock)


def _acquire(lock: int, data: Path, say: Say) -> None:
    deadline = time.monotonic() + LEFTOVER_SECONDS
    told = False
    while not _try_lock(lock):
        holder = os.pread(lock, 32, 0).decode()
        if _alive(holder):
            raise CommandError(f"another `kindred up` (process {holder}) runs on {data}")
        if time.monotonic() > deadline:
            raise CommandError(f"what an earlier `kindred up` started still runs on {data}")
        if not told:
            say("waiting for what an earlier `kindred up` left to stop")
            told = True
        time.sleep(0.2)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _alive(pid: str) -> bool:
    """Whether the process that wrote its number into the lock is there. It may not be ours."""
    if not pid.isdecimal():
        return True  # it has the lock, and is about to write its number
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def kept_password(path: Path) -> str:
    """Made once, and readable by this user alone."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text("ascii").strip()
    password = secrets.token_urlsafe(24)
    with os.fdopen(descriptor, "w") as file:
        file.write(password + "\n")
    return password
