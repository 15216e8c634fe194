"""Sealing of upstream credentials: AES-256-GCM, a fresh nonce each, the key derived from TOLLGATE_SECRET_KEY."""

import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["Sealer", "Secret", "UnsealError"]

_NONCE_BYTES = 12


class UnsealError(Exception):
    """The text was sealed with another TOLLGATE_SECRET_KEY, or altered since."""


class Sealer:
    """Seals and opens short secrets. `context` (the row's id) is bound in, so that sealed texts cannot be swapped.

    What was sealed under `old_key` is opened too, until a rotation is done; nothing is sealed under it.
    """

    def __init__(self, secret_key: str, old_key: str = "") -> None:
        self._cipher = _cipher(secret_key)
        self._old_cipher = _cipher(old_key) if old_key else None

    def seal(self, plain: bytes, context: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """Raises UnsealError."""
        try:
            return _decrypt(self._cipher, sealed, context)
        except UnsealError:
            if self._old_cipher is None:
                raise
        return _decrypt(self._old_cipher, sealed, context)


def _cipher(key: str) -> AESGCM:
    return AESGCM(hashlib.sha256(b"tollgate credentials\0" + key.encode()).digest())


def _decrypt(cipher: AESGCM, sealed: bytes, context: str) -> bytes:
    try:
        return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context.encode())
    except (InvalidTag, ValueError) as error:  # ValueError: too short to hold a nonce
        raise UnsealError("credentials were sealed with another TOLLGATE_SECRET_KEY") from error


class Secret:
    """A secret in memory that no log line, traceback or repr can print by accident."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(…)"
