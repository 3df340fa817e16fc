"""What a watcher must not forget: which files it has taken, in which jobs, and what became of them.

It lies in an SQLite file, and is written before each step that it is about. So after a kill at any
moment the next watcher knows what may have happened, and finds out what has. Names of files can be
patients': they stand here while their files are on their way, and what stays is a hash.
"""

import json
import os
import secrets
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any
from uuid import uuid4

from cli.failure import CommandError
from cli.watch.looking import Seen, Stamp

VERSION = 1

_TABLES = """
CREATE TABLE about (name TEXT PRIMARY KEY, value BLOB);
CREATE TABLE batch (
  id TEXT PRIMARY KEY, tabular INTEGER, sent INTEGER DEFAULT 0, judged INTEGER DEFAULT 0);
CREATE TABLE file (
  batch TEXT, path BLOB, size INTEGER, mtime INTEGER, reason TEXT, PRIMARY KEY (batch, path));
CREATE TABLE job (batch TEXT, id TEXT, places TEXT, PRIMARY KEY (batch, id));
CREATE TABLE seen (path BLOB PRIMARY KEY, size INTEGER, mtime INTEGER) WITHOUT ROWID;
"""


@dataclass
class Batch:
    """Files that were taken together. `jobs` have the paths of their files, in their order.

    `sent`: all of it was. `judged`: `reasons` say why a file has failed, of those that have.
    """

    id: str
    files: dict[str, Stamp]
    tabular: bool = False
    jobs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sent: bool = False
    judged: bool = False
    reasons: dict[str, str] = field(default_factory=dict)


class State:
    """`of` names what is watched: a state of something else is refused with CommandError."""

    def __init__(self, path: Path, of: str) -> None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._database = sqlite3.connect(path, timeout=1, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise _unusable(path, error) from error
        try:
            self._lock(path)
            self._database.execute("PRAGMA secure_delete = ON")
            self._begin(path, of)
            self.batches = self._read()
            self._seen = dict(self._read_seen())
        except sqlite3.Error as error:
            self.close()
            raise _unusable(path, error) from error
        except CommandError:
            self.close()
            raise

    def close(self) -> None:
        self._database.close()

    def knows(self, path: str, stamp: Stamp) -> bool:
        """Whether this file was taken before, or is on its way under this name."""
        if any(path in batch.files for batch in self.batches):
            return True
        return bool(self._seen) and self._seen.get(self._key(path)) == stamp

    def begin(self, files: Iterable[Seen], *, tabular: bool) -> Batch:
        batch = Batch(uuid4().hex, dict(files), tabular)
        rows = [(batch.id, os.fsencode(path), *stamp) for path, stamp in batch.files.items()]
        with self._transaction():
            self._run("INSERT INTO batch (id, tabular) VALUES (?, ?)", batch.id, tabular)
            self._database.executemany(
                "INSERT INTO file (batch, path, size, mtime) VALUES (?, ?, ?, ?)", rows
            )
        self.batches.append(batch)
        return batch

    def started(self, batch: Batch, job: str, places: Sequence[str]) -> None:
        batch.jobs[job] = tuple(places)
        self._run("INSERT OR REPLACE INTO job VALUES (?, ?, ?)", batch.id, job, json.dumps(places))

    def sent(self, batch: Batch) -> None:
        self._run("UPDATE batch SET sent = 1 WHERE id = ?", batch.id)
        batch.sent = True

    def unsent(self, batch: Batch) -> None:
        """The system does not know its jobs any more."""
        with self._transaction():
            self._run("UPDATE batch SET sent = 0 WHERE id = ?", batch.id)
            self._run("DELETE FROM job WHERE batch = ?", batch.id)
        batch.sent, batch.jobs = False, {}

    def judged(self, batch: Batch, reasons: Mapping[str, str]) -> None:
        rows = [(why, batch.id, os.fsencode(path)) for path, why in reasons.items()]
        with self._transaction():
            self._database.executemany(
                "UPDATE file SET reason = ? WHERE batch = ? AND path = ?", rows
            )
            self._run("UPDATE batch SET judged = 1 WHERE id = ?", batch.id)
        batch.judged, batch.reasons = True, dict(reasons)

    def settled(self, batch: Batch, *, left: Iterable[str]) -> None:
        """All its files are where they belong. Those that were `left` there are remembered."""
        rows = [(self._key(path), *batch.files[path]) for path in left]
        with self._transaction():
            self._database.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", rows)
            for table in ("file", "job"):
                self._run(f"DELETE FROM {table} WHERE batch = ?", batch.id)  # noqa: S608 - ours
            self._run("DELETE FROM batch WHERE id = ?", batch.id)
        self._seen |= {key: Stamp(*stamp) for key, *stamp in rows}
        self.batches.remove(batch)

    # --- the file --------------------------------------------------------------------------------

    def _lock(self, path: Path) -> None:
        """For as long as we live: SQLite's own lock, which also Windows and a kill release."""
        self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
        try:
            self._database.execute("BEGIN EXCLUSIVE")
            self._database.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            raise CommandError(f"another `kindred watch` uses the state {path}") from error

    def _begin(self, path: Path, of: str) -> None:
        if not self._database.execute("PRAGMA user_version").fetchone()[0]:
            with self._transaction():
                for statement in filter(str.strip, _TABLES.split(";")):
                    self._run(statement)
                self._run("INSERT INTO about VALUES ('salt', ?)", secrets.token_bytes(16))
                self._run(f"PRAGMA user_version = {VERSION}")
        if self._database.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            raise CommandError(f"the state {path} is of a newer version of Kindred")
        [self._salt] = self._rows("SELECT value FROM about WHERE name = 'salt'")[0]
        self._run("INSERT OR IGNORE INTO about VALUES ('of', ?)", self._key(of))
        [known] = self._rows("SELECT value FROM about WHERE name = 'of'")[0]
        if known != self._key(of):
            raise CommandError(f"the state {path} is of another folder or collection")

    def _read(self) -> list[Batch]:
        found = [
            Batch(own, {}, bool(tabular), {}, bool(sent), bool(judged))
            for own, tabular, sent, judged in self._rows("SELECT * FROM batch ORDER BY rowid")
        ]
        by_id = {batch.id: batch for batch in found}
        for own, path, size, mtime, reason in self._rows("SELECT * FROM file ORDER BY rowid"):
            by_id[own].files[os.fsdecode(path)] = Stamp(size, mtime)
            if reason is not None:
                by_id[own].reasons[os.fsdecode(path)] = reason
        for own, job, places in self._rows("SELECT * FROM job ORDER BY rowid"):
            by_id[own].jobs[job] = tuple(json.loads(places))
        return found

    def _read_seen(self) -> Iterable[tuple[bytes, Stamp]]:
        with closing(self._database.execute("SELECT * FROM seen")) as rows:
            for path, size, mtime in rows:
                yield path, Stamp(size, mtime)

    def _key(self, path: str) -> bytes:
        return blake2b(os.fsencode(path), digest_size=16, key=self._salt).digest()

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._database)

    def _run(self, statement: str, *values: object) -> None:
        self._database.execute(statement, values)

    def _rows(self, statement: str) -> list[Any]:
        return self._database.execute(statement).fetchall()


def _unusable(path: Path, error: Exception) -> CommandError:
    return CommandError(f"the state {path} cannot be used: {error}")


@dataclass
class _Transaction:
    database: sqlite3.Connection

    def __enter__(self) -> None:
        self.database.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        self.database.execute("ROLLBACK" if kind else "COMMIT")
