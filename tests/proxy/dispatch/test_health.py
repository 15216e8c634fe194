"""What outcomes do to a way's health: which count, for how long, and what the others are told."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.catalog.records import Timeouts
from app.proxy.records import Outcome
from tests.proxy.dispatch.ways import DENIED, DOWN, FULL, GONE, OK, House
from tests.proxy.makers import credential, make_channel


def _status(status: int, **fields: Any) -> Outcome:
    return Outcome(http_status=status, error="status", **fields)


@pytest.mark.parametrize(
    ("outcome", "opens"),
    [
        (DOWN, True),
        (Outcome(error="connect_timeout"), True),
        (Outcome(error="timeout"), True),
        (Outcome(error="first_token_timeout"), True),
        (_status(500), True),
        (_status(503, retry_after_ms=50_000), True),
        (_status(408), True),
        (_status(409), True),
        (_status(425), True),
        (_status(302), True),
        (Outcome(http_status=200, error="empty"), True),
        (Outcome(http_status=400), False),
        (Outcome(http_status=404), False),
        (Outcome(http_status=413), False),
        (Outcome(http_status=422), False),
        (GONE, False),
        (Outcome(error="hedged", is_abandoned=True), False),
        (OK, False),
    ],
    ids=lambda value: f"{value.http_status} {value.error or ''}" if isinstance(value, Outcome) else "",
)
async def test_which_outcomes_open_the_breaker(outcome: Outcome, opens: bool) -> None:
    """The vendor's trouble does; the customer's bad request, and an attempt that was left, do not."""
    house = House(make_channel("chn_1"), make_channel("chn_2"))
    for channel in house.channels[:1]:
        house.channels = (channel,)
        for _ in range(20):
            await house.ask(outcome)
    assert ("opened" in house.kinds) is opens


async def test_bad_requests_hide_no_failures() -> None:
    """One customer's stream of 400s is no evidence that the vendor is well."""
    house = House()
    for _ in range(5):
        for _ in range(5):
            await house.ask(Outcome(http_status=400))
        await house.ask(DOWN)
    assert house.kinds == ["opened"]


async def test_opened_it_is_passed_over_until_its_probe() -> None:
    house = House(make_channel("sick", priority=1), make_channel("well"))
    await house.fail(5)
    opened = house.told[0]
    assert (opened.kind, opened.channel_id, opened.reason) == ("opened", "sick", "5 of 5 failed, the last with connect")
    assert opened.until_ms is not None
    assert 4_500 <= opened.until_ms - house.clock.wall_ms() <= 5_500
    assert {await house.ask() for _ in range(10)} == {"well"}
    house.clock.now_ms += 6_000
    plan = house.plan()
    probe = await plan.next()
    assert (probe.channel.id, probe.is_probe, plan.hedge_s) == ("sick", True, 0.5)
    assert {await house.ask() for _ in range(10)} == {"well"}, "one probe at a time"
    plan.came(probe, 20)
    assert {await house.ask() for _ in range(10)} == {"sick"}
    plan.ended(probe, OK)
    assert house.kinds == ["opened", "half_open", "closed"]


async def test_a_probe_that_fails_opens_for_longer() -> None:
    house = House(make_channel("sick", priority=1), make_channel("well"))
    await house.fail(5)
    house.clock.now_ms += 6_000
    assert await house.ask(DOWN) == "sick"
    assert house.kinds == ["opened", "half_open", "opened"]
    assert house.told[-1].until_ms is not None
    assert 9_000 <= house.told[-1].until_ms - house.clock.wall_ms() <= 11_000
    assert house.told[-1].reason == "its probe failed: connect"


async def test_a_probe_cut_after_its_first_content_was_wrong() -> None:
    """Its content closed the breaker; its end opens it again, at once."""
    house = House(make_channel("sick", priority=1), make_channel("well"))
    await house.fail(5)
    house.clock.now_ms += 6_000
    plan = house.plan()
    probe = await plan.next()
    plan.came(probe, 20)
    plan.ended(probe, Outcome(http_status=200, error="cut off"))
    assert house.kinds == ["opened", "half_open", "closed", "opened"]


@pytest.mark.parametrize(("outcome", "closes"), [(Outcome(http_status=400), True), (GONE, False), (FULL, False)])
async def test_what_a_probe_says_that_is_no_answer(outcome: Outcome, closes: bool) -> None:
    """A refused request shows that the vendor is there. One that was left says nothing: the next is due soon, and is
    given longer before another is asked beside it."""
    house = House(make_channel("sick", priority=1), make_channel("well"))
    await house.fail(5)
    house.clock.now_ms += 6_000
    assert await house.ask(outcome) == "sick"
    assert ("closed" in house.kinds) is closes
    if closes:
        return
    assert await house.ask() == "well"
    house.clock.now_ms += 2_000
    plan = house.plan()
    pick = await plan.next()
    assert (pick.channel.id, plan.hedge_s) == ("sick", 1.0)


async def test_a_probe_that_never_reports_frees_itself_in_its_channels_time() -> None:
    house = House(make_channel("sick", priority=1, timeouts=Timeouts(total_ms=30_000)), make_channel("well"))
    await house.fail(5)
    house.clock.now_ms += 6_000
    lost = house.plan()
    first = await lost.next()
    house.clock.now_ms += 29_000
    assert await house.ask() == "well"
    house.clock.now_ms += 1_000
    assert await house.ask() == "sick"
    lost.ended(first, DOWN)  # long after it was given up
    assert house.kinds[-1] == "closed"


async def test_what_began_before_it_opened_says_nothing_about_now() -> None:
    """A hundred requests that were under way when the vendor broke do not open it for ever longer, nor close it."""
    house = House()
    plans = [house.plan() for _ in range(100)]
    picks = [await plan.next() for plan in plans]
    for i, (plan, pick) in enumerate(zip(plans, picks, strict=True)):
        plan.ended(pick, OK if i % 7 == 6 else DOWN)
    assert house.kinds == ["opened"]
    house.clock.now_ms += 5_500
    assert await house.ask() == "chn_1"
    assert house.kinds == ["opened", "half_open", "closed"]


@pytest.mark.parametrize(("said_ms", "waits_ms"), [(None, 1_000), (0, 0), (7_000, 7_000), (86_400_000, 3_600_000)])
async def test_a_429_cools_as_the_vendor_says(said_ms: int | None, waits_ms: int) -> None:
    house = House(make_channel("full", priority=1), make_channel("free"))
    await house.ask(_status(429, retry_after_ms=said_ms))
    assert house.kinds == ["cooling"]
    assert house.told[0].model == "small"
    assert house.told[0].until_ms == house.clock.wall_ms() + waits_ms
    if waits_ms:
        house.clock.now_ms += waits_ms - 1
        assert await house.ask() == "free"
        house.clock.now_ms += 1
    assert await house.ask() == "full"


async def test_429s_without_a_word_cool_for_longer_each_time() -> None:
    """Twice as long up to half a minute; those that were sent together count once; a success starts anew."""
    house = House(make_channel("full", priority=1), make_channel("free"))
    waits = []
    for _ in range(7):
        plans = [house.plan() for _ in range(5)]
        picks = [await plan.next() for plan in plans]
        for plan, pick in zip(plans, picks, strict=True):
            plan.ended(pick, FULL)
        assert house.told[-1].until_ms is not None
        waits.append(house.told[-1].until_ms - house.clock.wall_ms())
        house.clock.now_ms += waits[-1]
    assert waits == [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]
    assert await house.ask() == "full"
    await house.ask(FULL)
    assert house.told[-1].until_ms == house.clock.wall_ms() + 1_000


async def test_a_429_is_about_one_model_of_one_credential() -> None:
    both = (credential("sk-1", "crd_1"), credential("sk-2", "crd_2"))
    house = House(make_channel(credentials=both, models={"small": "s", "large": "l"}))
    await house.ask(_status(429, retry_after_ms=60_000))
    other = house.told[0].credential_id
    plan = house.plan()
    assert (await plan.next()).credential.id != other
    large = msgspec.structs.replace(house.model, name="large")
    house.model = large
    picks = [await house.plan().next() for _ in range(30)]
    assert {pick.credential.id for pick in picks} == {"crd_1", "crd_2"}


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_denied_credential_is_parked_until_told_otherwise(status: int) -> None:
    house = House(make_channel("bad", priority=1), make_channel("good"))
    await house.ask(_status(status))
    assert [(told.kind, told.reason, told.http_status) for told in house.told] == [("parked", f"HTTP {status}", status)]
    house.clock.now_ms += 86_400_000
    assert await house.ask() == "good"
    house.dispatcher.unpark("bad", "crd_1", "a test passed")
    assert await house.ask() == "bad"
    assert (house.kinds, house.told[-1].reason) == (["parked", "returned"], "a test passed")


@pytest.mark.parametrize(
    ("change", "returns"),
    [
        pytest.param({"credentials": (credential("sk-new"),)}, True, id="another secret"),
        pytest.param({"base_url": "https://other.example/v1"}, True, id="another address"),
        pytest.param({"models": {"small": "vendor-small-2"}}, True, id="another model"),
        pytest.param({"weight": 7, "name": "renamed"}, False, id="another weight"),
        pytest.param({}, False, id="nothing"),
    ],
)
async def test_an_operators_change_starts_anew_where_the_way_leads_elsewhere(change: Any, returns: bool) -> None:
    """And nothing else does: the catalogue is read anew for every change of any channel."""
    house = House()
    await house.ask(DENIED)
    changed = make_channel(**change)
    house.dispatcher.reconcile([changed])
    house.channels = (changed,)
    assert (await house.ask() is not None) is returns


async def test_streams_in_flight_count_through_a_change() -> None:
    """What they end with is not held against the channel as it is now."""
    house = House()
    plan = house.plan()
    pick = await plan.next()
    changed = make_channel(credentials=(credential("sk-new"),))
    house.dispatcher.reconcile([changed])
    assert [view.in_flight for view in house.dispatcher.view()] == [1]
    plan.ended(pick, DENIED)
    assert [(view.in_flight, view.parked) for view in house.dispatcher.view()] == [(0, None)]
    assert house.told == []


@pytest.mark.parametrize("removed", [True, False], ids=["removed", "changed"])
async def test_a_request_that_read_the_catalogue_before_a_change_teaches_nothing(removed: bool) -> None:
    """It still asks what it knew of; the channel as it is now keeps its own health, and no ghost of it stays."""
    changed = make_channel(credentials=(credential("sk-new"),))
    house = House()
    old, now = house.channels, () if removed else (changed,)
    house.dispatcher.reconcile(now)
    for _ in range(5):
        house.channels = old
        assert await house.ask(DENIED) == "chn_1"
        house.channels = now
        assert await house.ask() == (None if removed else "chn_1")
    assert house.told == []
    assert [(view.in_flight, view.parked) for view in house.dispatcher.view()] == ([] if removed else [(0, None)])


async def test_one_that_read_it_before_a_change_of_weight_teaches_as_ever() -> None:
    house = House()
    house.dispatcher.reconcile([make_channel(weight=5)])
    await house.ask(DENIED)
    assert house.kinds == ["parked"]


async def test_removed_channels_are_forgotten() -> None:
    house = House(make_channel("chn_1"), make_channel("chn_2"))
    await house.picks(DOWN)
    house.dispatcher.reconcile(house.channels[:1])
    assert {view.channel_id for view in house.dispatcher.view()} == {"chn_1"}


async def test_three_cut_answers_open_it() -> None:
    """They can't be hidden from customers, so they count for two; their first content is no success."""
    house = House()
    for _ in range(3):
        plan = house.plan()
        pick = await plan.next()
        plan.came(pick, 10)
        plan.ended(pick, Outcome(http_status=200, error="cut off"))
    assert house.kinds == ["opened"]


async def test_the_view_says_what_is_known() -> None:
    house = House()
    await house.ask()
    await house.ask(FULL)
    plan = house.plan()
    (view,) = house.dispatcher.view()
    assert plan is not None
    assert (view.state, view.requests, view.failures, view.first_content_ms) == ("closed", 1, 0, {"small": 10})
    assert (view.last_error, view.last_error_at_ms) == ("HTTP 429", house.clock.wall_ms())
    assert list(view.cooling) == ["small"]


async def test_a_channel_that_does_not_fit_is_told_and_stays() -> None:
    """The words may be the customer's: they neither park a credential nor open a breaker, for others to suffer."""
    house = House(make_channel("first", priority=1), make_channel("second"))
    for _ in range(20):
        assert await house.ask(Outcome(http_status=400, error="credential refused", is_unfit=True)) == "first"
    (view,) = [each for each in house.dispatcher.view() if each.channel_id == "first"]
    assert (view.last_error, view.parked, view.failures) == ("HTTP 400: credential refused", None, 0)
    assert house.kinds == []


async def test_a_channel_that_does_not_fit_may_have_another_credential_that_does() -> None:
    house = House(make_channel(credentials=(credential("a", "crd_1"), credential("b", "crd_2"))))
    unfit = Outcome(http_status=404, error="unknown model", is_unfit=True)
    assert sorted(await house.picks(unfit)) == ["chn_1/crd_1", "chn_1/crd_2"]


_EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "came", "end", "later"]),
        st.integers(0, 20),
        st.sampled_from([OK, DOWN, FULL, GONE, DENIED, Outcome(http_status=200, error="cut off")]),
    ),
    max_size=60,
)


@given(events=_EVENTS, seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=150)
def test_whatever_the_order_nothing_stays_in_flight(events: list[tuple[str, int, Outcome]], seed: int) -> None:
    """Picks overlap, come and end in any order: in the end nobody is in flight, and only a parked or limited credential
    refuses the next request."""

    async def story() -> None:
        house = House(make_channel("chn_1"), make_channel("chn_2", priority=1), seed=seed)
        running: list[tuple[Any, Any, list[bool]]] = []
        for what, number, outcome in events:
            if what == "later":
                house.clock.now_ms += number * 700
            elif what == "begin":
                plan = house.plan()
                pick = await plan.next()
                if pick is not None:
                    running.append((plan, pick, [False]))
            elif running:
                plan, pick, came = running[number % len(running)]
                if what == "came" and not came[0]:
                    came[0] = True
                    plan.came(pick, number)
                elif what == "end":
                    running.remove((plan, pick, came))
                    plan.ended(pick, outcome)
        for plan, pick, _ in running:
            plan.ended(pick, GONE)
        assert all(view.in_flight == 0 for view in house.dispatcher.view())
        assert not house.health._came
        house.clock.now_ms += 3_600_001
        parked = [view for view in house.dispatcher.view() if view.parked is not None]
        assert (await house.plan().next() is None) is (len(parked) == 2)

    asyncio.run(story())
