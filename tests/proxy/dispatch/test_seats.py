"""Plans under a vendor's limits, over real Redis: the next way, a brief wait, or a Retry-After; nothing stays held."""

import asyncio
import contextlib
from collections import Counter

import msgspec
import pytest

from app.base.ids import new_id
from app.base.wire import Wire
from app.catalog.records import Channel, VendorLimits
from app.proxy.dispatch import Dispatcher, Health
from app.proxy.records import Order
from app.quota.seats import Seats
from tests.proxy.dispatch.ways import DOWN, GONE, OK, make_model
from tests.proxy.makers import credential, make_channel, order


def _order() -> Order:
    return msgspec.structs.replace(order(), request_id=new_id("req"))


def _channel(name: str, priority: int = 0, **limits: int) -> Channel:
    return make_channel(name, priority=priority, credentials=(credential(f"sk-{name}", limits=VendorLimits(**limits)),))


@pytest.fixture
async def seats(wire: Wire) -> Seats:
    return Seats(wire, patience_s=10)


async def test_a_way_at_its_limit_is_passed_over(seats: Seats) -> None:
    channels = (_channel("small", 1, concurrency=2), _channel("large"))
    dispatcher = Dispatcher(Health(), seats)
    model = make_model()
    plans = [dispatcher.plan("acc_1", _order(), model, channels) for _ in range(5)]
    picks = [await plan.next() for plan in plans]
    assert Counter(pick.channel.id for pick in picks if pick) == {"small": 2, "large": 3}
    for plan, pick in zip(plans, picks, strict=True):
        assert pick is not None
        plan.ended(pick, OK)
    await seats.close()
    plan = dispatcher.plan("acc_1", _order(), model, channels)
    pick = await plan.next()
    assert pick is not None
    assert pick.channel.id == "small"


async def test_two_workers_share_a_vendors_limit(wire: Wire) -> None:
    channels = (_channel("small", 1, concurrency=3), _channel("large"))
    workers = [Dispatcher(Health(), Seats(wire, patience_s=10)) for _ in range(2)]
    plans = [workers[i % 2].plan("acc_1", _order(), make_model(), channels) for i in range(10)]
    picks = await asyncio.gather(*(plan.next() for plan in plans))
    assert Counter(pick.channel.id for pick in picks if pick) == {"small": 3, "large": 7}


async def test_at_every_limit_it_waits_briefly_for_the_first_to_be_free(seats: Seats) -> None:
    channels = (_channel("one", concurrency=1),)
    dispatcher, model = Dispatcher(Health(), seats), make_model()
    first = dispatcher.plan("acc_1", _order(), model, channels)
    running = await first.next()
    waiting = asyncio.create_task(dispatcher.plan("acc_1", _order(), model, channels).next())
    await asyncio.sleep(0.05)
    assert running is not None
    assert not waiting.done()
    first.ended(running, OK)
    assert await waiting is not None


async def test_it_gives_up_and_says_when_to_come_back(seats: Seats) -> None:
    channels = (_channel("one", rpm=10),)
    dispatcher, model = Dispatcher(Health(), seats), make_model()
    assert await dispatcher.plan("acc_1", _order(), model, channels).next() is not None
    plan = dispatcher.plan("acc_1", _order(), model, channels)
    assert await plan.next() is None
    assert plan.retry_after_ms is not None
    assert 1_000 < plan.retry_after_ms <= 6_000


@pytest.mark.parametrize("outcome", [OK, DOWN, GONE])
async def test_every_end_gives_the_seat_back(seats: Seats, wire: Wire, outcome: object) -> None:
    channels = (_channel("one", concurrency=1),)
    dispatcher, model = Dispatcher(Health(), seats), make_model()
    for _ in range(3):
        plan = dispatcher.plan("acc_1", _order(), model, channels)
        pick = await plan.next()
        assert pick is not None
        plan.ended(pick, outcome)  # type: ignore[arg-type]
        await seats.close()
    assert await wire.call("ZCARD", "{v:one/crd_1}:live") == 0


async def test_one_that_is_cancelled_while_it_asks_leaves_no_seat(seats: Seats, wire: Wire) -> None:
    channels = (_channel("one", concurrency=1),)
    dispatcher, model = Dispatcher(Health(), seats), make_model()
    for turns in range(6):
        plan = dispatcher.plan("acc_1", _order(), model, channels)
        asking = asyncio.create_task(plan.next())
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            if (pick := await asking) is not None:
                plan.ended(pick, GONE)
        await seats.close()
    assert await wire.call("ZCARD", "{v:one/crd_1}:live") == 0
    assert all(view.in_flight == 0 for view in dispatcher.view())
