"""The bookkeeper: moves receipts from the shards' streams into the database, in batches; idempotent by request id, and
acknowledged only after the commit. It also ends holds whose worker is gone, and credits that Redis has not got.

Safe to run twice, to kill, and to start late: what is not acknowledged is read again, and nothing is posted twice.
"""

import asyncio
import logging
from collections.abc import Sequence

import msgspec

from app.base.clock import monotonic_ms, now_ms
from app.base.database import Database
from app.base.errors import ServiceUnavailable
from app.base.receipt import Draft, Receipt
from app.base.wire import StoreError
from app.ledger.posting import StreamedReceipt, Unpostable, post
from app.ledger.rebuild import apply_waiting_credits
from app.ledger.redis_side import OverdueHold, QuotaSide
from app.ledger.stream import Entry, ReceiptStreams

__all__ = ["Bookkeeper"]

log = logging.getLogger("tollgate.bookkeeper")

# Batches grow with the load, and a receipt waits this long at most while the database keeps up.
_PACE_MS = 100
_BATCH_MOST = 2000
_AWAY_S = 0.5
_CHORES_EVERY_MS = 2_000
_encode = msgspec.json.Encoder().encode
_draft = msgspec.json.Decoder(Draft)


class Bookkeeper:
    def __init__(self, database: Database, streams: ReceiptStreams, quota: QuotaSide, sweep_every_ms: int) -> None:
        self._database = database
        self._streams = streams
        self._quota = quota
        self._sweep_every_ms = sweep_every_ms
        self._prepared = False
        self._chores_at = 0
        self._sweep_at = 0
        self.posted = 0

    async def run(self, stopping: asyncio.Event) -> None:
        """Works until `stopping` is set and the streams are empty."""
        while True:
            started = monotonic_ms()
            last_round = stopping.is_set()
            moved = 0
            try:
                moved = await self._round(started)
            except ServiceUnavailable as error:
                log.warning("waiting: %s", error.message)
                await asyncio.sleep(_AWAY_S)
            except StoreError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                self._prepared = False  # Redis was emptied
            if last_round and not moved:
                return
            pause_s = max(0, _PACE_MS - (monotonic_ms() - started)) / 1000
            await asyncio.sleep(0 if last_round else pause_s)

    async def _round(self, now: int) -> int:
        if not self._prepared:
            await self._streams.prepare()
            self._prepared = True
        if now >= self._chores_at:
            self._chores_at = now + _CHORES_EVERY_MS
            while await self._post(await self._streams.read_unacknowledged()):
                pass
            await apply_waiting_credits(self._database, self._quota)
            await self._streams.trim()
        if now >= self._sweep_at:
            self._sweep_at = now + self._sweep_every_ms
            await self.sweep()
        return await self._post(await self._streams.read_new())

    async def _post(self, entries: Sequence[Entry]) -> int:
        for start in range(0, len(entries), _BATCH_MOST):
            await self._post_batch(entries[start : start + _BATCH_MOST])
        return len(entries)

    async def _post_batch(self, batch: Sequence[Entry]) -> None:
        readable = [entry for entry in batch if entry.item is not None]
        for entry in batch:
            if entry.item is None and entry.fields:
                await self._streams.set_aside(entry)
        await self._post_or_split(readable)
        await self._streams.acknowledge(batch)

    async def _post_or_split(self, batch: Sequence[Entry]) -> None:
        """One receipt that the database refuses holds nobody up: halves are posted until it stands alone."""
        try:
            self.posted += await self._post_receipts([entry.item for entry in batch if entry.item is not None])
        except Unpostable as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._post_or_split(batch[:middle])
                await self._post_or_split(batch[middle:])
            else:
                log.error("stream entry %s can't be posted: %s", batch[0].id.decode(), error.__cause__)
                await self._streams.set_aside(batch[0])

    async def _post_receipts(self, items: Sequence[StreamedReceipt]) -> int:
        """The database may be away for long: the streams hold the receipts meanwhile."""
        while True:
            try:
                return await post(self._database, items)
            except ServiceUnavailable as error:
                log.warning("receipts wait in their streams: %s", error.message)
                await asyncio.sleep(_AWAY_S)

    async def sweep(self) -> int:
        """Ends the holds whose lease has run out: nothing is charged, and a receipt says so. How many."""
        ended = 0
        for number in range(self._quota.shards):
            for hold in await self._quota.overdue(number):
                receipt = _encode(_expired(hold))
                if await self._quota.expire(hold.request_id, hold.account_id, hold.key_id, receipt):
                    ended += 1
                    log.warning("request %s expired: its worker is gone", hold.request_id)
        return ended


def _expired(hold: OverdueHold) -> Receipt:
    draft = _draft.decode(hold.draft)
    return Receipt(
        request_id=hold.request_id,
        created_at_ms=draft.created_at_ms,
        account_id=hold.account_id,
        key_id=hold.key_id,
        dialect=draft.dialect,
        model=draft.model,
        stream=draft.stream,
        status="expired",
        http_status=0,
        price_version=draft.price_version,
        duration_ms=max(0, now_ms() - draft.created_at_ms),
    )
