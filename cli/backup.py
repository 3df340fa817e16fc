"""`kindred backup` of a running system, and `kindred restore` onto an empty one.

`pipeline/backup/archive.py` says what a backup is made of, and why in this order.
"""

import json
import os
import re
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from cli.client import Client
from cli.documents import Document
from cli.export import make_empty, write_images
from cli.failure import CommandError, WrongSetting
from cli.preflight import locked
from cli.processes import EX_CONFIG, Child, Program, module_command, module_environment
from cli.redis_server import RedisServer, find_redis_server
from cli.up import private_folder, say
from pipeline.backup.manifest import (
    BLOBS,
    KEYS,
    LEDGER,
    MANIFEST,
    PAYLOADS,
    TOMBSTONES,
    VECTORS,
    file_sha256,
)
from pipeline.base.settings import Settings

# Whether a line of the ledger has the tombstones of its collection.
_TOMBSTONES = re.compile(rb'\{"key": "[^"]*' + TOMBSTONES.encode() + rb'(:by)?",').match
REDIS_SECONDS = 60.0  # until a Redis that loads its file answers, and until one has stopped


def backup(client: Client, folder: Path) -> Document:
    """The manifest, which is written last: a folder without one is no backup."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    make_empty(folder)
    encoder = client.collection()["encoder"]
    _write(folder / LEDGER, client.backup("ledger"))
    _write(folder / KEYS, client.backup("keys"))
    images = write_images(client, folder, None)
    _write(folder / BLOBS, client.backup("blobs"))
    _renew_tombstones(folder / LEDGER, client.backup("ledger"))
    with (folder / LEDGER).open() as lines:
        ledger_keys = sum(1 for _ in lines)
    with tarfile.open(folder / BLOBS) as archive:
        blobs = sum(1 for _ in archive)
    manifest = {
        "created": started,
        "encoder": encoder,
        "images": images,
        "blobs": blobs,
        "ledger_keys": ledger_keys,
        "files": {n: file_sha256(folder / n) for n in (LEDGER, KEYS, VECTORS, PAYLOADS, BLOBS)},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2))
    return manifest


def _renew_tombstones(ledger: Path, now: Iterable[bytes]) -> None:
    """Replaces the tombstones in the file by those of `now`; all other lines stay."""
    renewed = ledger.with_suffix(".renewed")
    with ledger.open("rb") as before:
        left = (line for line in before if not _TOMBSTONES(line))
        _write(renewed, chain(left, filter(_TOMBSTONES, _lines(now))))
    renewed.replace(ledger)


def _lines(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Lines, whatever the parts in which they come."""
    rest = b""
    for part in parts:
        *whole, rest = (rest + part).split(b"\n")
        yield from (line + b"\n" for line in whole)


def restore(folder: Path, settings: Settings) -> Document:
    """The manifest of what is there now. Raises CommandError unless the target was empty."""
    with _ledger(settings) as redis_url:
        target = settings.model_copy(update={"redis_url": redis_url})
        done = subprocess.run(
            module_command("workers.restore", str(folder.absolute())),
            env=module_environment(target.environment()),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        kind = WrongSetting if done.returncode == EX_CONFIG else CommandError
        raise kind(lines[-1] if lines else "the restore has failed")
    manifest: Document = json.loads(done.stdout)
    return manifest


def how_to_start(settings: Settings) -> str:
    """What runs the system that was restored: its Redis may be one that `kindred up` has not."""
    given = settings.model_fields_set
    if "redis_url" in given:
        return (
            "start the workers with `kindred worker` and the api with `kindred api`, with the same"
            " settings"
        )
    if "qdrant_url" in given:
        return "start it with `kindred up`, with the same KINDRED_QDRANT_URL"
    return "start it with `kindred up`"


@contextmanager
def _ledger(settings: Settings) -> Iterator[str]:
    """The Redis that the settings name; else that of the stand-alone system, started for this."""
    if "redis_url" in settings.model_fields_set:
        yield settings.redis_url
        return
    with locked(settings.data, say), private_folder() as private:
        redis = RedisServer(find_redis_server(), settings.data / "redis", private / "redis.sock")
        redis.folder.mkdir(mode=0o700, exist_ok=True)
        log = private / "redis.log"
        child = Child(Program("redis", redis.command, os.environ, log))
        child.start()
        try:
            _until(redis.answers, f"Redis did not start: {child.last_words()}")
            yield redis.url
        finally:
            child.send(signal.SIGTERM)  # it writes its file to the end, then goes
            _until(lambda: not child.running, "Redis did not stop")


def _until(condition: Callable[[], bool], failure: str) -> None:
    end = time.monotonic() + REDIS_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise CommandError(failure)
        time.sleep(0.05)


def _write(path: Path, parts: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
