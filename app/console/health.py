"""How channels are, and what an operator does about it: return a parked credential, ask a vendor what is left."""

from typing import Any

import msgspec
from litestar import Controller, get, post

from app.base.errors import InvalidField, NotFound
from app.catalog.offers import find_channel
from app.catalog.records import Channel
from app.console.office import Office, Page

__all__ = ["HealthController"]


class Return(msgspec.Struct, forbid_unknown_fields=True):
    """Which of the channel's credentials; all of them unless named."""

    credential_id: str | None = None


class HealthController(Controller):
    path = "/"

    @get("/health/channels")
    async def look(self, office: Office) -> Page:
        """Every channel and credential: breakers, cool-downs, what is in flight, over all workers; and balances."""
        return Page(await office.channel_health())

    @get("/channels/{channel_id:str}/balance")
    async def balance(self, office: Office, channel_id: str) -> dict[str, Any]:
        """Asks the vendor now, with each credential."""
        channel = await _find(office, channel_id)
        balances = {each.id: await office.ask_balance(channel, each) for each in channel.ways}
        return {"channel_id": channel_id, "balances": balances}

    @post("/channels/{channel_id:str}/return", status_code=200)
    async def unpark(self, office: Office, channel_id: str, data: Return | None = None) -> dict[str, Any]:
        """Credentials that were parked take requests again; one that its vendor refuses is parked again. May be
        repeated."""
        channel = await _find(office, channel_id)
        wanted = data.credential_id if data else None
        ids = [each.id for each in channel.ways if wanted in (None, each.id)]
        if not ids:
            raise InvalidField("credential_id", "is not one of this channel's that are in use")
        for credential_id in ids:
            office.unpark(channel_id, credential_id)
        return {"channel_id": channel_id, "credential_ids": ids}


async def _find(office: Office, channel_id: str) -> Channel:
    async with office.database.read() as db:
        channel = await find_channel(db, office.sealer, channel_id)
    if channel is None:
        raise NotFound(f"There is no channel `{channel_id}`.")
    return channel
