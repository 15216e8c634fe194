"""The end of a drain: off, and not before the last request has ended."""

import asyncio
from typing import Any

import msgspec
from sqlalchemy import select, update

from app.base.crypto import Sealer
from app.base.database import Database
from app.catalog.channel_events import list_events
from app.catalog.offers import create_channel
from app.catalog.records import Channel
from app.catalog.tables import channels
from app.warden.drains import Drains
from tests.warden.houses import Yard

SEALER = Sealer("a secret")
QUIET_S = 0.05
NEW: dict[str, Any] = {
    "name": "main",
    "provider": "openai_compatible",
    "base_url": "https://vendor.example/v1",
    "credentials": [],
    "models": {"small": "vendor-small"},
    "timeouts": {},
    "priority": 0,
    "weight": 1,
    "enabled": True,
}


async def change(db: Database, channel: Channel, **values: Any) -> Channel:
    async with db.write() as writing:
        await writing.execute(update(channels).where(channels.c.id == channel.id).values(**values))
    return msgspec.structs.replace(channel, **values)


async def draining(db: Database) -> Channel:
    async with db.write() as writing:
        channel = await create_channel(writing, SEALER, NEW)
    return await change(db, channel, draining=True)


async def look(db: Database, channel: Channel) -> tuple[bool, bool]:
    """Whether it is enabled, and whether it drains."""
    async with db.read() as reading:
        row = (await reading.execute(select(channels).where(channels.c.id == channel.id))).one()
    return row.enabled, row.draining


async def test_off_when_its_last_request_has_ended(db: Database) -> None:
    """With an event and a word to all workers, once."""
    channel = await draining(db)
    yard = Yard(channel)
    yard.busy[channel.id] = 1
    drains = Drains(yard.house, db, quiet_s=QUIET_S)
    for _ in range(3):
        await drains.round()
        await asyncio.sleep(QUIET_S)
    assert await look(db, channel) == (True, True)

    yard.busy[channel.id] = 0
    await drains.round()
    assert await look(db, channel) == (True, True), "not yet: a worker may tell of another"
    await asyncio.sleep(QUIET_S * 1.5)
    await drains.round()
    await drains.round()

    assert await look(db, channel) == (False, False)
    assert yard.announced == ["catalog"]
    async with db.read() as reading:
        assert [each["kind"] for each in await list_events(reading, limit=10)] == ["drained", "created"]


async def test_quiet_counts_from_the_last_request(db: Database) -> None:
    channel = await draining(db)
    yard = Yard(channel)
    drains = Drains(yard.house, db, quiet_s=60)
    await drains.round()
    yard.busy[channel.id] = 1
    await drains.round()
    yard.busy[channel.id] = 0

    await drains.round()

    assert await look(db, channel) == (True, True)


async def test_an_operator_who_resumes_it_is_heeded(db: Database) -> None:
    """Also when the warden has not heard of it yet."""
    channel = await draining(db)
    yard = Yard(channel)
    drains = Drains(yard.house, db, quiet_s=0)
    await change(db, channel, draining=False)

    await drains.round()

    assert await look(db, channel) == (True, False)
    assert not yard.announced
