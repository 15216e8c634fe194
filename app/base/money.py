"""Money: an `int` of nano-USD (1e-9 USD), and nothing else. Text and back, and the one place where it is rounded.

Prices are nano-USD per million tokens. No float comes near this file.
"""

import re

from app.base.errors import InvalidField

__all__ = ["NANO_PER_USD", "TOKENS_PER_PRICE", "WALLET_MAX_NANO", "format_usd", "parse_usd", "round_charge"]

NANO_PER_USD = 1_000_000_000
TOKENS_PER_PRICE = 1_000_000
# Lua's numbers are doubles: exact up to 2^53. A wallet may never pass it (about 9 million USD).
WALLET_MAX_NANO = 2**53 - 1

_DECIMAL = re.compile(r"(-?)(\d{1,10})(?:\.(\d{1,9}))?", re.ASCII)


def parse_usd(text: object, field: str) -> int:
    """Nano-USD of a decimal string of USD (`"10.00"`, at most nine decimals). Raises InvalidField naming `field`."""
    match = _DECIMAL.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise InvalidField(field, 'must be a decimal string of USD such as "10.00", with at most nine decimals')
    sign, whole, decimals = match.groups()
    nano = int(whole) * NANO_PER_USD + int((decimals or "").ljust(9, "0"))
    return -nano if sign else nano


def format_usd(nano: int) -> str:
    """Decimal string of USD: two decimals at least, nine at most: `"10.00"`, `"0.000123"`."""
    whole, rest = divmod(abs(nano), NANO_PER_USD)
    decimals = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nano < 0 else ''}{whole}.{decimals}"


def round_charge(nano_times_million: int) -> int:
    """Tokens x price summed over all classes, in nano-USD: rounded half up, once a receipt."""
    return (nano_times_million + TOKENS_PER_PRICE // 2) // TOKENS_PER_PRICE
