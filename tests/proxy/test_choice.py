"""The order in which channels are tried: priority first, then chance by weight; each channel exactly once."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.proxy.dispatch import order_channels
from tests.proxy.makers import make_channel

_ROUNDS = 4_000


@given(
    tiers=st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 5)), max_size=12),
    seed=st.integers(0, 2**32),
)
def test_every_channel_once_and_priorities_in_order(tiers: list[tuple[int, int]], seed: int) -> None:
    """Nothing is left out or tried twice, and a lower priority never comes before a higher one."""
    ranked = sorted(tiers, key=lambda tier: -tier[0])
    channels = [
        make_channel(f"chn_{i}", priority=priority, weight=weight) for i, (priority, weight) in enumerate(ranked)
    ]
    ordered = order_channels(channels, random.Random(seed))
    assert sorted(channel.id for channel in ordered) == sorted(channel.id for channel in channels)
    assert [channel.priority for channel in ordered] == [channel.priority for channel in channels]
    for priority in {channel.priority for channel in channels}:
        weights = [channel.weight for channel in ordered if channel.priority == priority]
        positive = [weight for weight in weights if weight]
        assert weights == positive + [0] * (len(weights) - len(positive)), "weight 0 comes last"


@pytest.mark.parametrize("weights", [(1, 1), (1, 3), (5, 3, 2), (100, 1), (1, 1, 1, 1, 1, 1)])
def test_the_first_try_is_shared_by_weight(weights: tuple[int, ...]) -> None:
    """Chi-square of the first channel's share, with a bound that an honest draw passes 999 times in a thousand."""
    channels = [make_channel(f"chn_{i}", weight=weight) for i, weight in enumerate(weights)]
    rng = random.Random(20_250_101)
    firsts = Counter(order_channels(channels, rng)[0].id for _ in range(_ROUNDS))
    chi_square = 0.0
    for channel in channels:
        expected = _ROUNDS * channel.weight / sum(weights)
        chi_square += (firsts[channel.id] - expected) ** 2 / expected
    bounds_by_freedom = {1: 10.83, 2: 13.82, 5: 20.52}
    assert chi_square < bounds_by_freedom[len(weights) - 1]


def test_the_second_try_is_shared_among_those_left() -> None:
    """When the first has failed, the others' chances are their weights again: 3 to 2."""
    channels = [make_channel(f"chn_{weight}", weight=weight) for weight in (5, 3, 2)]
    rng = random.Random(7)
    orders = [order_channels(channels, rng) for _ in range(_ROUNDS)]
    seconds = Counter(second.id for first, second, _ in orders if first.id == "chn_5")
    share = seconds["chn_3"] / seconds.total()
    assert 0.55 < share < 0.65


def test_a_lone_channel_serves_whatever_its_weight() -> None:
    channel = make_channel(weight=0)
    assert order_channels([channel], random.Random(1)) == (channel,)
    assert order_channels([], random.Random(1)) == ()
