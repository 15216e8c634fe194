"""What usage costs, and what is priced beside it. Pure: integers in, integers out, rounded once."""

import re
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from app.base.errors import InvalidField
from app.base.money import (
    MULTIPLIER_ONE,
    NANO_PER_USD,
    WALLET_MAX_NANO,
    format_multiplier,
    format_usd,
    parse_multiplier,
    parse_usd,
    round_charge,
)
from app.base.receipt import NO_EXTRAS, Extras

__all__ = [
    "FREE",
    "Cost",
    "Prices",
    "Rates",
    "Sale",
    "Tier",
    "Tokens",
    "amount_nano",
    "charged_tier",
    "parse_prices",
    "show_prices",
    "worst_case_nano",
]


class Tokens(Protocol):
    """Token counts by class. `input_tokens` includes the cached, the cache-written, the audio and the image ones,
    `output_tokens` the reasoning, the audio and the image ones; `cache_write_tokens` those kept for an hour."""

    @property
    def input_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def cached_input_tokens(self) -> int: ...
    @property
    def cache_write_tokens(self) -> int: ...
    @property
    def cache_write_1h_tokens(self) -> int: ...
    @property
    def reasoning_tokens(self) -> int: ...
    @property
    def audio_input_tokens(self) -> int: ...
    @property
    def audio_output_tokens(self) -> int: ...
    @property
    def image_input_tokens(self) -> int: ...
    @property
    def image_output_tokens(self) -> int: ...


class Rates(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Nano-USD per million tokens of each class. A class without a price of its own costs what its whole does: `input`
    or `output`; and a cache write for an hour what a cache write does."""

    input: int
    output: int
    cached_input: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None
    image_input: int | None = None
    image_output: int | None = None


class Tier(Rates, frozen=True, kw_only=True, omit_defaults=True):
    """The rates of requests whose prompt is longer than `above_input_tokens`, for all their tokens. A class that the
    tier does not name costs what it does in the tier below, where it has a price of its own there."""

    above_input_tokens: int


class Prices(Rates, frozen=True, kw_only=True, omit_defaults=True):
    """What a model is sold, or bought, for. `request` is nano-USD a request; `tiers` rise with the prompt's length.

    `service_tiers` has the millionths by which all rates of tokens are multiplied where the vendor serves a request at
    that tier; `fields` the nano-USD that a request costs more for having that field.
    """

    request: int = 0
    tiers: tuple[Tier, ...] = ()
    service_tiers: dict[str, int] = {}
    fields: dict[str, int] = {}


class Sale(msgspec.Struct, frozen=True):
    """What one customer pays for a model: a price version, and the millionths of it that their price book takes."""

    version: str
    prices: Prices
    multiplier: int = MULTIPLIER_ONE


class Cost(msgspec.Struct, frozen=True):
    """What a channel's vendor takes for one of its models."""

    version: str
    prices: Prices


_PRICE_MOST_NANO = 2_000 * NANO_PER_USD
_TIERS_MOST = 10
_TIER_MOST_TOKENS = 1_000_000_000
_EXTRAS_MOST = 50
_extra_name = re.compile(r"[A-Za-z0-9_.-]{1,100}")
# What a vendor serves where nothing is asked for, at the rates themselves; and a customer's word for any tier.
_STANDARD_TIER = "default"
_ANY_TIER = "auto"

FREE = Prices(input=0, output=0)

_CLASSES = Rates.__struct_fields__


def amount_nano(prices: Prices, usage: Tokens, multiplier: int = MULTIPLIER_ONE, extras: Extras = NO_EXTRAS) -> int:
    """The charge for `usage`, in nano-USD: every class at its price, summed, times the factor of the tier that was
    served, with the price of each field that was passed on, times `multiplier` millionths, rounded half up once.

    Never more than WALLET_MAX_NANO, whatever the prices and the vendor's figures: Redis counts exactly up to there.
    """
    rates = _rates_at(prices, usage.input_tokens) if prices.tiers else prices
    tokens = _of_input(rates, usage) + _of_output(rates, usage)
    if extras is NO_EXTRAS:  # as most requests
        charge = round_charge(tokens, prices.request, multiplier)
    else:
        factor = _factor(prices, extras.service_tier)
        charge = round_charge(tokens, _fixed_nano(prices, extras), multiplier, factor)
    return charge if charge <= WALLET_MAX_NANO else WALLET_MAX_NANO  # noqa: FURB136 - a call for every request


def worst_case_nano(
    prices: Prices,
    input_tokens: int,
    output_tokens: int,
    multiplier: int = MULTIPLIER_ONE,
    extras: Extras = NO_EXTRAS,
) -> int:
    """The most that so many tokens can cost, whichever classes the vendor puts them in, and whether it serves the tier
    that `extras` asks for or the standard one. Not bounded: what a wallet can't hold is refused for it."""
    worst = _worst(prices, input_tokens, output_tokens)
    for tier in prices.tiers:
        if input_tokens > tier.above_input_tokens:
            rates = _rates_at(prices, tier.above_input_tokens + 1)
            worst = max(worst, _worst(rates, input_tokens, output_tokens))
    if extras is NO_EXTRAS:
        return round_charge(worst, prices.request, multiplier)
    factor = _held_factor(prices, extras.service_tier)
    return round_charge(worst, _fixed_nano(prices, extras), multiplier, factor)


def charged_tier(prices: Prices, asked: str | None, served: str | None) -> str | None:
    """The tier that a request is charged at which asked for one and was served at another: never one that is dearer
    than what was held for it. None: the rates themselves."""
    factor, held = _factor(prices, served), _held_factor(prices, asked)
    if factor <= held:
        return served
    return asked if _factor(prices, asked) == held else None


def _factor(prices: Prices, served: str | None) -> int:
    """Millionths of the rates at a tier; one that has no price costs what the rates say."""
    return MULTIPLIER_ONE if served is None else prices.service_tiers.get(served, MULTIPLIER_ONE)


def _held_factor(prices: Prices, asked: str | None) -> int:
    """A vendor may serve the standard tier in place of any other, and whichever it likes for `auto`."""
    if asked == _ANY_TIER:
        return max((MULTIPLIER_ONE, *prices.service_tiers.values()))
    return max(MULTIPLIER_ONE, _factor(prices, asked))


def _fixed_nano(prices: Prices, extras: Extras) -> int:
    """What a request costs whatever its tokens."""
    if not extras.fields:
        return prices.request
    return prices.request + sum(prices.fields.get(name, 0) for name in extras.fields)


def _of_input(rates: Rates, usage: Tokens) -> int:
    cached, written = usage.cached_input_tokens, usage.cache_write_tokens
    audio, image = usage.audio_input_tokens, usage.image_input_tokens
    if not (cached or written or audio or image):  # most prompts are of one class
        return usage.input_tokens * rates.input
    for_an_hour = min(usage.cache_write_1h_tokens, written)
    parts = (
        (cached, rates.cached_input),
        (for_an_hour, _hourly_write(rates)),
        (written - for_an_hour, rates.cache_write),
        (audio, rates.audio_input),
        (image, rates.image_input),
    )
    return _side(usage.input_tokens, rates.input, parts)


def _of_output(rates: Rates, usage: Tokens) -> int:
    reasoning, audio, image = usage.reasoning_tokens, usage.audio_output_tokens, usage.image_output_tokens
    if not (reasoning or audio or image):
        return usage.output_tokens * rates.output
    parts = ((reasoning, rates.reasoning), (audio, rates.audio_output), (image, rates.image_output))
    return _side(usage.output_tokens, rates.output, parts)


def _worst(rates: Rates, input_tokens: int, output_tokens: int) -> int:
    """Written out: it runs for every request."""
    dearest_input = max(
        rates.input,
        rates.cached_input or 0,
        rates.cache_write or 0,
        rates.cache_write_1h or 0,
        rates.audio_input or 0,
        rates.image_input or 0,
    )
    dearest_output = max(rates.output, rates.reasoning or 0, rates.audio_output or 0, rates.image_output or 0)
    return input_tokens * dearest_input + output_tokens * dearest_output


def _rates_at(prices: Prices, input_tokens: int) -> Rates:
    """The rates of a request with so long a prompt."""
    if not prices.tiers:
        return prices
    rates: Rates = prices
    for tier in prices.tiers:
        if input_tokens <= tier.above_input_tokens:
            break
        below = rates
        own = {name: getattr(below, name) if (rate := getattr(tier, name)) is None else rate for name in _CLASSES}
        rates = Rates(**own)
    return rates


def _hourly_write(rates: Rates) -> int | None:
    return rates.cache_write if rates.cache_write_1h is None else rates.cache_write_1h


def _side(whole: int, rate: int, parts: tuple[tuple[int, int | None], ...]) -> int:
    """Tokens x rate of one side of the usage. Parts never add up to more than their whole, whatever a vendor says."""
    total, left = 0, whole
    for tokens, own_rate in parts:
        if tokens > 0 and own_rate is not None:
            counted = min(tokens, left)
            total += counted * own_rate
            left -= counted
    return total + left * rate


def parse_prices(sent: object, field: str) -> Prices:
    """Prices from decimal strings of USD: per million tokens, `request` and each of `fields` a request; `tiers` are a
    list of the same with `above_input_tokens`; `service_tiers` are decimal strings by which the rates are multiplied.
    Raises InvalidField."""
    if not isinstance(sent, Mapping):
        raise InvalidField(field, "must be an object of prices")
    rest = dict(sent)
    tiers = _parse_tiers(rest.pop("tiers", None), f"{field}.tiers")
    request = rest.pop("request", None)
    request_nano = 0 if request is None else _parse_price(request, f"{field}.request")
    service_tiers = _parse_extras(rest.pop("service_tiers", None), f"{field}.service_tiers", parse_multiplier)
    for name in (_STANDARD_TIER, _ANY_TIER):
        if name in service_tiers:
            raise InvalidField(f"{field}.service_tiers.{name}", "is no tier with a price of its own")
    return Prices(
        request=request_nano,
        tiers=tiers,
        service_tiers=service_tiers,
        fields=_parse_extras(rest.pop("fields", None), f"{field}.fields", _parse_price),
        **_parse_rates(rest, field, (*_CLASSES, "request", "tiers", "service_tiers", "fields")),
    )


def _parse_extras(sent: object, field: str, parse: Callable[[object, str], int]) -> dict[str, int]:
    """By name, sorted."""
    if sent is None:
        return {}
    if not isinstance(sent, Mapping) or len(sent) > _EXTRAS_MOST:
        raise InvalidField(field, f"must be an object of at most {_EXTRAS_MOST} names")
    for name in sent:
        if not isinstance(name, str) or not _extra_name.fullmatch(name):
            raise InvalidField(field, "has a name that is none: those are of letters, digits, `_`, `.` and `-`")
    return {name: parse(sent[name], f"{field}.{name}") for name in sorted(sent)}


def _parse_tiers(sent: object, field: str) -> tuple[Tier, ...]:
    if sent is None:
        return ()
    if not isinstance(sent, (list, tuple)) or len(sent) > _TIERS_MOST:
        raise InvalidField(field, f"must be a list of at most {_TIERS_MOST} tiers")
    tiers: list[Tier] = []
    for index, each in enumerate(sent):
        at = f"{field}[{index}]"
        if not isinstance(each, Mapping):
            raise InvalidField(at, "must be an object of prices")
        rest = dict(each)
        above = rest.pop("above_input_tokens", None)
        if isinstance(above, bool) or not isinstance(above, int) or not 0 < above <= _TIER_MOST_TOKENS:
            raise InvalidField(f"{at}.above_input_tokens", f"must be a whole number from 1 to {_TIER_MOST_TOKENS}")
        if tiers and above <= tiers[-1].above_input_tokens:
            raise InvalidField(f"{at}.above_input_tokens", "must be more than that of the tier before")
        tiers.append(Tier(**_parse_rates(rest, at, (*_CLASSES, "above_input_tokens")), above_input_tokens=above))
    return tuple(tiers)


def _parse_rates(sent: Mapping[str, object], field: str, known: tuple[str, ...]) -> dict[str, int]:
    rates: dict[str, int] = {}
    for name, text in sent.items():
        if name not in known:
            raise InvalidField(f"{field}.{name}", f"is not a price; those are {', '.join(known)}")
        if text is not None:
            rates[name] = _parse_price(text, f"{field}.{name}")
    for name in ("input", "output"):
        if name not in rates:
            raise InvalidField(f"{field}.{name}", "is required")
    return rates


def _parse_price(text: object, field: str) -> int:
    nano = parse_usd(text, field, _PRICE_MOST_NANO)
    if nano < 0:
        raise InvalidField(field, f"must be from 0 to {format_usd(_PRICE_MOST_NANO)}")
    return nano


def show_prices(prices: Rates) -> dict[str, object]:
    """The same as decimal strings."""
    shown: dict[str, object] = {}
    for name in prices.__struct_fields__:
        value = getattr(prices, name)
        if name == "tiers":
            if value:
                shown[name] = [show_prices(tier) for tier in value]
        elif name == "service_tiers":
            if value:
                shown[name] = {tier: format_multiplier(factor) for tier, factor in value.items()}
        elif name == "fields":
            if value:
                shown[name] = {each: format_usd(nano) for each, nano in value.items()}
        elif name == "above_input_tokens":
            shown[name] = value
        elif value is not None:
            shown[name] = format_usd(value)
    return shown
