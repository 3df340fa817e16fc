"""API keys say who may call what. The command line changes them, the api reads them.

A key is `kindred_ID_SECRET`. `DATA/keys.json` stores only the SHA-256 of the secret: nobody can
guess 256 random bits, so a slow hash, as for passwords that people choose, would protect nothing
more and would slow down every call.
"""

import hmac
import secrets
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.base.errors import KeysUnavailable, NotFound
from pipeline.base.files import Stamp, locked, stamp_of, write_private

Role = Literal["search", "ingest", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)  # each role includes all roles before it

PREFIX = "kindred"
_NOBODY = sha256(b"").hexdigest()  # compared when no key has the id, so that it takes as long


def includes(role: Role, needed: Role) -> bool:
    """Whether a key with this role may do what the needed role allows."""
    return ROLES.index(role) >= ROLES.index(needed)


class Key(BaseModel):
    """One key of the file. `sha256` is the hash of the secret; times are in UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    id: str
    name: str = Field(min_length=1, max_length=100)
    role: Role
    sha256: str = Field(repr=False)
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None

    @property
    def valid(self) -> bool:
        now = datetime.now(UTC)
        return self.revoked is None and (self.expires is None or now < self.expires)


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    keys: tuple[Key, ...] = ()


@dataclass(frozen=True)
class KeyFile:
    """The file of keys. Every change rewrites the whole file, one writer at a time."""

    path: Path

    def read(self) -> tuple[Key, ...]:
        """All keys, including revoked ones. Raises KeysUnavailable."""
        try:
            return _Document.model_validate_json(self.path.read_bytes()).keys
        except FileNotFoundError:
            return ()
        except (OSError, ValidationError) as error:
            raise KeysUnavailable(f"{self.path} cannot be read as a file of keys.") from error

    def create(self, name: str, role: Role, days: float | None = None) -> tuple[Key, str]:
        """Creates a key. Returns it with its text, which is shown only once."""
        now = datetime.now(UTC).replace(microsecond=0)
        secret = secrets.token_urlsafe(32)
        with self._changing() as keys:
            key = Key(
                id=_new_id({key.id for key in keys}),
                name=name,
                role=role,
                sha256=_hash(secret),
                created=now,
                expires=None if days is None else now + timedelta(days=days),
            )
            keys.append(key)
        return key, f"{PREFIX}_{key.id}_{secret}"

    def revoke(self, identifier: str) -> Key:
        """Revokes a key for good. It stays in the file, for readers of the audit log.

        Raises NotFound.
        """
        with self._changing() as keys:
            for number, key in enumerate(keys):
                if key.id == identifier:
                    at = key.revoked or datetime.now(UTC).replace(microsecond=0)
                    keys[number] = key.model_copy(update={"revoked": at})
                    return keys[number]
            raise NotFound(f"There is no key {identifier}; `kindred keys list` shows them.")

    @contextmanager
    def _changing(self) -> Iterator[list[Key]]:
        try:
            with locked(self.path.with_suffix(".lock")):
                keys = list(self.read())
                yield keys
                text = _Document(keys=tuple(keys)).model_dump_json(indent=1)
                write_private(self.path, text.encode())
        except OSError as error:
            raise KeysUnavailable(f"{self.path} cannot be written: {error.strerror}.") from error


@dataclass
class Keys:
    """The api's view of the keys, consulted at every call. It rereads the file after a change.

    `plain` are the keys of KINDRED_API_KEYS, in clear. They have the role admin.
    """

    file: KeyFile
    plain: Sequence[str]
    _read: tuple[Stamp | None, dict[str, Key]] = field(default=(None, {}), init=False)
    _seen: bool = field(default=False, init=False)

    @classmethod
    def of(cls, file: Path, plain: Sequence[str]) -> "Keys":
        return cls(KeyFile(file), plain)

    @property
    def needed(self) -> bool:
        """Whether a call must bring a key: always, once this process has seen any key.

        So losing the file, or revoking all keys, opens nothing.
        """
        self._seen = self._seen or bool(self.plain) or bool(self._stored())
        return self._seen

    def find(self, given: str) -> Key | None:
        """The valid key with this text. The time it takes reveals nothing about any secret."""
        found = None
        for plain in self.plain:
            if hmac.compare_digest(plain.encode(), given.encode()):
                found = _of_environment(plain)
        prefix, _, rest = given.partition("_")
        identifier, _, secret = rest.partition("_")
        key = self._stored().get(identifier)
        expected = _NOBODY if key is None else key.sha256
        same = hmac.compare_digest(expected.encode(), _hash(secret).encode())
        if key is not None and same and prefix == PREFIX and key.valid:
            return key
        return found

    def by_id(self, identifier: str) -> Key | None:
        """The valid key with this id, by which a session refers to its key."""
        plain = {key.id: key for key in map(_of_environment, self.plain)}
        key = self._stored().get(identifier) or plain.get(identifier)
        return key if key is not None and key.valid else None

    def _stored(self) -> dict[str, Key]:
        try:
            stamp = stamp_of(self.file.path)
        except OSError as error:
            raise KeysUnavailable(f"{self.file.path} cannot be accessed.") from error
        if stamp != self._read[0]:  # taken before reading: the next call sees a change in between
            self._read = (stamp, {key.id: key for key in self.file.read()})
        return self._read[1]


def _of_environment(plain: str) -> Key:
    """Derives the id from the key's hash, so that a restart does not let a session outlive it."""
    identifier = sha256(b"kindred key id: " + plain.encode()).hexdigest()[:8]
    started = datetime.fromtimestamp(0, UTC)
    return Key(
        id=identifier, name="KINDRED_API_KEYS", role="admin", sha256=_hash(plain), created=started
    )


def _new_id(taken: Container[str]) -> str:
    while (identifier := secrets.token_hex(4)) in taken:
        continue
    return identifier


def _hash(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
