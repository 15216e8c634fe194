"""Each strategy, through a day in virtual time, stays near what it could have come to with hindsight."""

import pytest

from benchmarks.day.ideal import STRATEGIES, Strategy, judge
from benchmarks.day.simulate import Day
from benchmarks.day.world import DAY_MS, requests


@pytest.fixture(scope="module")
def day() -> list:
    return requests(seed=5)


@pytest.mark.parametrize("strategy", [pytest.param(each, id=each.name) for each in STRATEGIES])
def test_a_strategy_stays_near_its_ideal(day: list, strategy: Strategy) -> None:
    """Though a vendor is down for three minutes, and another slow for four; and nobody goes without an answer."""
    outcome = judge(strategy, Day(strategy.routing, seed=5).run(day))
    assert outcome.failed == 0
    assert outcome.excess < strategy.bound


def test_a_day_is_the_same_for_a_seed(day: list) -> None:
    some = day[:500]
    first, second = (Day(STRATEGIES[1].routing, seed=5).run(some) for _ in range(2))
    assert first == second
    assert day == requests(seed=5)
    assert all(0 <= each.at_ms < DAY_MS for each in day)
