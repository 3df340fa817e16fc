"""API keys: who may call, and what. The command line changes them, the api reads them.

A key is `kindred_ID_SECRET`. Kept of it, in `DATA/keys.json`, is the SHA-256 of the secret: 256
random bits cannot be guessed, so a slow hash, as for passwords that people choose, would guard
nothing more, and would cost every call.
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
ROLES: tuple[Role, ...] = get_args(Role)  # each may do all that the ones before it may

PREFIX = "kindred"
_NOBODY = sha256(b"").hexdigest()  # compared where no key has the id: this takes as long


def includes(role: Role, needed: Role) -> bool:
    """Whether a key of this role may do what needs that one."""
    return ROLES.index(role) >= ROLES.index(needed)


class Key(BaseModel):
    """One line of the file. `sha256` is the hash of the secret; times are in UTC."""

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
    """The file itself. Every change writes it whole; one writer at a time."""

    path: Path

    def read(self) -> tuple[Key, ...]:
        """All keys, the revoked ones as well. Raises KeysUnavailable."""
        try:
            return _Document.model_validate_json(self.path.read_bytes()).keys
        except FileNotFoundError:
            return ()
        except (OSError, ValidationError) as error:
            raise KeysUnavailable(f"{self.path} cannot be read as a file of keys.") from error

    def create(self, name: str, role: Role, days: float | None = None) -> tuple[Key, str]:
        """A new key, and the text that is shown once."""
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
        """Ends a key for good. Its line stays, for readers of the audit log. Raises NotFound."""
        with self._changing() as keys:
            for place, key in enumerate(keys):
                if key.id == identifier:
                    at = key.revoked or datetime.now(UTC).replace(microsecond=0)
                    keys[place] = key.model_copy(update={"revoked": at})
                    return keys[place]
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
    """What the api asks at every call. The file is read again only when it has changed.

    `plain` are the keys of KINDRED_API_KEYS, given as they are. They have the role admin.
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
        """Whether a call must bring a key: once there was one, to the end of this process.

        So a file that is lost, or in which all keys are revoked, opens nothing.
        """
        self._seen = self._seen or bool(self.plain) or bool(self._held())
        return self._seen

    def find(self, given: str) -> Key | None:
        """The valid key that this text is. How long it takes says nothing about any secret."""
        found = None
        for plain in self.plain:
            if hmac.compare_digest(plain.encode(), given.encode()):
                found = _of_environment(plain)
        prefix, _, rest = given.partition("_")
        identifier, _, secret = rest.partition("_")
        key = self._held().get(identifier)
        expected = _NOBODY if key is None else key.sha256
        same = hmac.compare_digest(expected.encode(), _hash(secret).encode())
        if key is not None and same and prefix == PREFIX and key.valid:
            return key
        return found

    def by_id(self, identifier: str) -> Key | None:
        """The valid key of this id: a session names its key so."""
        plain = {key.id: key for key in map(_of_environment, self.plain)}
        key = self._held().get(identifier) or plain.get(identifier)
        return key if key is not None and key.valid else None

    def _held(self) -> dict[str, Key]:
        try:
            stamp = stamp_of(self.file.path)
        except OSError as error:
            raise KeysUnavailable(f"{self.file.path} cannot be looked at.") from error
        if stamp != self._read[0]:  # looked at before it is read: a change in between is seen next
            self._read = (stamp, {key.id: key for key in self.file.read()})
        return self._read[1]


def _of_environment(plain: str) -> Key:
    """Its id is part of a hash of it, so that a session does not outlive its key by a restart."""
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
