"""The secrets under which patients' numbers and UIDs are hashed: one list for each collection."""

import json
import secrets
from typing import Any

from pipeline.dicom.pseudonyms import Pseudonyms
from pipeline.ledger.connection import reachable


class PseudonymLedger:
    """`own` is the key of KINDRED_PSEUDONYM_KEY; without one, the ledger draws one."""

    def __init__(self, redis: Any, namespace: str) -> None:
        self._redis, self._name = redis, f"{namespace}:pseudonyms"

    def get(self, own: str | None = None) -> Pseudonyms:
        """Raises LedgerUnavailable."""
        if own:
            return Pseudonyms((own.encode(),))
        with reachable():
            found = self._redis.get(self._name)
            if found is None:
                self._redis.set(self._name, json.dumps([secrets.token_hex(32)]), nx=True)
                found = self._redis.get(self._name)
        return Pseudonyms(tuple(key.encode() for key in json.loads(found)))
