"""What holds for any prices and any usage: the hold covers the charge, more never costs less, texts lose nothing."""

from hypothesis import assume, given
from hypothesis import strategies as st

from app.base.money import MULTIPLIER_ONE, format_multiplier, parse_multiplier
from app.base.receipt import Usage
from app.catalog.pricing import Prices, Rates, Tier, amount_nano, parse_prices, show_prices, worst_case_nano

_CLASSES = [name for name in Rates.__struct_fields__ if name not in ("input", "output")]

_price = st.integers(0, 2 * 10**12)
_rates = {"input": _price, "output": _price, **{name: st.none() | _price for name in _CLASSES}}
_tiers = st.lists(
    st.builds(Tier, above_input_tokens=st.integers(1, 10**6), **_rates),
    max_size=3,
    unique_by=lambda tier: tier.above_input_tokens,
).map(lambda tiers: tuple(sorted(tiers, key=lambda tier: tier.above_input_tokens)))
_prices = st.builds(Prices, request=_price, tiers=_tiers, **_rates)
_multiplier = st.integers(0, 1000 * MULTIPLIER_ONE)
_tokens = st.integers(0, 10**6)
_usage = st.builds(Usage, **dict.fromkeys(Usage.__struct_fields__, _tokens))


@given(prices=_prices, usage=_usage, multiplier=_multiplier, more_in=_tokens, more_out=_tokens)
def test_the_hold_covers_any_charge_within_its_bounds(
    prices: Prices, usage: Usage, multiplier: int, more_in: int, more_out: int
) -> None:
    """Whatever classes the vendor puts the tokens in, whichever tier the prompt reaches, at any multiplier."""
    worst = worst_case_nano(prices, usage.input_tokens + more_in, usage.output_tokens + more_out, multiplier)
    assert 0 <= amount_nano(prices, usage, multiplier) <= worst


@given(prices=_prices, usage=_usage, multiplier=_multiplier, more=_tokens)
def test_more_output_never_costs_less(prices: Prices, usage: Usage, multiplier: int, more: int) -> None:
    longer = Usage(
        **{name: getattr(usage, name) for name in Usage.__struct_fields__ if name != "output_tokens"},
        output_tokens=usage.output_tokens + more,
    )
    assert amount_nano(prices, usage, multiplier) <= amount_nano(prices, longer, multiplier)


@given(prices=_prices, usage=_usage, more=_tokens)
def test_a_longer_prompt_of_the_same_tier_never_costs_less(prices: Prices, usage: Usage, more: int) -> None:
    """Across tiers it may: vendors can make long prompts cheaper."""
    longer = Usage(
        **{name: getattr(usage, name) for name in Usage.__struct_fields__ if name != "input_tokens"},
        input_tokens=usage.input_tokens + more,
    )
    assume(not any(usage.input_tokens <= tier.above_input_tokens < longer.input_tokens for tier in prices.tiers))
    assert amount_nano(prices, usage) <= amount_nano(prices, longer)


@given(prices=_prices, usage=_usage, multiplier=_multiplier, more=_multiplier)
def test_a_higher_multiplier_never_costs_less(prices: Prices, usage: Usage, multiplier: int, more: int) -> None:
    assert amount_nano(prices, usage, multiplier) <= amount_nano(prices, usage, multiplier + more)


@given(input_price=_price, output_price=_price, usage=_usage)
def test_classes_at_the_price_of_their_whole_change_nothing(input_price: int, output_price: int, usage: Usage) -> None:
    """How a vendor splits the tokens matters only where a class has a price of its own."""
    flat = Prices(input=input_price, output=output_price)
    unsplit = Usage(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)
    assert amount_nano(flat, usage) == amount_nano(flat, unsplit)


@given(prices=_prices)
def test_prices_with_tiers_survive_their_texts(prices: Prices) -> None:
    """What the operator API shows can be sent back as it is."""
    assert parse_prices(show_prices(prices), "prices") == prices


@given(multiplier=_multiplier)
def test_multipliers_survive_their_texts(multiplier: int) -> None:
    assert parse_multiplier(format_multiplier(multiplier), "multiplier") == multiplier
