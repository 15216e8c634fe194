"""The money of a run in integers of nano-USD, computed apart from the gateway's own code.

Prices are nano-USD per million tokens; a charge is rounded once, half up. No floats: text becomes Decimal,
then int.
"""

from __future__ import annotations

from decimal import Decimal

# Prices with nine digits after the point, so that charges have a remainder to round.
PRICE_INPUT_USD = "2.512345678"
PRICE_OUTPUT_USD = "10.087654321"
CREDIT_USD = "5000.00"
_TOKENS_PER_PRICE = 1_000_000


def nano(usd: str) -> int:
    """A decimal string in USD as nano-USD. Raises ValueError when it is finer than a nano."""
    scaled = Decimal(usd).scaleb(9)
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{usd} is finer than a nano-USD")
    return int(scaled)


def charge_nano(input_tokens: int, output_tokens: int) -> int:
    """What one request costs at the prices of this run."""
    exact = input_tokens * nano(PRICE_INPUT_USD) + output_tokens * nano(PRICE_OUTPUT_USD)
    return (exact + _TOKENS_PER_PRICE // 2) // _TOKENS_PER_PRICE
