"""Channels: where answers come from."""

from typing import Any

import msgspec
from litestar import Controller, get, patch, post
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.errors import InvalidField, NotFound
from app.catalog import offers
from app.catalog.records import Channel
from app.console.channel_fields import ChannelFields, changed_columns, costs_of, new_columns, show_channel
from app.console.office import Office, Page, page_cursor, page_limit, paged

__all__ = ["ChannelsController"]


class ChannelTest(msgspec.Struct, forbid_unknown_fields=True):
    """Which of the channel's models to ask; the first unless named."""

    model: str | None = None


class ChannelsController(Controller):
    path = "/channels"

    @post()
    async def create(self, office: Office, data: ChannelFields) -> dict[str, Any]:
        values, costs = new_columns(data, office.default_base_urls), costs_of(data)
        async with office.database.write() as db:
            channel = await offers.create_channel(db, office.sealer, values, costs or {})
        await office.announce("catalog")
        return show_channel(channel)

    @get()
    async def list_all(self, office: Office, cursor: str = "", limit: int | None = None) -> Page:
        most = page_limit(limit)
        async with office.database.read() as db:
            found = await offers.list_channels(db, office.sealer, page_cursor(cursor) or "", most + 1)
        page = paged(found, most, lambda channel: channel.id)
        page.items = [show_channel(channel) for channel in page.items]
        return page

    @get("/{channel_id:str}")
    async def read(self, office: Office, channel_id: str) -> dict[str, Any]:
        async with office.database.read() as db:
            return show_channel(await _found(db, office, channel_id))

    @patch("/{channel_id:str}")
    async def change(self, office: Office, channel_id: str, data: ChannelFields) -> dict[str, Any]:
        return await _change(office, channel_id, data)

    @post("/{channel_id:str}/drain", status_code=200)
    async def drain(self, office: Office, channel_id: str) -> dict[str, Any]:
        """It takes no new request from here on, and is disabled when its last has ended."""
        return await _change(office, channel_id, ChannelFields(draining=True))

    @post("/{channel_id:str}/resume", status_code=200)
    async def resume(self, office: Office, channel_id: str) -> dict[str, Any]:
        """It serves again, however far its drain had come."""
        return await _change(office, channel_id, ChannelFields(draining=False, enabled=True))

    @post("/{channel_id:str}/test", status_code=200)
    async def probe(self, office: Office, channel_id: str, data: ChannelTest | None = None) -> dict[str, Any]:
        """One tiny real request: its answer, its latency, its error."""
        async with office.database.read() as db:
            channel = await _found(db, office, channel_id)
        model = (data.model if data else None) or next(iter(channel.models))
        if model not in channel.models:
            raise InvalidField("model", "is not served by this channel")
        return await office.probe_channel(channel, model)


async def _change(office: Office, channel_id: str, fields: ChannelFields) -> dict[str, Any]:
    async with office.database.write() as db:
        old = await _found(db, office, channel_id, for_change=True)
        values = changed_columns(fields, office.default_base_urls, old)
        channel = await offers.update_channel(db, office.sealer, channel_id, values, costs_of(fields))
    await office.announce("catalog")
    assert channel is not None
    return show_channel(channel)


async def _found(db: AsyncConnection, office: Office, channel_id: str, *, for_change: bool = False) -> Channel:
    channel = await offers.find_channel(db, office.sealer, channel_id, for_change=for_change)
    if channel is None:
        raise NotFound(f"There is no channel `{channel_id}`.")
    return channel
