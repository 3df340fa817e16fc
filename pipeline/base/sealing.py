"""Seals blobs that name patients while work needs them: a search by a DICOM file, a deletion by a
patient's number. Without the collection's key, which is in Redis, nobody can read them.

AES-256-GCM with a random nonce (NIST SP 800-38D).
"""

import os
from collections.abc import Sequence
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_MARK = b"kindred-sealed-1"
_NONCE = 12  # bytes


def seal(data: bytes, keys: Sequence[bytes]) -> bytes:
    """`keys`: secrets, the newest first. It takes the oldest, which all processes have."""
    nonce = os.urandom(_NONCE)
    return _MARK + nonce + _cipher(keys[-1]).encrypt(nonce, data, _MARK)


def is_sealed(data: bytes) -> bool:
    return data.startswith(_MARK)


def unseal(data: bytes, keys: Sequence[bytes]) -> bytes:
    """What is not sealed comes back as it is. Raises FileNotFoundError if no key opens it."""
    if not is_sealed(data):
        return data
    nonce, sealed = data[len(_MARK) :][:_NONCE], data[len(_MARK) + _NONCE :]
    for key in reversed(keys):
        try:
            return _cipher(key).decrypt(nonce, sealed, _MARK)
        except InvalidTag:
            continue
    raise FileNotFoundError("sealed under another key")


def _cipher(key: bytes) -> AESGCM:
    return AESGCM(sha256(b"seal:" + key).digest())
