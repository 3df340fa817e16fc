"""Keyed hashes of patients' numbers and of UIDs, by which what belongs together stays together."""

import hmac
from dataclasses import dataclass, field
from hashlib import sha256


@dataclass(frozen=True)
class Pseudonyms:
    """`keys` are secrets, the newest first."""

    keys: tuple[bytes, ...] = field(repr=False)

    def of(self, kind: str, value: str) -> str:
        """32 hex digits, the same for the same kind, value and key."""
        return _keyed(self.keys[0], kind, value)

    def all_of(self, kind: str, value: str) -> list[str]:
        """Under each key: what was embedded before a rotation has another."""
        return [_keyed(key, kind, value) for key in self.keys]


def _keyed(key: bytes, kind: str, value: str) -> str:
    return hmac.new(key, f"{kind}={value}".encode(), sha256).hexdigest()[:32]
