"""The order in which ways are asked: by priority first, then as the model's strategy has it."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.catalog.records import Timeouts
from app.proxy.dispatch.choice import Need, conversation_key, estimate_nano
from tests.proxy.dispatch.ways import DENIED, DOWN, OK, House, costs
from tests.proxy.makers import credential, make_channel

_ROUNDS = 3_000


def _chi_square(counts: Counter[str], shares: dict[str, float]) -> float:
    """Of how often each came against its share of the weight."""
    total = counts.total()
    whole = sum(shares.values())
    return sum((counts[name] - total * share / whole) ** 2 / (total * share / whole) for name, share in shares.items())


# An honest draw stays below these 999 times in a thousand; seeds are fixed, so a test that passed goes on passing.
_BOUNDS = {1: 10.83, 2: 13.82, 3: 16.27, 5: 20.52}


@given(
    tiers=st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 5)), min_size=1, max_size=8),
    seed=st.integers(0, 2**32),
    strategy=st.sampled_from(["weighted", "latency", "cost", "least_busy"]),
    sticky=st.sampled_from(["auto", "on", "off"]),
)
@settings(deadline=None)
async def test_every_channel_once_and_priorities_in_order(
    tiers: list[tuple[int, int]], seed: int, strategy: Any, sticky: Any
) -> None:
    """Nothing is left out or asked twice, and a lower priority never comes before a higher one."""
    ranked = sorted(tiers, key=lambda tier: -tier[0])
    channels = [make_channel(f"chn_{i}", priority=tier[0], weight=tier[1]) for i, tier in enumerate(ranked)]
    house = House(*channels, seed=seed, strategy=strategy, sticky=sticky)
    asked = [name.partition("/")[0] for name in await house.picks(DOWN)]
    assert sorted(asked) == sorted(channel.id for channel in channels)
    by_id = {channel.id: channel for channel in channels}
    assert [by_id[name].priority for name in asked] == [tier[0] for tier in ranked]
    if strategy == "weighted":
        for priority in {tier[0] for tier in ranked}:
            weights = [by_id[name].weight for name in asked if by_id[name].priority == priority]
            assert weights == [each for each in weights if each] + [0] * weights.count(0), "weight 0 comes last"


@pytest.mark.parametrize("weights", [(1, 1), (1, 3), (5, 3, 2), (100, 1), (1, 1, 1, 1, 1, 1)])
async def test_the_first_pick_is_shared_by_weight(weights: tuple[int, ...]) -> None:
    house = House(*(make_channel(f"chn_{i}", weight=weight) for i, weight in enumerate(weights)), seed=20_250_101)
    firsts = Counter([await house.ask() or "" for _ in range(_ROUNDS)])
    shares = {f"chn_{i}": float(weight) for i, weight in enumerate(weights)}
    assert _chi_square(firsts, shares) < _BOUNDS[len(weights) - 1]


async def test_the_second_pick_is_shared_among_those_left() -> None:
    """When the first has failed, the others' chances are their weights again: 3 to 2."""
    house = House(*(make_channel(f"chn_{weight}", weight=weight) for weight in (5, 3, 2)), seed=7)
    seconds: Counter[str] = Counter()
    for _ in range(_ROUNDS):
        plan = house.plan()
        first = await plan.next()
        plan.ended(first, OK)
        second = await plan.next()
        plan.ended(second, OK)
        if first.channel.id == "chn_5":
            seconds[second.channel.id] += 1
    assert _chi_square(seconds, {"chn_3": 3, "chn_2": 2}) < _BOUNDS[1]


async def test_credentials_rotate_within_their_channels_share() -> None:
    """A channel with many credentials gets no more than its weight, and each of them its part of that."""
    many = tuple(credential(f"sk-{i}", f"crd_{i}", weight=i) for i in (1, 3))
    house = House(make_channel("one"), make_channel("many", credentials=many), seed=3)
    firsts: Counter[str] = Counter()
    for _ in range(_ROUNDS):
        plan = house.plan()
        pick = await plan.next()
        plan.ended(pick, OK)
        firsts[f"{pick.channel.id}/{pick.credential.id}"] += 1
    assert _chi_square(firsts, {"one/crd_1": 4, "many/crd_1": 1, "many/crd_3": 3}) < _BOUNDS[2]


async def test_a_parked_credentials_part_goes_to_its_channels_others() -> None:
    both = (credential("sk-1", "crd_1"), credential("sk-2", "crd_2"))
    house = House(make_channel("one"), make_channel("both", credentials=both), seed=4)
    await house.ask()
    for way in house.health.find("both", "crd_1"):
        way.parked = "HTTP 401"
        way.review()
    firsts = Counter([await house.ask() or "" for _ in range(_ROUNDS)])
    assert _chi_square(firsts, {"one": 1, "both": 1}) < _BOUNDS[1]


async def test_a_lone_channel_serves_whatever_its_weight_and_nobody_is_nobody() -> None:
    assert await House(make_channel(weight=0)).ask() == "chn_1"
    house = House(make_channel())
    house.channels = ()
    assert await house.ask() is None


async def test_the_cheapest_for_this_request_comes_first() -> None:
    """Input is cheap here and output there: it depends on what is asked for. Who names no price comes last."""
    reader = make_channel("reader", costs=costs(input=1_000_000, output=9_000_000))
    writer = make_channel("writer", costs=costs(input=3_000_000, output=4_000_000))
    unknown = make_channel("unknown", costs={})
    house = House(unknown, reader, writer, strategy="cost")
    long_answer = {"max_tokens": 4_000}
    long_prompt = {"messages": [{"role": "user", "content": "word " * 8_000}], "max_tokens": 10}
    assert [name.partition("/")[0] for name in await house.picks(DOWN, **long_answer)] == [
        "writer",
        "reader",
        "unknown",
    ]
    assert [name.partition("/")[0] for name in await house.picks(DOWN, **long_prompt)] == [
        "reader",
        "writer",
        "unknown",
    ]


@pytest.mark.parametrize(
    ("prices", "nano"),
    [
        pytest.param({"input": 2_000_000, "output": 3_000_000}, 2_600, id="by the million"),
        pytest.param({"input": 0, "output": 0, "request": 7}, 7, id="by the request"),
    ],
)
def test_the_estimate_is_what_it_would_cost(prices: Any, nano: int) -> None:
    assert estimate_nano(costs(**prices)["vendor-small"].prices, Need(1_000, 200)) == nano


async def test_the_quickest_comes_first_and_the_near_ones_share() -> None:
    channels = [make_channel(name) for name in ("slow", "quick", "nearly")]
    house = House(*channels, strategy="latency")
    _teach(house, {"slow": 900, "quick": 200, "nearly": 220})
    firsts = Counter([await house.ask() or "" for _ in range(400)])
    assert firsts["slow"] == 0
    assert min(firsts["quick"], firsts["nearly"]) > 100


async def test_one_that_nothing_is_known_of_is_looked_at_by_one_request() -> None:
    """It is tried first, but until it has answered all others go to those that are known."""
    house = House(make_channel("known"), make_channel("new"), strategy="latency")
    _teach(house, {"known": 100})
    looking = house.plan()
    first = await looking.next()
    assert first.channel.id == "new"
    assert {await house.ask() for _ in range(20)} == {"known"}
    looking.came(first, 20)
    looking.ended(first, OK)
    assert (await house.picks(DOWN))[0] == "new/crd_1"


async def test_a_slow_one_is_looked_at_again_by_one_request_at_a_time() -> None:
    """Its figure fades with time; whoever looks makes it count in full again until the answer is there."""
    house = House(make_channel("slow"), make_channel("quick"), strategy="latency")
    _teach(house, {"slow": 1_600, "quick": 200})
    for _ in range(150):  # the quick one is used all the time
        house.clock.now_ms += 1_000
        _teach(house, {"quick": 200})
    assert await house.ask() == "quick"
    house.clock.now_ms += 30_000
    _teach(house, {"quick": 200})
    looks: Counter[str] = Counter()
    plans = []
    for _ in range(20):
        plan = house.plan()
        pick = await plan.next()
        looks[pick.channel.id] += 1
        plans.append((plan, pick))
    assert looks["slow"] == 1
    for plan, pick in plans:
        plan.ended(pick, OK)


def _teach(house: House, figures: dict[str, int]) -> None:
    """First content of each came so late, and goes on doing so."""
    house.ttft_ms |= figures
    for channel in house.channels:
        if channel.id in figures:
            for way in house.health.ways_of(channel):
                way.pace("small").learn(figures[channel.id], house.clock.now_ms)


async def test_the_least_busy_for_its_weight_comes_first() -> None:
    house = House(make_channel("big", weight=3), make_channel("small", weight=1), strategy="least_busy")
    plans = []
    for _ in range(40):
        plan = house.plan()
        plans.append((plan, await plan.next()))
    assert Counter(pick.channel.id for _, pick in plans) == {"big": 30, "small": 10}
    for plan, pick in plans:
        plan.ended(pick, OK)
    assert all(way.load.in_flight == 0 for way in house.health.ways())


def _talk(number: int) -> dict[str, Any]:
    return {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"Question {number}"}]}


@pytest.mark.parametrize("named", [True, False], ids=["named by the client", "known by how it begins"])
async def test_a_conversation_stays_where_it_was(named: bool) -> None:
    """In every process, and as it grows; different ones are shared by weight."""
    channels = [make_channel(f"chn_{weight}", weight=weight) for weight in (1, 3)]
    firsts: Counter[str] = Counter()
    for number in range(600):
        first = {"prompt_cache_key": f"talk {number}"} if named else _talk(number)
        later = {"prompt_cache_key": f"talk {number}"} if named else _talk(number)
        if named:
            later |= _talk(number + 1)
        else:
            later["messages"] = [*later["messages"], {"role": "assistant", "content": "A"}]
        here, there = House(*channels, seed=1, sticky="on"), House(*channels, seed=2, sticky="on")
        chosen = await here.ask(**first)
        assert chosen == await there.ask(**later)
        firsts[chosen or ""] += 1
    assert _chi_square(firsts, {"chn_1": 1, "chn_3": 3}) < _BOUNDS[1]


async def test_only_the_conversations_of_a_lost_way_move() -> None:
    """Rendezvous hashing: nobody else loses its cache. And they come back when it does."""
    channels = [make_channel(f"chn_{i}") for i in range(4)]
    house = House(*channels, sticky="on")
    before = [await house.ask(**_talk(i)) for i in range(200)]
    lost = next(house.health.find("chn_2", None))
    lost.parked = "HTTP 401"
    lost.review()
    during = [await house.ask(**_talk(i)) for i in range(200)]
    moved = [old for old, new in zip(before, during, strict=True) if old != new]
    assert set(moved) == {"chn_2"}
    assert len({new for old, new in zip(before, during, strict=True) if old == "chn_2"}) == 3
    house.dispatcher.unpark("chn_2", None, "tested")
    assert [await house.ask(**_talk(i)) for i in range(200)] == before


async def test_one_busy_conversation_does_not_break_the_balance() -> None:
    """A way takes a quarter more than its share and a few; the rest of the conversation goes elsewhere."""
    house = House(*(make_channel(f"chn_{i}") for i in range(4)), sticky="on")
    plans = []
    for _ in range(200):
        plan = house.plan(**_talk(1))
        plans.append((plan, await plan.next()))
    counts = Counter(pick.channel.id for _, pick in plans)
    assert max(counts.values()) <= 50 * 1.25 + 6
    for plan, pick in plans:
        plan.ended(pick, OK)


@pytest.mark.parametrize(
    ("routing", "prices", "stays"),
    [
        pytest.param({"sticky": "auto"}, {"input": 100, "output": 100, "cached_input": 10}, True, id="auto, a cache"),
        pytest.param({"sticky": "auto"}, {"input": 100, "output": 100}, False, id="auto, no cache"),
        pytest.param(
            {"sticky": "auto"}, {"input": 100, "output": 100, "cached_input": 100}, False, id="auto, no cheaper"
        ),
        pytest.param({"sticky": "off"}, {"input": 100, "output": 100, "cached_input": 10}, False, id="off"),
        pytest.param({"sticky": "on"}, {"input": 100, "output": 100}, True, id="on"),
        pytest.param(
            {"sticky": "auto", "strategy": "least_busy"},
            {"input": 100, "output": 100, "cached_input": 10},
            True,
            id="auto, least busy",
        ),
        pytest.param(
            {"sticky": "auto", "strategy": "cost"},
            {"input": 100, "output": 100, "cached_input": 10},
            False,
            id="auto, by cost",
        ),
        pytest.param({"sticky": "on", "strategy": "cost"}, {"input": 100, "output": 100}, True, id="on, by cost"),
    ],
)
async def test_when_conversations_stay(routing: Any, prices: Any, stays: bool) -> None:
    house = House(*(make_channel(f"chn_{i}", costs=costs(**prices)) for i in range(4)), **routing)
    asked = {await house.ask(**_talk(1)) for _ in range(40)}
    assert (len(asked) == 1) is stays


async def test_cost_comes_before_the_conversation() -> None:
    """`on` keeps it among the cheapest, not where it is dear."""
    dear, cheap = costs(input=200, output=200), costs(input=100, output=100)
    channels = [make_channel(f"chn_{i}", costs=cheap if i < 2 else dear) for i in range(4)]
    house = House(*channels, strategy="cost", sticky="on")
    assert {await house.ask(**_talk(i)) for i in range(60)} == {"chn_0", "chn_1"}


def test_conversations_of_different_accounts_are_different() -> None:
    """The same prompt of two customers: a vendor's cache is nobody's secret to find out."""
    assert conversation_key("acc_1", None, ("Hi",)) != conversation_key("acc_2", None, ("Hi",))
    assert conversation_key("acc_1", "a", ("Hi",)) == conversation_key("acc_1", "a", ("Ho",))
    assert conversation_key("acc_1", None, ("ab", "c")) != conversation_key("acc_1", None, ("a", "bc"))


async def test_a_model_without_a_usable_credential_has_nobody() -> None:
    disabled = (credential("sk-1", "crd_1", enabled=False),)
    assert await House(make_channel(credentials=disabled)).ask() is None
    denied = House(make_channel(timeouts=Timeouts(total_ms=1_000)))
    await denied.ask(DENIED)
    assert await denied.ask() is None
