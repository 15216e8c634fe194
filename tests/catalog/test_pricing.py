"""Pricing: every class at its price, rounded once, never above what was held for it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base.errors import InvalidField
from app.base.receipt import Extras, Usage
from app.catalog.pricing import FREE, Prices, amount_nano, charged_tier, parse_prices, show_prices, worst_case_nano

# 2.50 and 10.00 USD per million tokens: 2,500 and 10,000 nano a token.
PLAIN = Prices(input=2_500_000_000, output=10_000_000_000)
CACHED = Prices(input=2_500_000_000, output=10_000_000_000, cached_input=1_250_000_000, cache_write=3_125_000_000)


@pytest.mark.parametrize(
    ("prices", "usage", "nano"),
    [
        (PLAIN, Usage(), 0),
        (PLAIN, Usage(input_tokens=1), 2_500),
        (PLAIN, Usage(output_tokens=1), 10_000),
        (PLAIN, Usage(input_tokens=1000, output_tokens=200), 4_500_000),
        (PLAIN, Usage(input_tokens=1000, cached_input_tokens=400), 2_500_000),
        (CACHED, Usage(input_tokens=1000, cached_input_tokens=400), 2_000_000),
        (CACHED, Usage(input_tokens=1000, cache_write_tokens=400), 2_750_000),
        (CACHED, Usage(input_tokens=1000, cached_input_tokens=400, cache_write_tokens=400), 2_250_000),
        (CACHED, Usage(input_tokens=10, cached_input_tokens=99), 12_500),
        (CACHED, Usage(input_tokens=10, cached_input_tokens=6, cache_write_tokens=99), 20_000),
        (CACHED, Usage(output_tokens=100, reasoning_tokens=90), 1_000_000),
        (Prices(input=5, output=7, cached_input=0), Usage(input_tokens=10**6, cached_input_tokens=10**6), 0),
        (Prices(input=0, output=0, request=1_000_000), Usage(), 1_000_000),
        (Prices(input=1, output=1, request=3), Usage(input_tokens=10**6, output_tokens=10**6), 5),
        (Prices(input=1, output=1), Usage(input_tokens=499_999), 0),
        (Prices(input=1, output=1), Usage(input_tokens=500_000), 1),
        (Prices(input=1, output=1), Usage(input_tokens=250_000, output_tokens=250_000), 1),
        (Prices(input=1, output=1), Usage(input_tokens=1_499_999), 1),
        (FREE, Usage(input_tokens=10**9, output_tokens=10**9), 0),
    ],
)
def test_cases_worked_by_hand(prices: Prices, usage: Usage, nano: int) -> None:
    """Cached and cache-written tokens are part of the input; a class without a price costs what input does."""
    assert amount_nano(prices, usage) == nano


# Half a cent of tokens, at twice that for priority and half of it for flex; a search costs a cent.
EXTRA = Prices(
    input=1_000_000_000,
    output=4_000_000_000,
    request=7,
    service_tiers={"flex": 500_000, "priority": 2_000_000},
    fields={"web_search_options": 10_000_000},
)
USAGE = Usage(input_tokens=1000, output_tokens=1000)


@pytest.mark.parametrize(
    ("extras", "nano"),
    [
        (Extras(), 5_000_007),
        (Extras(service_tier="default"), 5_000_007),
        (Extras(service_tier="unheard-of"), 5_000_007),
        (Extras(service_tier="priority"), 10_000_007),
        (Extras(service_tier="flex"), 2_500_007),
        (Extras(fields=("web_search_options",)), 15_000_007),
        (Extras(fields=("store",)), 5_000_007),
        (Extras(service_tier="priority", fields=("store", "web_search_options")), 20_000_007),
    ],
)
def test_what_is_priced_beside_the_tokens(extras: Extras, nano: int) -> None:
    """The factor of the served tier is for the tokens alone; a field costs what it costs a request."""
    assert amount_nano(EXTRA, USAGE, extras=extras) == nano


def test_a_tier_is_rounded_once_with_all_the_rest() -> None:
    """A third of a nano, times 1.5, times 1.5: not rounded in between."""
    prices = Prices(input=1, output=1, service_tiers={"priority": 1_500_000})
    usage = Usage(input_tokens=333_333)
    assert amount_nano(prices, usage, 1_500_000, Extras(service_tier="priority")) == 1
    assert amount_nano(prices, usage, 1_500_000) == 0


@pytest.mark.parametrize(
    ("asked", "nano"),
    [(None, 5_000_007), ("flex", 5_000_007), ("priority", 10_000_007), ("auto", 10_000_007), ("default", 5_000_007)],
)
def test_the_dearest_tier_that_may_be_served_is_held(asked: str | None, nano: int) -> None:
    """A vendor may serve the standard tier in place of a cheaper one, and any at all for `auto`."""
    assert worst_case_nano(EXTRA, 1000, 1000, extras=Extras(service_tier=asked)) == nano


@pytest.mark.parametrize(
    ("asked", "served", "charged"),
    [
        (None, "priority", None),
        ("flex", "priority", None),
        ("flex", "flex", "flex"),
        ("flex", "default", "default"),
        ("priority", "flex", "flex"),
        ("priority", "priority", "priority"),
        ("priority", None, None),
        ("auto", "priority", "priority"),
        (None, "flex", "flex"),
    ],
)
def test_a_tier_nobody_asked_for_is_not_charged(asked: str | None, served: str | None, charged: str | None) -> None:
    """It never raises the charge above what was held."""
    assert charged_tier(EXTRA, asked, served) == charged


def test_a_dearer_tier_is_charged_as_the_one_that_was_asked_for() -> None:
    prices = Prices(input=1, output=1, service_tiers={"priority": 2_000_000, "scale": 3_000_000})
    assert charged_tier(prices, "priority", "scale") == "priority"


_price = st.integers(0, 2 * 10**12)
_tokens = st.integers(0, 10**8)
_prices = st.builds(
    Prices,
    input=_price,
    output=_price,
    cached_input=st.none() | _price,
    cache_write=st.none() | _price,
    request=_price,
)
_usage = st.builds(
    Usage, input_tokens=_tokens, output_tokens=_tokens, cached_input_tokens=_tokens, cache_write_tokens=_tokens
)


@given(prices=_prices, usage=_usage, more_input=_tokens, more_output=_tokens)
def test_the_worst_case_is_never_exceeded(prices: Prices, usage: Usage, more_input: int, more_output: int) -> None:
    """Whatever classes the vendor puts the tokens in, within the bounds the hold pays for them."""
    worst = worst_case_nano(prices, usage.input_tokens + more_input, usage.output_tokens + more_output)
    assert 0 <= amount_nano(prices, usage) <= worst


@given(prices=_prices)
def test_prices_survive_their_texts(prices: Prices) -> None:
    """What the operator API shows can be sent back as it is."""
    assert parse_prices(show_prices(prices), "prices") == prices


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        (None, "prices"),
        ([], "prices"),
        ({}, "prices.input"),
        ({"input": "1"}, "prices.output"),
        ({"input": None, "output": "1"}, "prices.input"),
        ({"input": "1", "output": "-0.01"}, "prices.output"),
        ({"input": 1.5, "output": "1"}, "prices.input"),
        ({"input": "1", "output": "1", "cached_input": "free"}, "prices.cached_input"),
        ({"input": "1", "output": "1", "cached": "1"}, "prices.cached"),
        ({"input": "1", "output": "1", "service_tiers": []}, "prices.service_tiers"),
        ({"input": "1", "output": "1", "service_tiers": {"priority": 2}}, "prices.service_tiers.priority"),
        ({"input": "1", "output": "1", "service_tiers": {"priority": "-1"}}, "prices.service_tiers.priority"),
        ({"input": "1", "output": "1", "service_tiers": {"auto": "2"}}, "prices.service_tiers.auto"),
        ({"input": "1", "output": "1", "service_tiers": {"default": "2"}}, "prices.service_tiers.default"),
        ({"input": "1", "output": "1", "service_tiers": {"": "2"}}, "prices.service_tiers"),
        ({"input": "1", "output": "1", "fields": {"plugins": "-0.01"}}, "prices.fields.plugins"),
        ({"input": "1", "output": "1", "fields": {str(n): "1" for n in range(51)}}, "prices.fields"),
    ],
)
def test_a_bad_price_is_named(sent: Any, field: str) -> None:
    """Missing, negative, no amount, or of a class that does not exist: a typo must not sell for nothing."""
    with pytest.raises(InvalidField) as refusal:
        parse_prices(sent, "prices")
    assert refusal.value.param == field


def test_extras_are_shown_as_they_are_sent() -> None:
    sent = {
        "input": "1.00",
        "output": "4.00",
        "request": "0.000000007",
        "service_tiers": {"flex": "0.5", "priority": "2"},
        "fields": {"web_search_options": "0.01"},
    }
    prices = parse_prices(sent, "prices")
    assert prices == EXTRA
    assert show_prices(prices) == sent


def test_a_class_left_out_is_not_a_free_one() -> None:
    """None costs what input costs; "0" is free."""
    sent = {"input": "1", "output": "2", "cached_input": "0", "cache_write": None}
    prices = parse_prices(sent, "prices")
    assert (prices.cached_input, prices.cache_write, prices.request) == (0, None, 0)
