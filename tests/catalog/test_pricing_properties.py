"""What holds for any prices and any usage: the hold covers the charge, more never costs less, texts lose nothing."""

from hypothesis import assume, example, given
from hypothesis import strategies as st

from app.base.money import MULTIPLIER_ONE, format_multiplier, parse_multiplier
from app.base.receipt import Extras, Usage
from app.catalog.pricing import (
    Prices,
    Rates,
    Tier,
    amount_nano,
    charged_tier,
    parse_prices,
    show_prices,
    worst_case_nano,
)

_CLASSES = [name for name in Rates.__struct_fields__ if name not in ("input", "output")]

_price = st.integers(0, 2 * 10**12)
_rates = {"input": _price, "output": _price, **{name: st.none() | _price for name in _CLASSES}}
_tiers = st.lists(
    st.builds(Tier, above_input_tokens=st.integers(1, 10**6), **_rates),
    max_size=3,
    unique_by=lambda tier: tier.above_input_tokens,
).map(lambda tiers: tuple(sorted(tiers, key=lambda tier: tier.above_input_tokens)))
_multiplier = st.integers(0, 1000 * MULTIPLIER_ONE)
_priced_tier = st.sampled_from(["priority", "flex", "scale"])
_field = st.sampled_from(["web_search_options", "plugins", "store"])
_prices = st.builds(
    Prices,
    request=_price,
    tiers=_tiers,
    service_tiers=st.dictionaries(_priced_tier, _multiplier),
    fields=st.dictionaries(_field, _price),
    **_rates,
)
_tier = st.none() | _priced_tier | st.sampled_from(["auto", "default", "unheard-of"])
_fields = st.lists(_field, unique=True).map(lambda names: tuple(sorted(names)))
_tokens = st.integers(0, 10**6)
_usage = st.builds(Usage, **dict.fromkeys(Usage.__struct_fields__, _tokens))


@given(prices=_prices, usage=_usage, multiplier=_multiplier, more_in=_tokens, more_out=_tokens)
def test_the_hold_covers_any_charge_within_its_bounds(
    prices: Prices, usage: Usage, multiplier: int, more_in: int, more_out: int
) -> None:
    """Whatever classes the vendor puts the tokens in, whichever tier the prompt reaches, at any multiplier."""
    worst = worst_case_nano(prices, usage.input_tokens + more_in, usage.output_tokens + more_out, multiplier)
    assert 0 <= amount_nano(prices, usage, multiplier) <= worst


@given(prices=_prices, usage=_usage, multiplier=_multiplier, asked=_tier, served=_tier, sent=_fields, data=st.data())
def test_the_hold_covers_whatever_tier_is_served(
    prices: Prices,
    usage: Usage,
    multiplier: int,
    asked: str | None,
    served: str | None,
    sent: tuple[str, ...],
    data: st.DataObject,
) -> None:
    """A vendor may serve any tier; one that is dearer than what was asked for is charged at what was held. Of the
    fields that were held for, any may have been dropped on the way."""
    asked_for = Extras(service_tier=asked, fields=sent)
    worst = worst_case_nano(prices, usage.input_tokens, usage.output_tokens, multiplier, asked_for)
    passed = tuple(name for name in sent if data.draw(st.booleans()))
    charged = Extras(service_tier=charged_tier(prices, asked, served), fields=passed)
    assert amount_nano(prices, usage, multiplier, charged) <= worst


@given(
    prices=_prices,
    input_tokens=st.integers(0, 10**9),
    output_tokens=st.integers(0, 10**9),
    multiplier=_multiplier,
    tier=_tier,
)
@example(
    prices=Prices(input=2 * 10**12, output=2 * 10**12, service_tiers={"priority": 1000 * MULTIPLIER_ONE}),
    input_tokens=10**9,
    output_tokens=10**9,
    multiplier=1000 * MULTIPLIER_ONE,
    tier="priority",
)
def test_no_charge_passes_what_redis_counts_exactly(
    prices: Prices, input_tokens: int, output_tokens: int, multiplier: int, tier: str | None
) -> None:
    """At the highest prices, factor and multiplier that an operator can set, for the most tokens that are read."""
    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    assert 0 <= amount_nano(prices, usage, multiplier, Extras(service_tier=tier)) < 2**53


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
