"""What ends by itself: holds whose worker is gone, and lots that have expired."""

import logging
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import now_ms
from app.base.database import Database
from app.base.ids import new_id
from app.base.receipt import NO_EXTRAS, Draft, Movement, Receipt, Usage
from app.ledger.rebuild import rebuild_wallet
from app.ledger.redis_side import OverdueHold, QuotaSide, RecomputeAmount
from app.ledger.tables import lots

__all__ = ["ExpiredPolicy", "Sweeper"]

log = logging.getLogger("tollgate.bookkeeper")

ExpiredPolicy = Literal["free", "full"]

_LOTS_A_PAGE = 500
_GAP_LEAST_MS = 1_000
_encode = msgspec.json.Encoder().encode
_draft = msgspec.json.Decoder(Draft)


class Sweeper:
    """Ends holds only after Redis has answered without a break for one whole lease: workers that could not reach it
    renew their leases, or hand in what they had to settle, first."""

    def __init__(
        self, database: Database, quota: QuotaSide, price: RecomputeAmount, lease_ms: int, policy: ExpiredPolicy
    ) -> None:
        self._database = database
        self._quota = quota
        self._price = price
        self._lease_ms = lease_ms
        self._policy = policy
        self._gap_most_ms = max(_GAP_LEAST_MS, lease_ms // 4)
        self._steady_since: int | None = None
        self._answered_at = 0

    def answered(self, now: int) -> None:
        """Redis has just answered; `now` is any clock that never jumps, in ms. A long silence of our own is a break:
        nobody knows what was in it."""
        if self._steady_since is None or now - self._answered_at > self._gap_most_ms:
            self._steady_since = now
        self._answered_at = now

    def broke(self) -> None:
        """Redis did not answer."""
        self._steady_since = None

    async def sweep(self, now: int) -> int:
        """Ends holds whose lease has run out, each with a receipt that says so. How many."""
        if self._steady_since is None or now - self._steady_since < self._lease_ms:
            return 0
        ended = 0
        for number in range(self._quota.shards):
            for hold in await self._quota.overdue(number):
                receipt = await self._receipt(hold)
                usage = receipt.usage
                figures = (receipt.amount_nano, usage.input_tokens + usage.output_tokens)
                if await self._quota.expire(hold.request_id, hold.account_id, hold.trace, _encode(receipt), *figures):
                    ended += 1
                    log.warning("request %s expired: its worker is gone", hold.request_id)
        return ended

    async def _receipt(self, hold: OverdueHold) -> Receipt:
        """With `full`, the worst case that was held is charged: nobody knows what the vendor delivered."""
        draft = _draft.decode(hold.draft)
        usage, amount = Usage(), None
        if self._policy == "full":
            usage = Usage(input_tokens=draft.input_bound, output_tokens=draft.output_bound)
            amount = await self._price(draft.price_version, usage, draft.multiplier, draft.extras)
        is_charged = amount is not None
        return Receipt(
            request_id=hold.request_id,
            created_at_ms=draft.created_at_ms,
            account_id=hold.account_id,
            member_id=draft.member_id,
            key_id=hold.key_id,
            dialect=draft.dialect,
            model=draft.model,
            stream=draft.stream,
            status="expired",
            ending="expired",
            policy="full" if is_charged else "free",
            http_status=0,
            price_version=draft.price_version,
            multiplier=draft.multiplier,
            usage=usage if is_charged else Usage(),
            usage_source="estimated" if is_charged else "none",
            amount_nano=amount or 0,
            duration_ms=max(0, now_ms() - draft.created_at_ms),
            extras=draft.extras if is_charged else NO_EXTRAS,
        )

    async def lapse(self) -> int:
        """Takes what is left of expired lots out of their wallets; what running requests hold, later. How many lots
        gave something up."""
        lapsed, after = 0, (0, "")
        while True:
            async with self._database.read() as db:
                page = await _expired_lots(db, after)
            for row in page:
                after = (row.expires_at_ms, row.entry_id)
                lapsed += await self._lapse_one(row.account_id, row.entry_id)
            if len(page) < _LOTS_A_PAGE:
                return lapsed

    async def _lapse_one(self, account_id: str, lot_id: str) -> bool:
        movement = Movement(
            id=new_id("ent"), account_id=account_id, kind="lapse", created_at_ms=now_ms(), memo="expired", lot=lot_id
        )
        answer = await self._quota.lapse(account_id, lot_id, _encode(movement))
        if answer is None:
            await rebuild_wallet(self._database, self._quota, account_id)
            answer = await self._quota.lapse(account_id, lot_id, _encode(movement))
        return answer is not None and answer[0] > 0


async def _expired_lots(db: AsyncConnection, after: tuple[int, str]) -> Sequence[Any]:
    """Those with something left in the journal; their lapse may be on its way there."""
    columns = lots.c
    place = tuple_(columns.expires_at_ms, columns.entry_id)
    return (
        await db.execute(
            select(columns.expires_at_ms, columns.entry_id, columns.account_id)
            .where(columns.remaining_nano > 0, columns.expires_at_ms <= now_ms(), place > after)
            .order_by(columns.expires_at_ms, columns.entry_id)
            .limit(_LOTS_A_PAGE)
        )
    ).all()
