"""Money: an `int` of nano-USD (1e-9 USD), and nothing else. Text and back, and the one place where it is rounded.

Prices are nano-USD per million tokens. No float comes near this file.
"""

import re

from app.base.errors import InvalidField

__all__ = [
    "MULTIPLIER_ONE",
    "NANO_PER_USD",
    "TOKENS_PER_PRICE",
    "WALLET_MAX_NANO",
    "format_multiplier",
    "format_usd",
    "parse_multiplier",
    "parse_usd",
    "round_charge",
]

NANO_PER_USD = 1_000_000_000
TOKENS_PER_PRICE = 1_000_000
MULTIPLIER_ONE = 1_000_000  # multipliers are whole millionths
_DIVISOR = TOKENS_PER_PRICE * MULTIPLIER_ONE
_MULTIPLIER_MOST = 1_000 * MULTIPLIER_ONE
# Lua's numbers are doubles: exact up to 2^53. A wallet may never pass it (about 9 million USD).
WALLET_MAX_NANO = 2**53 - 1

_MULTIPLIER = re.compile(r"(\d{1,4})(?:\.(\d{1,6}))?", re.ASCII)
_DECIMAL = re.compile(r"(-?)(\d{1,10})(?:\.(\d{1,9}))?", re.ASCII)


def parse_usd(text: object, field: str, most_nano: int = WALLET_MAX_NANO) -> int:
    """Nano-USD of a decimal string of USD (`"10.00"`, at most nine decimals), at most `most_nano` either way: what a
    wallet can hold. Raises InvalidField naming `field`."""
    match = _DECIMAL.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise InvalidField(field, 'must be a decimal string of USD such as "10.00", with at most nine decimals')
    sign, whole, decimals = match.groups()
    nano = int(whole) * NANO_PER_USD + int((decimals or "").ljust(9, "0"))
    if nano > most_nano:
        raise InvalidField(field, f"must be at most {format_usd(most_nano)} USD")
    return -nano if sign else nano


def format_usd(nano: int) -> str:
    """Decimal string of USD: two decimals at least, nine at most: `"10.00"`, `"0.000123"`."""
    whole, rest = divmod(abs(nano), NANO_PER_USD)
    decimals = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nano < 0 else ''}{whole}.{decimals}"


def parse_multiplier(text: object, field: str) -> int:
    """Millionths of a decimal string (`"1.25"`, at most six decimals, at most 1000). Raises InvalidField."""
    match = _MULTIPLIER.fullmatch(text) if isinstance(text, str) else None
    value = 0 if match is None else int(match[1]) * MULTIPLIER_ONE + int((match[2] or "").ljust(6, "0"))
    if match is None or value > _MULTIPLIER_MOST:
        raise InvalidField(field, 'must be a decimal string from "0" to "1000" with at most six decimals')
    return value


def format_multiplier(millionths: int) -> str:
    """`"1.25"`, `"1"`."""
    whole, rest = divmod(millionths, MULTIPLIER_ONE)
    decimals = f"{rest:06d}".rstrip("0")
    return f"{whole}.{decimals}" if decimals else str(whole)


def round_charge(
    nano_times_million: int, fixed_nano: int = 0, multiplier: int = MULTIPLIER_ONE, factor: int = MULTIPLIER_ONE
) -> int:
    """Tokens x price summed over all classes, times `factor` millionths, plus `fixed_nano`, all times `multiplier`
    millionths; in nano-USD, rounded half up, once a receipt."""
    if factor == MULTIPLIER_ONE:  # as for most requests: the same in smaller numbers
        exact = (nano_times_million + fixed_nano * TOKENS_PER_PRICE) * multiplier
        return (exact + _DIVISOR // 2) // _DIVISOR
    exact = (nano_times_million * factor + fixed_nano * TOKENS_PER_PRICE * MULTIPLIER_ONE) * multiplier
    divisor = _DIVISOR * MULTIPLIER_ONE
    return (exact + divisor // 2) // divisor
