"""Original numbers under seal, which only the api opens, for a role that may re-identify.

AES-256-GCM (NIST SP 800-38D) with a key that HKDF (RFC 5869) derives from the collection's secret
for pseudonyms. A seal is bound to what it was made for, so that it opens for nothing else.
"""

import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydicom import Dataset

from pipeline.dicom.pseudonyms import Pseudonyms

NUMBERS = {
    "study": "StudyInstanceUID",
    "series": "SeriesInstanceUID",
    "accession": "AccessionNumber",
}
_NONCE = 12  # bytes


@dataclass(frozen=True)
class Sealing:
    """`purpose` separates the keys of different uses."""

    pseudonyms: Pseudonyms
    purpose: str = "viewer"

    def seal(self, numbers: Mapping[str, str], bound_to: str) -> str:
        """Under the newest key."""
        nonce = os.urandom(_NONCE)
        text = json.dumps(numbers).encode()
        sealed = self._cipher(self.pseudonyms.keys[0]).encrypt(nonce, text, bound_to.encode())
        return urlsafe_b64encode(nonce + sealed).decode().rstrip("=")

    def open(self, sealed: str, bound_to: str) -> dict[str, str] | None:
        """By any key, since a rotation leaves old seals. None if none of them fits."""
        try:
            data = urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
        except ValueError:
            return None
        for key in self.pseudonyms.keys:
            try:
                text = self._cipher(key).decrypt(data[:_NONCE], data[_NONCE:], bound_to.encode())
            except (InvalidTag, ValueError):
                continue
            opened: dict[str, str] = json.loads(text)
            return opened
        return None

    def _cipher(self, secret: bytes) -> AESGCM:
        info = f"kindred {self.purpose}".encode()
        return AESGCM(HKDF(SHA256(), length=32, salt=None, info=info).derive(secret))


def numbers_of(header: Dataset) -> dict[str, str]:
    """Those of `NUMBERS` that a file has."""
    found = {name: str(header.get(keyword) or "") for name, keyword in NUMBERS.items()}
    return {name: value for name, value in found.items() if value}
