"""What the warden does to the health of a worker, and what it reads of all workers'."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio as redis

from app.base.database import Database
from app.base.errors import ServiceUnavailable
from app.base.redis import connect
from app.books import Books
from app.catalog.channel_events import list_events
from app.proxy.dispatch.figures import Figures
from app.proxy.dispatch.health import Health
from app.proxy.relay import Relay
from app.proxy.relay.sandbox import SandboxTransport
from app.proxy.relay.vendors import VendorTransport
from app.settings import Settings
from app.warden.house import House, in_flight, make_house
from app.warden.warden import Warden
from tests.proxy.makers import make_channel
from tests.servers import RedisServer

WAY = ("chn_1", "crd_1")


@pytest.fixture
async def client(redis_server: RedisServer) -> AsyncIterator[redis.Redis]:
    client = connect(redis_server.url)
    await client.flushall()
    yield client
    await client.aclose()


def house_of(health: Health, client: redis.Redis) -> House:
    async def announce(_event: str) -> None: ...

    channels = (make_channel(),)
    health.reconcile(channels)
    return make_house(lambda: channels, Relay(VendorTransport(), SandboxTransport()), health, client, announce)


def parked(health: Health) -> list[str | None]:
    return [way.parked for way in health.ways()]


async def test_a_test_parks_and_returns(client: redis.Redis) -> None:
    """Each is told once, however often it is done."""
    health, told = Health(), []
    health.listen(lambda change: told.append((change.kind, change.reason)))
    house = house_of(health, client)

    for _ in range(2):
        house.park(WAY, "a test failed: status 401", 401)
    assert parked(health) == ["a test failed: status 401"]
    for _ in range(2):
        house.unpark(WAY, "a test was answered")

    assert parked(health) == [None]
    assert told == [("parked", "a test failed: status 401"), ("returned", "a test was answered")]


async def test_all_workers_are_counted(client: redis.Redis) -> None:
    """What is in flight at each of them keeps a drain from ending."""
    telling = []
    for worker in ("wrk_1", "wrk_2"):
        health = Health()
        house = house_of(health, client)
        (way,) = health.ways()
        way.load.in_flight = 2
        telling.append(asyncio.create_task(Figures(client, health, worker).keep()))

    async with asyncio.timeout(10):
        while in_flight(await house.ways()) != {"chn_1": 4}:
            await asyncio.sleep(0.01)

    for task in telling:
        task.cancel()
    await asyncio.gather(*telling, return_exceptions=True)


async def test_redis_away_is_said(client: redis.Redis) -> None:
    server = RedisServer()
    gone = connect(server.url)
    server.stop()

    with pytest.raises(ServiceUnavailable):
        await house_of(Health(), gone).ways()
    await gone.aclose()


async def test_who_returned_it(db: Database, database_url: str, redis_server: RedisServer, client: redis.Redis) -> None:
    """An operator's hand is told from a test's."""
    settings = Settings(database_url=database_url, redis_url=redis_server.url, secret_key="secret")
    books = Books(settings, {"shards": "4", "admin": "00" * 32})
    await books.open()
    health = Health()
    warden = Warden(books, house_of(health, client))
    health.listen(warden.recorder.heard)
    (way,) = health.ways()

    health.park(*WAY, "HTTP 401", 401)
    warden.unpark(*WAY)
    await warden.close()
    await books.close()

    assert way.parked is None
    async with db.read() as reading:
        found = await list_events(reading, limit=10)
    assert [(each["kind"], each["actor"]) for each in found] == [("returned", "operator"), ("parked", "traffic")]
