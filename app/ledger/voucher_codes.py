"""How a voucher's code is written: `TG-XXXXX-XXXXX-XXXXX-XXXXX`, 90 random bits and a checksum in Crockford's base 32,
which has no I, L, O or U. Pure: what a code is worth is known by `vouchers`.

The twenty letters, read as one number, are a multiple of 1021. That is a prime in which the powers of 32 differ, so one
wrong letter, or any two that changed places, never gives another code.
"""

import secrets

from app.base.errors import InvalidField

__all__ = ["hint_of", "new_code", "read_code"]

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_PREFIX = "TG"
_LETTERS = 20
_RANDOM_BITS = 90
_CHECK_BITS = 10
_MODULUS = 1021
_GROUP = 5
_LENGTH_MOST = 64


def new_code() -> str:
    return _write(secrets.randbits(_RANDOM_BITS))


def read_code(sent: str) -> str:
    """The code as it was handed out, from what somebody typed: small letters, blanks, missing hyphens, O for 0 and I or
    L for 1 are forgiven. Raises InvalidField where it can't be one of ours."""
    letters = "".join(sent.split()).replace("-", "").upper() if len(sent) <= _LENGTH_MOST else ""
    body = letters.removeprefix(_PREFIX)
    if len(body) != _LETTERS or len(letters) == len(body) or not all(letter in _VALUES for letter in body):
        raise InvalidField("code", "is not a voucher code: those look like TG-XXXXX-XXXXX-XXXXX-XXXXX")
    number = 0
    for letter in body:
        number = number * 32 + _VALUES[letter]
    if number % _MODULUS:
        raise InvalidField("code", "has a typing error: no voucher has such a code")
    return _show(number)


def hint_of(code: str) -> str:
    """What is shown of a code after the day it was made: 70 random bits are left to guess."""
    return f"TG-…{code[-4:]}"


def _write(secret: int) -> str:
    shifted = secret << _CHECK_BITS
    return _show(shifted + -shifted % _MODULUS)


def _show(number: int) -> str:
    letters = "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(_LETTERS)))
    groups = (letters[at : at + _GROUP] for at in range(0, _LETTERS, _GROUP))
    return "-".join((_PREFIX, *groups))
