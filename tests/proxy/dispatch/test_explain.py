"""The choice in words: each way in its place, taken or passed over, and why."""

from typing import Any

import pytest

from app.proxy.dispatch import Health
from app.proxy.dispatch.choice import Need, conversation_key
from app.proxy.dispatch.explain import Verdict, adopt, explain
from app.proxy.records import Outcome
from tests.proxy.dispatch.ways import DENIED, House, costs
from tests.proxy.makers import make_channel

_NEED = Need(1_000, 500)
_KEY = conversation_key("acc_1", "a talk", ())


def _verdicts(house: House, full_ms: dict[str, int] | None = None) -> list[Verdict]:
    return explain(house.health, house.model, house.channels, _NEED, _KEY, full_ms or {})[1]


def _reasons(house: House, full_ms: dict[str, int] | None = None) -> list[str]:
    return [f"{verdict.channel_id} {verdict.reason}" for verdict in _verdicts(house, full_ms)]


def test_by_weight_within_priorities() -> None:
    house = House(
        make_channel("spare", priority=0),
        make_channel("small", priority=5, weight=2),
        make_channel("big", priority=5, weight=3),
    )
    house.channels = tuple(sorted(house.channels, key=lambda each: -each.priority))
    assert _reasons(house) == [
        "big first: weight 3 of 5",
        "small second: weight 2 of 5",
        "spare third: the only one of priority 0",
    ]


async def test_what_is_passed_over_and_why() -> None:
    """Each kind of obstacle is named, with when it ends; nothing of it is the vendor's own words."""
    names = ("fine", "open", "parked", "cooling", "draining", "full")
    house = House(*(make_channel(name, draining=name == "draining") for name in names))
    by_name = {channel.id: channel for channel in house.channels}
    for name, outcome, times in (
        ("open", Outcome(http_status=500, error="status"), 5),
        ("parked", DENIED, 1),
        ("cooling", Outcome(http_status=429, error="status", retry_after_ms=5_000), 1),
    ):
        house.channels = (by_name[name],)
        await house.fail(times, outcome)
    house.channels = tuple(by_name.values())
    fine, *passed = _reasons(house, {"full/crd_1": 900})
    assert fine == "fine first: the only one of priority 0"
    said = dict(reason.split(" ", 1) for reason in passed)
    assert said["draining"] == "passed over: draining"
    assert said["parked"] == "passed over: parked until a test passes (HTTP 401)"
    assert said["cooling"] == "passed over: its vendor's 429 holds until 2023-11-14T22:30:05.000Z"
    assert said["full"] == "passed over: at its vendor's limit until 2023-11-14T22:30:00.900Z"
    assert said["open"].startswith("passed over: breaker open until 2023-11-14T22:30:0")
    assert said["open"].endswith("(5 of 5 failed, the last with HTTP 500)")
    house.clock.now_ms += 6_000
    assert (
        "open second: as the probe of its breaker (5 of 5 failed, the last with HTTP 500), weight 1 of 3"
        in _reasons(house, {"full/crd_1": 900})
    )


@pytest.mark.parametrize(
    ("routing", "reasons"),
    [
        pytest.param(
            {"strategy": "cost"},
            ["chn_2 first: 0.000001 USD, weight 1 of 2", "chn_1 second: 0.000003 USD, weight 1 of 2"],
            id="cost",
        ),
        pytest.param(
            {"strategy": "latency"},
            [
                "chn_1 first: nothing is known of its pace yet, weight 1 of 2",
                "chn_2 second: first content after 70 ms, weight 1 of 2",
            ],
            id="latency",
        ),
        pytest.param(
            {"strategy": "least_busy"},
            ["chn_1 first: 0 in flight, weight 1 of 2", "chn_2 second: 1 in flight, weight 1 of 2"],
            id="least busy",
        ),
    ],
)
async def test_each_strategy_says_what_it_goes_by(routing: Any, reasons: list[str]) -> None:
    house = House(
        make_channel("chn_1", costs=costs(input=2_000_000, output=2_000_000)),
        make_channel("chn_2", costs=costs(input=600_000, output=800_000)),
        **routing,
    )
    house.ttft_ms["chn_2"] = 70
    both, house.channels = house.channels, house.channels[1:]
    await house.ask()
    plan = house.plan()
    await plan.next()
    house.channels = both
    assert _reasons(house) == reasons


async def test_a_conversation_is_shown_where_it_is() -> None:
    house = House(*(make_channel(f"chn_{i}") for i in range(3)), sticky="on")
    first = _verdicts(house)[0]
    assert first.reason == "first: by the conversation, weight 1 of 3"
    assert await house.ask(prompt_cache_key="a talk") == first.channel_id


async def test_what_workers_wrote_is_explained_like_what_was_learnt_here() -> None:
    house = House(make_channel("chn_1"), make_channel("chn_2"))
    house.channels, both = house.channels[:1], house.channels
    await house.fail(5)
    house.channels = both
    there = House(*both)
    there.health = Health(clock_ms=house.clock, wall_ms=house.clock.wall_ms)
    there.health.reconcile(both)
    adopt(there.health, house.dispatcher.view())
    assert _reasons(there) == _reasons(house)


async def test_explaining_takes_nothing() -> None:
    house = House(make_channel("chn_1"), make_channel("chn_2"))
    await house.fail(10)
    house.clock.now_ms += 10_000
    before = house.dispatcher.view()
    _reasons(house)
    assert house.dispatcher.view() == before
