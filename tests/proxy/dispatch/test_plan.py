"""One request's picks: no channel twice but for another credential or the last's retries; brief waits; an end."""

import asyncio
from typing import Any

import pytest

from app.catalog.records import VendorLimits
from app.proxy.records import Outcome
from tests.proxy.dispatch.ways import DENIED, DOWN, FULL, GONE, OK, House
from tests.proxy.makers import credential, make_channel

_TWO = (credential("sk-1", "crd_1"), credential("sk-2", "crd_2"))
_SLOW = Outcome(error="first_token_timeout")
_OVERLOADED = Outcome(http_status=503, error="status")


def _soon(ms: int) -> Outcome:
    return Outcome(http_status=503, error="status", retry_after_ms=ms)


@pytest.mark.parametrize(
    ("outcome", "asked"),
    [
        pytest.param(DOWN, 1, id="its channel is down"),
        pytest.param(_OVERLOADED, 1, id="its channel is overloaded"),
        pytest.param(_SLOW, 1, id="its channel says nothing"),
        pytest.param(FULL, 2, id="this credential's limit is reached"),
        pytest.param(DENIED, 2, id="this credential is not known"),
        pytest.param(Outcome(http_status=402, error="status"), 2, id="this credential is not paid for"),
        pytest.param(Outcome(http_status=403, error="status"), 2, id="this credential may not"),
    ],
)
async def test_a_channel_is_asked_again_only_with_another_credential(outcome: Outcome, asked: int) -> None:
    """And only where the first one's fault was the credential's own."""
    house = House(make_channel(credentials=_TWO))
    picks = await house.picks(outcome)
    assert len(picks) == len(set(picks)) == asked


async def test_excluded_channels_are_not_asked() -> None:
    house = House(make_channel("chn_1"), make_channel("chn_2"))
    plan = house.plan(excluded=["chn_1"])
    pick = await plan.next()
    assert pick.channel.id == "chn_2"
    plan.ended(pick, DENIED)
    assert await plan.next() is None


@pytest.mark.parametrize(
    ("outcome", "routing", "asked"),
    [
        pytest.param(DOWN, {"retries": 2}, 3, id="a brief error"),
        pytest.param(_OVERLOADED, {"retries": 1}, 2, id="overloaded"),
        pytest.param(Outcome(http_status=408, error="status"), {"retries": 1}, 2, id="408"),
        pytest.param(_SLOW, {"retries": 2}, 1, id="silence is not brief"),
        pytest.param(Outcome(http_status=200, error="empty"), {"retries": 2}, 1, id="an empty answer is not brief"),
        pytest.param(DENIED, {"retries": 2}, 1, id="a bad credential stays bad"),
        pytest.param(DOWN, {}, 1, id="none unless asked for"),
        pytest.param(DOWN, {"retries": 5, "attempts": 3}, 3, id="attempts bound them"),
        pytest.param(_soon(2_000), {"retries": 1}, 2, id="the vendor says two seconds"),
        pytest.param(_soon(2_001), {"retries": 1}, 1, id="the vendor says longer"),
    ],
)
async def test_the_last_channel_is_asked_again_where_its_error_was_brief(
    outcome: Outcome, routing: Any, asked: int
) -> None:
    house = House(**routing)
    assert len(await house.picks(outcome)) == asked
    assert len(house.naps_s) == asked - 1


async def test_retries_wait_longer_each_time_and_as_the_vendor_says() -> None:
    house = House(retries=4)
    await house.picks(DOWN, DOWN, DOWN, _soon(1_500), DOWN)
    for waited, least, most in zip(house.naps_s, (0.05, 0.1, 0.2, 1.5), (0.15, 0.3, 0.6, 1.5), strict=True):
        assert least <= waited <= most


async def test_only_the_last_channel_is_retried() -> None:
    """While another is left, that one is asked instead."""
    house = House(make_channel("chn_1", priority=1), make_channel("chn_2"), retries=1)
    assert await house.picks(DOWN) == ["chn_1/crd_1", "chn_2/crd_1", "chn_2/crd_1"]


@pytest.mark.parametrize("attempts", [1, 2, 3])
async def test_attempts_bound_the_picks(attempts: int) -> None:
    house = House(*(make_channel(f"chn_{i}") for i in range(5)), attempts=attempts)
    assert len(await house.picks(DOWN)) == attempts


async def test_after_the_deadline_nobody_is_asked() -> None:
    house = House(make_channel("chn_1"), make_channel("chn_2"), deadline_ms=200, retries=3)
    plan = house.plan()
    pick = await plan.next()
    await asyncio.sleep(0.25)
    plan.ended(pick, DOWN)
    assert await plan.next() is None


async def test_no_wait_reaches_beyond_the_deadline() -> None:
    house = House(deadline_ms=1_000, retries=1)
    assert len(await house.picks(_soon(1_999))) == 1
    assert house.naps_s == []


async def test_a_vendors_short_limit_is_waited_for() -> None:
    house = House()
    await house.ask(Outcome(http_status=429, error="status", retry_after_ms=400))
    assert await house.ask() == "chn_1"
    (waited_s,) = house.naps_s
    assert 0.4 <= waited_s <= 0.52


async def test_a_vendors_long_limit_is_not_waited_for() -> None:
    """Nobody is left, and the customer is told when the first of them may be asked."""
    house = House(make_channel("chn_1"), make_channel("chn_2"))
    for wait_ms in (30_000, 20_000):
        await house.ask(Outcome(http_status=429, error="status", retry_after_ms=wait_ms))
    plan = house.plan()
    assert await plan.next() is None
    assert (plan.retry_after_ms, house.naps_s) == (20_000, [])


async def test_a_second_beside_the_first_waits_for_nothing() -> None:
    """Who hedges has an attempt that runs: it is no time for waits, retries or broken channels."""
    house = House(make_channel("chn_1"), make_channel("chn_2"), retries=3)
    await house.ask(Outcome(http_status=429, error="status", retry_after_ms=500))
    plan = house.plan()
    first = await plan.next()
    assert await plan.next() is None
    plan.ended(first, GONE)
    assert house.naps_s == []


async def test_all_broken_the_least_bad_is_asked_rather_than_nobody() -> None:
    """The one that is due soonest first; as a probe, with a hedge, and its success closes the breaker."""
    house = House(make_channel("chn_1"), make_channel("chn_2"))
    house.channels = house.channels[:1]
    await house.fail(5)
    house.clock.now_ms += 3_000
    house.channels = (make_channel("chn_2"),)
    await house.fail(5)
    assert house.kinds == ["opened", "opened"]
    house.channels = (next(house.health.find("chn_1", None)).channel, house.channels[0])
    plan = house.plan()
    pick = await plan.next()
    assert (pick.channel.id, pick.is_probe, plan.hedge_s) == ("chn_1", True, 0.5)
    plan.ended(pick, OK)
    assert house.kinds[-1] == "closed"


async def test_a_parked_credential_is_not_asked_even_as_the_last() -> None:
    house = House()
    await house.ask(DENIED)
    plan = house.plan()
    assert await plan.next() is None
    assert plan.retry_after_ms is None


async def test_a_draining_channel_takes_no_new_request() -> None:
    house = House(make_channel("chn_1", draining=True), make_channel("chn_2"))
    assert await house.picks(DOWN) == ["chn_2/crd_1"]


@pytest.mark.parametrize(("routing", "hedge_s"), [({}, None), ({"hedge_ms": 200}, 0.2), ({"hedge_ms": 900}, 0.9)])
async def test_hedges_are_the_operators(routing: Any, hedge_s: float | None) -> None:
    plan = House(**routing).plan()
    await plan.next()
    assert plan.hedge_s == hedge_s


async def test_a_credential_that_vanished_is_not_retried() -> None:
    """An operator changed the channel while its request waited."""
    house = House(retries=2)
    plan = house.plan()
    pick = await plan.next()
    plan.ended(pick, DOWN)
    house.dispatcher.reconcile([make_channel(credentials=(credential("sk-other"),))])
    assert await plan.next() is None


async def test_limits_without_redis_keep_nobody_away() -> None:
    house = House(make_channel(credentials=(credential("sk-1", limits=VendorLimits(rpm=1)),)))
    assert [await house.ask() for _ in range(3)] == ["chn_1"] * 3
