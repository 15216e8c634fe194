"""Prices worked out by hand, one case a line: the arithmetic is the case's name, in nano-USD."""

import pytest

from app.base.receipt import Usage
from app.catalog.pricing import FREE, Prices, Tier, amount_nano

USD = 10**9  # a price of one USD per million tokens: 1,000 nano a token
ONE = 1_000_000

PLAIN = Prices(input=2 * USD, output=8 * USD)
FULL = Prices(
    input=2 * USD,
    output=8 * USD,
    cached_input=USD // 2,
    cache_write=5 * USD // 2,
    cache_write_1h=4 * USD,
    reasoning=12 * USD,
    audio_input=40 * USD,
    audio_output=80 * USD,
    image_input=10 * USD,
    image_output=30 * USD,
)
TIERED = Prices(
    input=USD,
    output=4 * USD,
    cached_input=USD // 10,
    tiers=(
        Tier(above_input_tokens=1000, input=2 * USD, output=6 * USD),
        Tier(above_input_tokens=5000, input=3 * USD, output=9 * USD, cached_input=USD // 2, cache_write=5 * USD),
        Tier(above_input_tokens=9000, input=4 * USD, output=10 * USD),
    ),
)
NANO = Prices(input=1, output=1)  # a nano for a million tokens: what is left to rounding

Case = tuple[str, Prices, Usage, int, int]

PLAIN_CASES: list[Case] = [
    ("nothing: 0", PLAIN, Usage(), ONE, 0),
    ("1 in x 2,000", PLAIN, Usage(input_tokens=1), ONE, 2_000),
    ("1 out x 8,000", PLAIN, Usage(output_tokens=1), ONE, 8_000),
    ("1,000 x 2,000 + 500 x 8,000", PLAIN, Usage(input_tokens=1000, output_tokens=500), ONE, 6_000_000),
    ("a million in: 2 USD", PLAIN, Usage(input_tokens=10**6), ONE, 2 * USD),
    ("a billion out: 8,000 USD", PLAIN, Usage(output_tokens=10**9), ONE, 8_000 * USD),
    ("free is free", FREE, Usage(input_tokens=10**9, output_tokens=10**9), ONE, 0),
    ("free in, 10 out x 8,000", Prices(input=0, output=8 * USD), Usage(input_tokens=99, output_tokens=10), ONE, 80_000),
    ("10 in x 2,000, free out", Prices(input=2 * USD, output=0), Usage(input_tokens=10, output_tokens=99), ONE, 20_000),
]
CLASS_CASES: list[Case] = [
    (
        "600 x 2,000 + 400 cached x 500",
        FULL,
        Usage(input_tokens=1000, cached_input_tokens=400),
        ONE,
        1_400_000,
    ),
    ("all cached: 1,000 x 500", FULL, Usage(input_tokens=1000, cached_input_tokens=1000), ONE, 500_000),
    (
        "cached at no price of its own: 1,000 x 2,000",
        PLAIN,
        Usage(input_tokens=1000, cached_input_tokens=400),
        ONE,
        2_000_000,
    ),
    (
        "cached at a price of zero: 600 x 2,000",
        Prices(input=2 * USD, output=8 * USD, cached_input=0),
        Usage(input_tokens=1000, cached_input_tokens=400),
        ONE,
        1_200_000,
    ),
    ("700 x 2,000 + 300 written x 2,500", FULL, Usage(input_tokens=1000, cache_write_tokens=300), ONE, 2_150_000),
    (
        "700 x 2,000 + 200 written x 2,500 + 100 for an hour x 4,000",
        FULL,
        Usage(input_tokens=1000, cache_write_tokens=300, cache_write_1h_tokens=100),
        ONE,
        2_300_000,
    ),
    (
        "700 x 2,000 + 300 for an hour x 4,000",
        FULL,
        Usage(input_tokens=1000, cache_write_tokens=300, cache_write_1h_tokens=300),
        ONE,
        2_600_000,
    ),
    (
        "an hour at the price of a write: 700 x 2,000 + 300 x 2,500",
        Prices(input=2 * USD, output=8 * USD, cache_write=5 * USD // 2),
        Usage(input_tokens=1000, cache_write_tokens=300, cache_write_1h_tokens=100),
        ONE,
        2_150_000,
    ),
    (
        "an hour alone is priced: 700 x 2,000 + 200 x 2,000 + 100 x 4,000",
        Prices(input=2 * USD, output=8 * USD, cache_write_1h=4 * USD),
        Usage(input_tokens=1000, cache_write_tokens=300, cache_write_1h_tokens=100),
        ONE,
        2_200_000,
    ),
    (
        "an hour for free: 700 x 2,000 + 200 x 2,500",
        Prices(input=2 * USD, output=8 * USD, cache_write=5 * USD // 2, cache_write_1h=0),
        Usage(input_tokens=1000, cache_write_tokens=300, cache_write_1h_tokens=100),
        ONE,
        1_900_000,
    ),
    (
        "300 x 2,000 + 400 cached x 500 + 200 written x 2,500 + 100 for an hour x 4,000",
        FULL,
        Usage(input_tokens=1000, cached_input_tokens=400, cache_write_tokens=300, cache_write_1h_tokens=100),
        ONE,
        1_700_000,
    ),
    ("40 x 8,000 + 60 reasoning x 12,000", FULL, Usage(output_tokens=100, reasoning_tokens=60), ONE, 1_040_000),
    (
        "reasoning at the price of output: 100 x 8,000",
        PLAIN,
        Usage(output_tokens=100, reasoning_tokens=60),
        ONE,
        800_000,
    ),
    (
        "reasoning for free: 40 x 8,000",
        Prices(input=0, output=8 * USD, reasoning=0),
        Usage(output_tokens=100, reasoning_tokens=60),
        ONE,
        320_000,
    ),
    ("90 x 2,000 + 10 audio x 40,000", FULL, Usage(input_tokens=100, audio_input_tokens=10), ONE, 580_000),
    ("90 x 8,000 + 10 audio x 80,000", FULL, Usage(output_tokens=100, audio_output_tokens=10), ONE, 1_520_000),
    ("80 x 2,000 + 20 image x 10,000", FULL, Usage(input_tokens=100, image_input_tokens=20), ONE, 360_000),
    ("80 x 8,000 + 20 image x 30,000", FULL, Usage(output_tokens=100, image_output_tokens=20), ONE, 1_240_000),
    ("audio at the price of input: 100 x 2,000", PLAIN, Usage(input_tokens=100, audio_input_tokens=10), ONE, 200_000),
    (
        "20 x 8,000 + 50 reasoning x 12,000 + 20 audio x 80,000 + 10 image x 30,000",
        FULL,
        Usage(output_tokens=100, reasoning_tokens=50, audio_output_tokens=20, image_output_tokens=10),
        ONE,
        2_660_000,
    ),
    (
        "in 10 x 2,000 + 40 x 500 + 30 x 2,500 + 10 x 40,000 + 10 x 10,000; out 5 x 8,000 + 5 x 12,000",
        FULL,
        Usage(
            input_tokens=100,
            cached_input_tokens=40,
            cache_write_tokens=30,
            audio_input_tokens=10,
            image_input_tokens=10,
            output_tokens=10,
            reasoning_tokens=5,
        ),
        ONE,
        # 20,000 + 20,000 + 75,000 + 400,000 + 100,000 = 615,000; 40,000 + 60,000 = 100,000
        715_000,
    ),
]
EXCESS_CASES: list[Case] = [
    ("99 cached of 10: 10 x 500", FULL, Usage(input_tokens=10, cached_input_tokens=99), ONE, 5_000),
    (
        "6 cached x 500 and what is left, 4, written x 2,500",
        FULL,
        Usage(input_tokens=10, cached_input_tokens=6, cache_write_tokens=99),
        ONE,
        13_000,
    ),
    (
        "99 for an hour of 4 written: 6 x 2,000 + 4 x 4,000",
        FULL,
        Usage(input_tokens=10, cache_write_tokens=4, cache_write_1h_tokens=99),
        ONE,
        28_000,
    ),
    ("for an hour, but none written: 10 x 2,000", FULL, Usage(input_tokens=10, cache_write_1h_tokens=5), ONE, 20_000),
    ("99 reasoning of 10: 10 x 12,000", FULL, Usage(output_tokens=10, reasoning_tokens=99), ONE, 120_000),
    (
        "8 reasoning x 12,000 and what is left, 2, audio x 80,000",
        FULL,
        Usage(output_tokens=10, reasoning_tokens=8, audio_output_tokens=5, image_output_tokens=5),
        ONE,
        256_000,
    ),
    ("cached of nothing: 0", FULL, Usage(cached_input_tokens=50, reasoning_tokens=50), ONE, 0),
    (
        "output has no part of the input's: 10 x 8,000",
        FULL,
        Usage(output_tokens=10, cached_input_tokens=10),
        ONE,
        80_000,
    ),
]
TIER_CASES: list[Case] = [
    ("below: 999 x 1,000 + 10 x 4,000", TIERED, Usage(input_tokens=999, output_tokens=10), ONE, 1_039_000),
    ("at the boundary: 1,000 x 1,000 + 10 x 4,000", TIERED, Usage(input_tokens=1000, output_tokens=10), ONE, 1_040_000),
    ("above it: 1,001 x 2,000 + 10 x 6,000", TIERED, Usage(input_tokens=1001, output_tokens=10), ONE, 2_062_000),
    ("at the second: 5,000 x 2,000", TIERED, Usage(input_tokens=5000), ONE, 10_000_000),
    ("above it: 5,001 x 3,000 + 1 x 9,000", TIERED, Usage(input_tokens=5001, output_tokens=1), ONE, 15_012_000),
    (
        "a long answer reaches no tier: 9 x 1,000 + 9,999 x 4,000",
        TIERED,
        Usage(input_tokens=9, output_tokens=9999),
        ONE,
        40_005_000,
    ),
    (
        "below: 500 x 1,000 + 400 cached x 100",
        TIERED,
        Usage(input_tokens=900, cached_input_tokens=400),
        ONE,
        540_000,
    ),
    (
        "a tier without its own cached price: 1,600 x 2,000 + 400 x 100",
        TIERED,
        Usage(input_tokens=2000, cached_input_tokens=400),
        ONE,
        3_240_000,
    ),
    (
        "a tier with its own: 5,600 x 3,000 + 400 x 500",
        TIERED,
        Usage(input_tokens=6000, cached_input_tokens=400),
        ONE,
        17_000_000,
    ),
    (
        "without its own, it is the tier's below: 9,600 x 4,000 + 400 x 500",
        TIERED,
        Usage(input_tokens=10_000, cached_input_tokens=400),
        ONE,
        38_600_000,
    ),
    (
        "a class priced in no tier so far: 2,000 x 2,000",
        TIERED,
        Usage(input_tokens=2000, cache_write_tokens=400),
        ONE,
        4_000_000,
    ),
    (
        "a class that a tier alone prices: 5,600 x 3,000 + 400 x 5,000",
        TIERED,
        Usage(input_tokens=6000, cache_write_tokens=400),
        ONE,
        18_800_000,
    ),
    (
        "cached tokens count for the boundary: 1 x 2,000 + 1,000 x 100",
        TIERED,
        Usage(input_tokens=1001, cached_input_tokens=1000),
        ONE,
        102_000,
    ),
    (
        "a tier may be cheaper: 2,000 x 500",
        Prices(input=USD, output=USD, tiers=(Tier(above_input_tokens=1000, input=USD // 2, output=USD),)),
        Usage(input_tokens=2000),
        ONE,
        1_000_000,
    ),
    (
        "a request's price is that of every tier: 1,001 x 2,000 + 7",
        Prices(input=USD, output=USD, request=7, tiers=(Tier(above_input_tokens=1000, input=2 * USD, output=USD),)),
        Usage(input_tokens=1001),
        ONE,
        2_002_007,
    ),
]
REQUEST_CASES: list[Case] = [
    ("a request alone: 0.02 USD", Prices(input=0, output=0, request=20_000_000), Usage(), ONE, 20_000_000),
    ("3 + 10 x 2,000", Prices(input=2 * USD, output=0, request=3), Usage(input_tokens=10), ONE, 20_003),
    ("(3 + 20,000) x 2", Prices(input=2 * USD, output=0, request=3), Usage(input_tokens=10), 2 * ONE, 40_006),
    # 3 x 0.333333 = 0.999999
    ("3 x 0.333333, rounded up: 1", Prices(input=0, output=0, request=3), Usage(), 333_333, 1),
    # 1 x 0.499999
    ("1 x 0.499999, rounded down: 0", Prices(input=0, output=0, request=1), Usage(), 499_999, 0),
    ("1 x 0.5, half a nano: 1", Prices(input=0, output=0, request=1), Usage(), 500_000, 1),
]
MULTIPLIER_CASES: list[Case] = [
    ("4,000 x 1.25", PLAIN, Usage(input_tokens=2), 1_250_000, 5_000),
    ("4,000 x 0.333333 = 1,333.332", PLAIN, Usage(input_tokens=2), 333_333, 1_333),
    ("8,000 x 0.333333 = 2,666.664", PLAIN, Usage(output_tokens=1), 333_333, 2_667),
    ("6,000,000 x 0.8", PLAIN, Usage(input_tokens=1000, output_tokens=500), 800_000, 4_800_000),
    ("times nothing", FULL, Usage(input_tokens=1000, output_tokens=1000), 0, 0),
    ("2,000 x 0.000001 = 0.002", PLAIN, Usage(input_tokens=1), 1, 0),
    ("2,000 x 0.00025 = 0.5, half a nano", PLAIN, Usage(input_tokens=1), 250, 1),
    ("2,000 x 0.000249 = 0.498", PLAIN, Usage(input_tokens=1), 249, 0),
    ("2,000 x 1,000", PLAIN, Usage(input_tokens=1), 1000 * ONE, 2_000_000),
    (
        "(1,001 x 2,000 + 10 x 6,000) x 1.1 = 2,268,200",
        TIERED,
        Usage(input_tokens=1001, output_tokens=10),
        1_100_000,
        2_268_200,
    ),
    # rounded once, at the end: 0.4 + 0.4 = 0.8, where each part alone would be nothing
    ("(400,000 + 400,000) / 1,000,000 = 0.8", NANO, Usage(input_tokens=400_000, output_tokens=400_000), ONE, 1),
    ("the same x 0.5 = 0.4", NANO, Usage(input_tokens=400_000, output_tokens=400_000), 500_000, 0),
]
ROUNDING_CASES: list[Case] = [
    ("0.499999", NANO, Usage(input_tokens=499_999), ONE, 0),
    ("0.5", NANO, Usage(input_tokens=500_000), ONE, 1),
    ("1.499999", NANO, Usage(input_tokens=1_499_999), ONE, 1),
    ("1.5", NANO, Usage(input_tokens=1_500_000), ONE, 2),
    ("2.5, never to the even", NANO, Usage(input_tokens=2_500_000), ONE, 3),
    ("0.25 + 0.25", NANO, Usage(input_tokens=250_000, output_tokens=250_000), ONE, 1),
    ("0.25 + 0.249999", NANO, Usage(input_tokens=250_000, output_tokens=249_999), ONE, 0),
    ("0.4 x 1.25 = 0.5", NANO, Usage(input_tokens=400_000), 1_250_000, 1),
    ("0.399999 x 1.25 = 0.49999875", NANO, Usage(input_tokens=399_999), 1_250_000, 0),
    ("3 x 0.333333 / 2 = 0.4999995", Prices(input=3, output=0), Usage(input_tokens=500_000), 333_333, 0),
    (
        "2 + 0.5: a fixed price is rounded with the rest",
        Prices(input=1, output=1, request=2),
        Usage(input_tokens=500_000),
        ONE,
        3,
    ),
]
CASES = [
    *PLAIN_CASES,
    *CLASS_CASES,
    *EXCESS_CASES,
    *TIER_CASES,
    *REQUEST_CASES,
    *MULTIPLIER_CASES,
    *ROUNDING_CASES,
]


@pytest.mark.parametrize(
    ("prices", "usage", "multiplier", "nano"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_price_worked_by_hand(prices: Prices, usage: Usage, multiplier: int, nano: int) -> None:
    """Every class at its price, or at that of its whole; the tier of the prompt's length for all of them; the request's
    price; times the multiplier; rounded half up, once."""
    assert amount_nano(prices, usage, multiplier) == nano
