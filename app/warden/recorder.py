"""Each worker's record of what its requests found out about channels: written in the background, in batches, so that
nobody waits for the database; while that is away it is kept. What an operator should know of becomes an alert, once
for each outage, however many workers ran into it."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator

from sqlalchemy.ext.asyncio import AsyncConnection

from app.alerts.outbox import raise_alert
from app.base.database import Database
from app.base.errors import ServiceUnavailable
from app.catalog.channel_events import Actor, ChannelEvent, Kind, add_events, last_event, new_event
from app.proxy.dispatch.change import Change

__all__ = ["Recorder", "tell"]

log = logging.getLogger("tollgate.warden")

_KEPT_MOST = 10_000
_BATCH = 200
_RETRY_S = 1.0
_LAST_TRY_S = 2.0
_COOLING_EVERY_MS = 60_000
_HOUR_MS = 3_600_000
_DAY_MS = 86_400_000
_COOLING_KNOWN_MOST = 10_000

# What alerts are raised for, and what ends it: until then it is not told again.
_TOLD: dict[Kind, Kind] = {
    "opened": "closed",
    "closed": "opened",
    "parked": "returned",
    "returned": "parked",
    "test_failed": "test_passed",
    "test_passed": "test_failed",
}
# What nothing ends: told once in so long.
_TOLD_EVERY_MS: dict[Kind, int] = {
    "drained": _DAY_MS,
    "balance_low": _DAY_MS,
    "usage_beyond_bound": _HOUR_MS,
}


class Recorder:
    """`heard` may be called anywhere in the loop; `run` writes until cancelled."""

    def __init__(self, database: Database, name_of: Callable[[str], str | None], retry_s: float = _RETRY_S) -> None:
        self._database = database
        self._name_of = name_of  # of a channel, for people
        self._retry_s = retry_s
        self._actor: Actor = "traffic"
        self._kept: deque[ChannelEvent] = deque()
        self._came = asyncio.Event()
        self._cooled: dict[tuple[str, str | None, str | None], int] = {}
        self._went_beyond: dict[str, int] = {}  # by channel: the hour that it was noted in

    @contextlib.contextmanager
    def acting(self, actor: Actor) -> Iterator[None]:
        """What is heard inside was not found out by traffic."""
        self._actor = actor
        try:
            yield
        finally:
            self._actor = "traffic"

    def heard(self, change: Change) -> None:
        """A cool-down is noted once a minute for each credential and model: a busy vendor asks for many."""
        about = {"credential_id": change.credential_id, "model": change.model}
        event = new_event(change.channel_id, change.kind, change.reason, self._actor, **about)
        if event.kind == "cooling":
            way = (event.channel_id, event.credential_id, event.model)
            if event.at_ms - self._cooled.get(way, 0) < _COOLING_EVERY_MS:
                return
            if len(self._cooled) >= _COOLING_KNOWN_MOST:
                self._cooled.clear()
            self._cooled[way] = event.at_ms
        self.add(event)

    def went_beyond(self, channel_id: str, model: str, how: str) -> None:
        """A vendor's figures for a request for `model` were more than it could cost: noted once an hour for each
        channel."""
        event = new_event(channel_id, "usage_beyond_bound", how, self._actor, model=model)
        hour = event.at_ms // _HOUR_MS
        if self._went_beyond.get(channel_id) != hour:
            self._went_beyond[channel_id] = hour
            self.add(event)

    def add(self, event: ChannelEvent) -> None:
        """Beyond ten thousand unwritten ones the oldest is given up."""
        if len(self._kept) >= _KEPT_MOST:
            lost = self._kept.popleft()
            log.error("event of channel %s is lost, too many wait: %s", lost.channel_id, lost.kind)
        self._kept.append(event)
        self._came.set()

    async def run(self) -> None:
        while True:
            await self._came.wait()
            try:
                await self._write()
            except ServiceUnavailable:
                log.warning("%d channel events wait for the database", len(self._kept))
                await asyncio.sleep(self._retry_s)
            except Exception:  # whatever it is, it must not keep the events behind it from being written
                log.exception("channel events can't be written, and are given up")
                self._kept.clear()
                self._came.clear()

    async def close(self) -> None:
        """Writes what is left, if the database lets it soon."""
        with contextlib.suppress(ServiceUnavailable, TimeoutError):
            async with asyncio.timeout(_LAST_TRY_S):
                await self._write()

    async def _write(self) -> None:
        while self._kept:
            batch = [self._kept[i] for i in range(min(_BATCH, len(self._kept)))]
            async with self._database.write() as db:
                await add_events(db, batch)
                for event in batch:
                    await tell(db, event, self._name_of(event.channel_id))
            # Gone only once they are written; what came meanwhile stands behind them.
            written = {event.id for event in batch}
            while self._kept and self._kept[0].id in written:
                self._kept.popleft()
        self._came.clear()


async def tell(db: AsyncConnection, event: ChannelEvent, channel_name: str | None) -> None:
    """Raises an event's alert, if it is of a kind to be told: in the event's own transaction."""
    if event.kind in _TOLD_EVERY_MS:
        since = str(event.at_ms // _TOLD_EVERY_MS[event.kind])
    elif event.kind in _TOLD:
        ends = _TOLD[event.kind]
        ended = await last_event(db, event.channel_id, event.credential_id, [ends], before=event.id)
        since = ended.id if ended else "ever"
    else:
        return
    details = {
        "channel_id": event.channel_id,
        "channel": channel_name,
        "credential_id": event.credential_id,
        "model": event.model,
        "reason": event.reason,
    }
    once = f"channel.{event.kind}:{event.channel_id}:{event.credential_id or ''}:{since}"
    await raise_alert(db, f"channel.{event.kind}", event.channel_id, details, once=once)
