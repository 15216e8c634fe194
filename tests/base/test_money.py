"""Money: text and back without losing a nano, and rounded once, half up."""

from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base.errors import InvalidField
from app.base.money import NANO_PER_USD, WALLET_MAX_NANO, format_usd, parse_usd, round_charge

_nanos = st.integers(-WALLET_MAX_NANO, WALLET_MAX_NANO)


@given(nano=_nanos)
def test_what_is_shown_is_read_back(nano: int) -> None:
    """Every amount has one text, and that text is the amount."""
    assert parse_usd(format_usd(nano), "amount") == nano


@given(nano=_nanos)
def test_the_text_is_exact(nano: int) -> None:
    """At least two decimals, nine at most, and nothing lost among them."""
    text = format_usd(nano)
    assert Fraction(text) == Fraction(nano, NANO_PER_USD)
    assert 2 <= len(text.partition(".")[2]) <= 9


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "0.00"),
        (1, "0.000000001"),
        (-1, "-0.000000001"),
        (123_000, "0.000123"),
        (10_000_000_000, "10.00"),
        (1_500_000_000, "1.50"),
        (-2_345_000_000, "-2.345"),
        (WALLET_MAX_NANO, "9007199.254740991"),
    ],
)
def test_amounts_as_people_write_them(nano: int, text: str) -> None:
    assert format_usd(nano) == text


@pytest.mark.parametrize(
    ("text", "nano"),
    [("0", 0), ("7", 7_000_000_000), ("007.5", 7_500_000_000), ("-0.1", -100_000_000), ("0.000000001", 1), ("-0", 0)],
)
def test_texts_that_are_amounts(text: str, nano: int) -> None:
    """Decimals may be left out; zeros in front do no harm."""
    assert parse_usd(text, "amount") == nano


@pytest.mark.parametrize(
    "sent",
    [
        *("", " ", "1 ", " 1", "1\n", "+1", "--1", ".5", "1.", "1,00", "1_000", "1e3", "NaN", "inf", "0x10", "$1"),
        *("1.0000000001", "12345678901.00", "\u0661", "\uff11", "1.\u0660", "-", "1.2.3"),
        *(1, 1.5, None, True, b"1", ["1"], {"usd": "1"}),
    ],
)
def test_anything_else_is_refused_by_name(sent: object) -> None:
    """A float is no amount, nor is a text that could be read in two ways: the answer names the field."""
    with pytest.raises(InvalidField) as refusal:
        parse_usd(sent, "prices.input")
    assert (refusal.value.param, refusal.value.status) == ("prices.input", 400)
    assert "prices.input" in refusal.value.message


@pytest.mark.parametrize("sent", ["9007199.254740992", "-9007199.254740992", "9999999999", "9999999999.999999999"])
def test_more_than_a_wallet_can_hold_is_refused_by_name(sent: str) -> None:
    """No caller can be sent an amount that a wallet, or 64 bits, can't hold; a caller may set another bound."""
    with pytest.raises(InvalidField, match=r"'budgets\[0\]\.amount': must be at most 9007199\.254740991 USD"):
        parse_usd(sent, "budgets[0].amount")
    with pytest.raises(InvalidField, match="at most 2\\.00 USD"):
        parse_usd("2.000000001", "prices.input", 2 * NANO_PER_USD)


@given(exact=st.integers(0, 10**24))
def test_a_charge_is_rounded_half_up(exact: int) -> None:
    """Against exact arithmetic: the nearest nano, and the larger one from the middle."""
    assert round_charge(exact) == floor(Fraction(exact, 1_000_000) + Fraction(1, 2))


@pytest.mark.parametrize(
    ("exact", "nano"), [(0, 0), (499_999, 0), (500_000, 1), (1_499_999, 1), (1_500_000, 2), (2_500_000, 3)]
)
def test_the_middle_goes_up(exact: int, nano: int) -> None:
    """Not to the even neighbour, as floats would have it."""
    assert round_charge(exact) == nano
