"""Opaque ids that sort by the time they were made, and the `sk-` keys handed to customers.

A key is `sk-`, 256 random bits and a checksum: 43 + 6 letters of base 62. The checksum lets junk be refused without
any look-up; only the SHA-256 of a key is ever stored.
"""

import hashlib
import os
import re
import secrets
import time
import zlib

__all__ = [
    "KEY_PREFIX",
    "OPERATOR_PREFIX",
    "digest",
    "hint",
    "is_wellformed_key",
    "is_wellformed_token",
    "keys_in",
    "made_at_ms",
    "new_id",
    "new_key",
    "new_operator_token",
    "new_request_id",
    "shard_of",
]

KEY_PREFIX = "sk-"
OPERATOR_PREFIX = "tg-op-"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_LETTERS = 43  # 62^43 > 2^256
_CHECK_LETTERS = 6  # 62^6 > 2^32
_TIME_DIGITS = 12
_RANDOM_DIGITS = 16
_KEY_LENGTH = len(KEY_PREFIX) + _SECRET_LETTERS + _CHECK_LETTERS
# Looked for at every place: what precedes a key, or follows it, may be a letter too.
_KEY_SHAPE = re.compile(rf"(?=({KEY_PREFIX}[0-9A-Za-z]{{{_SECRET_LETTERS + _CHECK_LETTERS}}}))", re.ASCII)


class _Randomness:
    """The system's randomness in hex, taken 512 times 64 bits at once: a system call for each id would take longer than
    the rest of it. Nobody can tell the next id from those before."""

    def __init__(self) -> None:
        self._left: list[str] = []
        os.register_at_fork(after_in_child=self.forget)

    def next(self) -> str:
        if not self._left:
            fresh = os.urandom(512 * _RANDOM_DIGITS // 2).hex()
            self._left = [fresh[at : at + _RANDOM_DIGITS] for at in range(0, len(fresh), _RANDOM_DIGITS)]
        return self._left.pop()

    def forget(self) -> None:
        self._left = []


_randomness = _Randomness()


def new_id(prefix: str) -> str:
    """`prefix_` + 48 bits of milliseconds + 64 random bits, in hex."""
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}{_randomness.next()}"


def new_request_id() -> str:
    """The id of a request, of its receipt, and the value of `x-request-id`."""
    return new_id("req")


def made_at_ms(made: str) -> int | None:
    """When an id was made, in milliseconds since 1970; None where it is not one of ours."""
    _, _, digits = made.partition("_")
    try:
        return int(digits[:_TIME_DIGITS], 16) if len(digits) == _TIME_DIGITS + _RANDOM_DIGITS else None
    except ValueError:
        return None


def new_key() -> str:
    """A fresh customer key."""
    secret = _base62(secrets.randbits(256), _SECRET_LETTERS)
    return f"{KEY_PREFIX}{secret}{_checksum(secret)}"


def is_wellformed_key(key: str) -> bool:
    """Whether `key` has the length and the checksum of a key of ours: junk is refused by this alone."""
    if len(key) != _KEY_LENGTH or not key.startswith(KEY_PREFIX) or not key.isascii():
        return False
    return _checksum(key[len(KEY_PREFIX) : -_CHECK_LETTERS]) == key[-_CHECK_LETTERS:]


def keys_in(text: str) -> list[str]:
    """The customer keys in a text, such as a line of a log: each once, in its order."""
    return list(dict.fromkeys(key for key in _KEY_SHAPE.findall(text) if is_wellformed_key(key)))


def new_operator_token() -> str:
    """A fresh token of an operator: as random as a key, with a checksum like it."""
    secret = _base62(secrets.randbits(256), _SECRET_LETTERS)
    return f"{OPERATOR_PREFIX}{secret}{_checksum(secret)}"


def is_wellformed_token(token: str) -> bool:
    """The same of an operator's token."""
    return is_wellformed_key(KEY_PREFIX + token.removeprefix(OPERATOR_PREFIX)) and token.startswith(OPERATOR_PREFIX)


def digest(secret: str) -> bytes:
    """SHA-256. A key has 256 random bits, so a slow hash would add nothing."""
    return hashlib.sha256(secret.encode()).digest()


def hint(key: str) -> str:
    """What is shown of a key after the day it was made: `sk-ab…wxyz`."""
    return f"{key[:5]}…{key[-4:]}"


def shard_of(account_id: str, shards: int) -> int:
    """Which shard an account lives on, for good: the number of shards is fixed at the first start."""
    return zlib.crc32(account_id.encode()) % shards


def _base62(number: int, length: int) -> str:
    letters = []
    for _ in range(length):
        number, rest = divmod(number, 62)
        letters.append(_ALPHABET[rest])
    return "".join(letters)


def _checksum(secret: str) -> str:
    return _base62(zlib.crc32(secret.encode()), _CHECK_LETTERS)
