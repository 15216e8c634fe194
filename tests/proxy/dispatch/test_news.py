"""Workers that share what they know over a real Redis; and what they do when it is emptied or gone."""

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
import redis.asyncio as redis

from app.base.redis import HOUSE, connect
from app.base.tasks import end_all
from app.proxy.dispatch import Change, News, read_health
from app.proxy.dispatch.way import Way
from app.proxy.records import Outcome
from tests.proxy.dispatch.ways import DENIED, DOWN, FULL, OK, House, RunningClock
from tests.proxy.makers import credential, make_channel
from tests.servers import RedisServer

_CHANNELS = (make_channel("chn_1"), make_channel("chn_2"))


class Worker(House):
    """A dispatcher with its news, on the machine's clocks."""

    def __init__(self, client: redis.Redis, seed: int) -> None:
        super().__init__(*_CHANNELS, seed=seed, clock=RunningClock())
        self.dispatcher.reconcile(self.channels)
        self.news = News(client, self.health)
        self._task = asyncio.create_task(self.news.keep())

    async def stop(self) -> None:
        await end_all(self._task)

    async def break_(self, outcome: Outcome = DOWN, times: int = 5) -> None:
        """All that is asked of chn_1 fails."""
        self.channels = _CHANNELS[:1]
        await self.fail(times, outcome)
        self.channels = _CHANNELS

    @property
    def way(self) -> Way:
        return next(self.health.find("chn_1", None))

    def state(self, channel_id: str = "chn_1") -> str:
        (view,) = (view for view in self.dispatcher.view() if view.channel_id == channel_id)
        if view.parked is not None:
            return "parked"
        return "cooling" if view.cooling else view.state


@pytest.fixture
async def client(redis_server: RedisServer) -> AsyncIterator[redis.Redis]:
    client = connect(redis_server.url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def workers(client: redis.Redis) -> AsyncIterator[tuple[Worker, Worker]]:
    pair = Worker(client, 1), Worker(client, 2)
    await _until(lambda: _listeners(client, 2))
    yield pair
    for worker in pair:
        await worker.stop()


async def _listeners(client: redis.Redis, count: int) -> bool:
    return bool((await client.pubsub_numsub(f"{HOUSE}:news"))[0][1] == count)


async def _until(probe: Callable[[], object], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            found = probe()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.01)


async def test_an_opened_breaker_is_open_everywhere_and_closes_everywhere(workers: tuple[Worker, Worker]) -> None:
    here, there = workers
    await here.break_()
    await _until(lambda: there.state() == "open")
    assert {await there.ask() for _ in range(10)} == {"chn_2"}
    assert there.told == [], "what one was told is not told again"
    here.clock.now_ms += 6_000
    here.channels = _CHANNELS[:1]
    await here.ask(OK)
    assert here.kinds == ["opened", "half_open", "closed"]
    await _until(lambda: there.state() == "closed")


async def test_whoever_opened_it_probes_first(workers: tuple[Worker, Worker]) -> None:
    """The other holds back a second longer, and while that probe is under way."""
    here, there = workers
    await here.break_()
    await _until(lambda: there.state() == "open")
    ours, theirs = here.way.breaker, there.way.breaker
    assert theirs.until_ms - ours.until_ms >= 900
    held_until_ms = theirs.until_ms
    here.clock.now_ms = there.clock.now_ms = ours.until_ms
    here.channels = _CHANNELS[:1]
    plan = here.plan()
    probe = await plan.next()
    assert probe is not None
    assert probe.is_probe
    await _until(lambda: theirs.until_ms > held_until_ms + 5_000)
    plan.ended(probe, OK)
    await _until(lambda: there.state() == "closed")


@pytest.mark.parametrize(("outcome", "state"), [(DENIED, "parked"), (FULL, "cooling")])
async def test_what_one_found_out_the_others_need_not(
    workers: tuple[Worker, Worker], outcome: Outcome, state: str
) -> None:
    here, there = workers
    await here.break_(outcome, 1)
    await _until(lambda: there.state() == state)


async def test_a_return_is_heard_by_all(workers: tuple[Worker, Worker], client: redis.Redis) -> None:
    here, there = workers
    await here.break_(DENIED, 1)
    await _until(lambda: there.state() == "parked")
    there.dispatcher.unpark("chn_1", None, "an operator said so")
    await _until(lambda: here.state() == "closed")
    await _until(lambda: _is_empty(client))


async def _is_empty(client: redis.Redis) -> bool:
    return not await client.hgetall(f"{HOUSE}:standing")


async def test_one_that_starts_later_knows_what_stands(workers: tuple[Worker, Worker], client: redis.Redis) -> None:
    here, _ = workers
    await here.break_(DENIED, 1)
    await _until(lambda: client.hlen(f"{HOUSE}:standing"))
    late = Worker(client, 3)
    try:
        await _until(lambda: late.state() == "parked")
    finally:
        await late.stop()


async def test_what_stood_before_an_operators_change_is_nothing_now(
    workers: tuple[Worker, Worker], client: redis.Redis
) -> None:
    """A new secret is not held to what the old one did, by nobody, whenever they read it."""
    here, there = workers
    await here.break_(DENIED, 1)
    await _until(lambda: there.state() == "parked")
    changed = (make_channel("chn_1", credentials=(credential("sk-new"),)), _CHANNELS[1])
    for worker in workers:
        worker.dispatcher.reconcile(changed)
        await worker.news._adopt({"": next(iter(_standing(await client.hgetall(f"{HOUSE}:standing"))))})
        assert worker.state() == "closed"
    await _until(lambda: _is_empty(client))


def _standing(found: dict[bytes, bytes]) -> list[Change]:
    return [msgspec.json.decode(data, type=Change) for data in found.values()]


async def test_emptied_redis_is_told_again(workers: tuple[Worker, Worker], client: redis.Redis) -> None:
    here, there = workers
    await here.break_(DENIED, 1)
    await _until(lambda: there.state() == "parked")
    await client.flushall()
    await _until(lambda: client.hlen(f"{HOUSE}:standing"))


async def test_without_redis_each_goes_on_and_tells_later() -> None:
    server = RedisServer()
    client = connect(server.url)
    here, there = Worker(client, 1), Worker(client, 2)
    try:
        await _until(lambda: _listeners(client, 2))
        server.stop()
        await here.break_()
        assert {await here.ask() for _ in range(10)} == {"chn_2"}
        assert there.state() == "closed"
        server.start()
        await _until(lambda: there.state() == "open", 20)
    finally:
        for worker in (here, there):
            await worker.stop()
        await client.aclose()
        server.stop()


async def test_figures_of_all_workers_are_one_picture(workers: tuple[Worker, Worker], client: redis.Redis) -> None:
    """What is in flight and what failed is summed; a worker that has stopped counts no longer."""
    here, there = workers
    plans = [worker.plan() for worker in workers for _ in range(3)]
    for plan in plans:
        await plan.next()
    await here.break_(DOWN, 2)

    async def seen() -> bool:
        views = await read_health(client)
        return (sum(view.in_flight for view in views), sum(view.failures for view in views)) == (6, 2)

    await _until(seen)
    await there.stop()
    assert sum(view.in_flight for view in await read_health(client)) == 3


async def test_news_that_nobody_understands_harms_nobody(workers: tuple[Worker, Worker], client: redis.Redis) -> None:
    """A worker of another version may speak otherwise."""
    here, there = workers
    for junk in (b"", b"\xff", b"[]", b'{"worker": "w", "at_ms": 1, "change": {"kind": "exploded"}}'):
        await client.publish(f"{HOUSE}:news", junk)
        await client.hset(f"{HOUSE}:standing", f"junk {junk!r}", junk)
    await here.break_()
    await _until(lambda: there.state() == "open")
    assert await read_health(client)


async def test_a_worker_that_stops_leaves_what_it_knew(client: redis.Redis) -> None:
    """Also what it found out in its last moment."""
    worker = Worker(client, 1)
    await asyncio.sleep(0)
    await worker.break_(DENIED, 1)
    await worker.stop()
    late = Worker(client, 2)
    try:
        await _until(lambda: late.state() == "parked")
    finally:
        await late.stop()
