"""The end of a drain: a channel that takes no new request is switched off when its last one has ended."""

import time

from sqlalchemy import update

from app.base.database import Database
from app.catalog.channel_events import add_event
from app.catalog.tables import channels
from app.warden.house import House, in_flight
from app.warden.recorder import tell

__all__ = ["Drains"]

# Longer than a worker takes to hear of the drain, and to tell of the requests that it has in flight.
_QUIET_S = 2.0


class Drains:
    def __init__(self, house: House, database: Database, quiet_s: float = _QUIET_S) -> None:
        self._house = house
        self._database = database
        self._quiet_s = quiet_s
        self._quiet_since: dict[str, float] = {}

    async def round(self) -> None:
        """Raises ServiceUnavailable."""
        draining = {each.id: each.name for each in self._house.channels() if each.enabled and each.draining}
        self._quiet_since = {known: since for known, since in self._quiet_since.items() if known in draining}
        if not draining:
            return
        busy = in_flight(await self._house.ways())
        for channel_id, name in draining.items():
            if busy[channel_id]:
                self._quiet_since.pop(channel_id, None)
                continue
            since = self._quiet_since.setdefault(channel_id, time.monotonic())
            if time.monotonic() - since >= self._quiet_s and await self._end(channel_id, name):
                await self._house.announce("catalog")

    async def _end(self, channel_id: str, name: str) -> bool:
        """False where an operator has resumed it meanwhile."""
        still = (channels.c.id == channel_id, channels.c.enabled, channels.c.draining)
        async with self._database.write() as db:
            ended = await db.execute(update(channels).where(*still).values(enabled=False, draining=False))
            if not ended.rowcount:
                return False
            event = await add_event(db, channel_id, "drained", "its last request has ended: it is off", "schedule")
            await tell(db, event, name)
        return True
