"""The bookkeeper: moves receipts from the shards' streams into the database, in batches; idempotent by request id, and
acknowledged only after the commit. It also brings Redis the credits that it has not got, makes room for next month,
holds wallets against the books, and has the sweeper end what ends by itself.

Safe to run twice, to kill, and to start late: what is not acknowledged is read again, and nothing is posted twice.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from app.base.clock import monotonic_ms, now_ms
from app.base.database import Database
from app.base.errors import ServiceUnavailable
from app.base.wire import StoreError
from app.ledger.audit import Audit, Tell, tell_nobody
from app.ledger.items import Item
from app.ledger.partitions import make_partitions
from app.ledger.posting import Unpostable, post
from app.ledger.rebuild import apply_waiting_credits
from app.ledger.redis_side import QuotaSide, RecomputeAmount
from app.ledger.rejected import RejectedEntries
from app.ledger.stream import Entry, ReceiptStreams
from app.ledger.sweeper import ExpiredPolicy, Sweeper

__all__ = ["Bookkeeper"]

log = logging.getLogger("tollgate.bookkeeper")

# Batches grow with the load, and a receipt waits this long at most while the database keeps up.
_PACE_MS = 100
_BATCH_MOST = 2000
_AWAY_S = 0.5
_CHORES_EVERY_MS = 2_000
_PARTITIONS_EVERY_MS = 600_000
_UNREADABLE = "Unreadable"


async def _nothing() -> None: ...


class Bookkeeper:
    """`price` and `expired_policy` say what the receipt of an expired hold charges. `tell` raises an alert, and `also`
    is called with the other chores."""

    def __init__(
        self,
        database: Database,
        streams: ReceiptStreams,
        quota: QuotaSide,
        price: RecomputeAmount,
        *,
        sweep_every_ms: int,
        lease_ms: int,
        tell: Tell = tell_nobody,
        also: Callable[[], Awaitable[None]] = _nothing,
        expired_policy: ExpiredPolicy = "free",
        clock: Callable[[], int] = monotonic_ms,
    ) -> None:
        self._database = database
        self._streams = streams
        self._quota = quota
        self._also = also
        self._audit = Audit(database, quota, tell)
        self._rejected = RejectedEntries(database, streams, tell)
        self._sweeper = Sweeper(database, quota, price, lease_ms, expired_policy)
        self._sweep_every_ms = sweep_every_ms
        self._clock = clock
        self._prepared = False
        self._chores_at = 0
        self._partitions_at = 0
        self._sweep_at = 0
        self.posted = 0

    async def run(self, stopping: asyncio.Event) -> None:
        """Works until `stopping` is set and the streams are empty."""
        while True:
            started = self._clock()
            last_round = stopping.is_set()
            moved = 0
            try:
                moved = await self._round(started)
            except ServiceUnavailable as error:
                self._sweeper.broke()
                log.warning("waiting: %s", error.message)
                await asyncio.sleep(_AWAY_S)
            except StoreError as error:
                if "NOGROUP" not in str(error):  # a script's own words stand before it
                    raise
                self._prepared = False  # Redis was emptied
            if last_round and not moved:
                return
            pause_s = max(0, _PACE_MS - (self._clock() - started)) / 1000
            await asyncio.sleep(0 if last_round else pause_s)

    async def _round(self, now: int) -> int:
        if not self._prepared:
            await self._streams.prepare()
            self._prepared = True
        await self._streams.ping()
        self._sweeper.answered(now)
        if now >= self._partitions_at:
            self._partitions_at = now + _PARTITIONS_EVERY_MS
            await self._make_partitions()
        if now >= self._chores_at:
            self._chores_at = now + _CHORES_EVERY_MS
            while await self._post(await self._streams.read_unacknowledged()):
                pass
            await apply_waiting_credits(self._database, self._quota)
            await self._streams.trim()
            await self._rejected.round()
            await self._audit.round()
            await self._also()
        if now >= self._sweep_at:
            self._sweep_at = now + self._sweep_every_ms
            await self._sweeper.lapse()
            await self._sweeper.sweep(now)
        return await self._post(await self._streams.read_new())

    async def _make_partitions(self) -> None:
        for name in await make_partitions(self._database, now_ms()):
            log.info("receipts have a new part: %s", name)

    async def _post(self, entries: Sequence[Entry]) -> int:
        for start in range(0, len(entries), _BATCH_MOST):
            await self._post_batch(entries[start : start + _BATCH_MOST])
        return len(entries)

    async def _post_batch(self, batch: Sequence[Entry]) -> None:
        """Where some of it was posted before, or Redis has lost it meanwhile, the wallets concerned may have been
        charged for it twice, or not at all: they are compared with the books."""
        readable = [entry for entry in batch if entry.item is not None]
        for entry in batch:
            if entry.item is None and entry.fields:
                await self._rejected.set_aside(entry, _UNREADABLE)
        posted_before = self.posted
        await self._post_or_split(readable)
        is_known = False
        try:
            is_known = await self._streams.acknowledge(batch)
        finally:
            if not is_known or self.posted - posted_before < len(readable):
                self._audit.suspect(readable)

    async def _post_or_split(self, batch: Sequence[Entry]) -> None:
        """One receipt that the database refuses holds nobody up: halves are posted until it stands alone."""
        try:
            self.posted += await self._post_items([entry.item for entry in batch if entry.item is not None])
        except Unpostable as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._post_or_split(batch[:middle])
                await self._post_or_split(batch[middle:])
            else:
                log.error("stream entry %s can't be posted: %s", batch[0].id.decode(), error.__cause__)
                await self._rejected.set_aside(batch[0], error.reason)

    async def _post_items(self, items: Sequence[Item]) -> int:
        """The database may be away for long: the streams hold the receipts meanwhile."""
        while True:
            try:
                return await post(self._database, items)
            except ServiceUnavailable as error:
                log.warning("receipts wait in their streams: %s", error.message)
                await asyncio.sleep(_AWAY_S)
