"""The secrets under which patients' numbers and UIDs are hashed: one list for each collection."""

import json
import secrets
from typing import Any

from pipeline.base.errors import Conflict
from pipeline.dicom.pseudonyms import Pseudonyms
from pipeline.ledger.connection import reachable

OWN_KEY = (
    "KINDRED_PSEUDONYM_KEY has the key: write the new one before it, with a comma between them, and"
    " start the api and the workers again."
)


class PseudonymLedger:
    """Every method raises LedgerUnavailable.

    `own` is KINDRED_PSEUDONYM_KEY: keys with commas between them, the newest first. Without it the
    ledger draws a key; what it has drawn before goes on telling older images.
    """

    def __init__(self, redis: Any, namespace: str) -> None:
        self._redis, self._name = redis, f"{namespace}:pseudonyms"

    def get(self, own: str | None = None) -> Pseudonyms:
        """Of processes that start together, the first draws, and all have its key."""
        given = [key.strip() for key in (own or "").split(",") if key.strip()]
        with reachable():
            found = self._redis.get(self._name)
            if found is None and not given:
                self._redis.set(self._name, json.dumps([_drawn()]), nx=True)
                found = self._redis.get(self._name)
        drawn = json.loads(found) if found else []
        return Pseudonyms(tuple(key.encode() for key in (*given, *drawn)))

    def rotate(self, own: str | None = None) -> int:
        """Draws a new key, and returns how many there are. Raises Conflict if `own` is given."""
        if own:
            raise Conflict(OWN_KEY)
        new = _drawn()

        def add(pipe: Any) -> int:
            found = json.loads(pipe.get(self._name) or "[]")
            pipe.multi()
            pipe.set(self._name, json.dumps([new, *found]))
            return len(found) + 1

        with reachable():
            count: int = self._redis.transaction(add, self._name, value_from_callable=True)
        return count


def _drawn() -> str:
    return secrets.token_hex(32)
