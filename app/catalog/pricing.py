"""What usage costs. Pure: integers in, integers out, rounded once."""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from app.base.errors import InvalidField
from app.base.money import NANO_PER_USD, format_usd, parse_usd, round_charge

__all__ = ["FREE", "Prices", "Tokens", "amount_nano", "parse_prices", "show_prices", "worst_case_nano"]


class Tokens(Protocol):
    """Token counts by class. `input_tokens` includes the cached and the cache-written ones, `output_tokens` the
    reasoning ones."""

    @property
    def input_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def cached_input_tokens(self) -> int: ...
    @property
    def cache_write_tokens(self) -> int: ...


class Prices(msgspec.Struct, frozen=True, omit_defaults=True):
    """Nano-USD per million tokens, and nano-USD a request. A class without its own price costs what `input` does."""

    input: int
    output: int
    cached_input: int | None = None
    cache_write: int | None = None
    request: int = 0


# With at most a billion tokens of each class, no charge comes near what a wallet can hold exactly.
_PRICE_MOST_NANO = 2_000 * NANO_PER_USD

FREE = Prices(input=0, output=0)


def amount_nano(prices: Prices, usage: Tokens) -> int:
    """The charge for `usage`, in nano-USD: every class at its price, summed, rounded half up once."""
    cached = min(usage.cached_input_tokens, usage.input_tokens)
    written = min(usage.cache_write_tokens, usage.input_tokens - cached)
    fresh = usage.input_tokens - cached - written
    total = fresh * prices.input + usage.output_tokens * prices.output
    if cached:
        total += cached * (prices.input if prices.cached_input is None else prices.cached_input)
    if written:
        total += written * (prices.input if prices.cache_write is None else prices.cache_write)
    return round_charge(total) + prices.request


def worst_case_nano(prices: Prices, input_tokens: int, output_tokens: int) -> int:
    """The most that so many tokens can cost, whichever classes the vendor puts them in."""
    dearest = max(prices.input, prices.cached_input or 0, prices.cache_write or 0)
    return round_charge(input_tokens * dearest + output_tokens * prices.output) + prices.request


def parse_prices(sent: object, field: str) -> Prices:
    """Prices from decimal strings of USD: per million tokens, `request` each. Raises InvalidField."""
    if not isinstance(sent, Mapping):
        raise InvalidField(field, "must be an object of prices")
    known = Prices.__struct_fields__
    values: dict[str, int] = {}
    for name, text in sent.items():
        if name not in known:
            raise InvalidField(f"{field}.{name}", f"is not a price; those are {', '.join(known)}")
        if text is None:
            continue
        values[name] = parse_usd(text, f"{field}.{name}")
        if not 0 <= values[name] <= _PRICE_MOST_NANO:
            raise InvalidField(f"{field}.{name}", f"must be from 0 to {format_usd(_PRICE_MOST_NANO)}")
    for name in ("input", "output"):
        if name not in values:
            raise InvalidField(f"{field}.{name}", "is required")
    return Prices(**values)


def show_prices(prices: Prices) -> dict[str, str]:
    """The same as decimal strings."""
    shown = {name: getattr(prices, name) for name in Prices.__struct_fields__}
    return {name: format_usd(nano) for name, nano in shown.items() if nano is not None}
