"""Corrections: new entries that point at what they put right. Nothing here changes an old one.

Money that is given goes into the journal first, as a numbered credit. Money that is taken is taken in Redis first,
where the holds of running requests are known, and is posted from the stream.

A refund gives a charge back in the reverse order of its spending: first what plain money paid, lots of paid credit that
expires among it, and then what promotional lots paid, as promotional credit again.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import now_ms
from app.base.errors import Conflict, InvalidField, NotFound
from app.base.money import format_usd
from app.ledger.journal import Credit, find_by_key, write_credit
from app.ledger.lots import Lot, read_parts, take_last
from app.ledger.tables import entries, lots, postings, receipts

__all__ = ["check_correctable", "find_refunds", "refund"]

# Promotional credit that is given back can be used for this long at least, whenever it was to expire.
_PROMO_LASTS_MS = 30 * 24 * 3600 * 1000


async def refund(
    db: AsyncConnection, request_id: str, amount_nano: int | None, memo: str, idempotency_key: str | None
) -> Credit:
    """Gives back what a request was charged, or a part of it; None: all that was not given back yet. All refunds of a
    request together are never more than its wallet had paid.

    Raises NotFound; InvalidField where it is nothing, or would take the wallet past what it can hold; Conflict where
    more would be given back than was charged, or where the idempotency key was used for something else.
    """
    if amount_nano is not None and amount_nano <= 0:
        raise InvalidField("amount", "must be more than zero")
    receipt = (await db.execute(select(receipts).where(receipts.c.request_id == request_id))).first()
    if receipt is None:
        raise NotFound(f"There is no receipt `{request_id}`; one appears a moment after its request has ended.")
    account_id = receipt.account_id
    # The wallet's row is locked from here on: two refunds can't both find the same amount left.
    if (earlier := await find_by_key(db, account_id, idempotency_key)) is not None:
        if (earlier.kind, earlier.corrects) != ("refund", request_id):
            raise Conflict("This idempotency key was used for something else.")
        if amount_nano not in (None, earlier.amount_nano):
            raise Conflict("This idempotency key was used for another amount.")
        return earlier
    charged_nano = receipt.amount_nano - receipt.unpaid_nano
    charged = f"of the {format_usd(charged_nano)} USD that were charged"
    plain_nano, promo_nano = await _refunded(db, account_id, request_id)
    left_nano = charged_nano - plain_nano - promo_nano
    wanted_nano = left_nano if amount_nano is None else amount_nano
    if left_nano <= 0:
        raise Conflict(f"Nothing is left to refund {charged}.")
    if wanted_nano > left_nano:
        raise Conflict(f"Only {format_usd(left_nano)} USD are left to refund {charged}.")
    given = await _promotional_parts(db, read_parts(receipt.lot_parts or ""))
    plain_left_nano = max(0, charged_nano - sum(lot.remaining_nano for lot in given) - plain_nano)
    again_nano = max(0, wanted_nano - plain_left_nano)
    touched = take_last(given, promo_nano, again_nano)
    entry = {"kind": "refund", "corrects": request_id, "memo": memo, "idempotency_key": idempotency_key}
    return await write_credit(db, account_id, wanted_nano, again_nano, _expiry(touched), entry, "revenue")


async def find_refunds(db: AsyncConnection, account_id: str, request_id: str) -> list[dict[str, Any]]:
    """Of a request, oldest first: `entry_id`, `created_at_ms`, `memo`, `amount_nano`."""
    query = (
        select(entries.c.id, entries.c.created_at_ms, entries.c.memo, func.sum(postings.c.amount_nano).label("nano"))
        .join(postings, postings.c.entry_id == entries.c.id)
        .where(
            entries.c.account_id == account_id,
            entries.c.kind == "refund",
            entries.c.corrects == request_id,
            _of_customer,
        )
        .group_by(entries.c.id)
        .order_by(entries.c.created_at_ms, entries.c.id)
    )
    return [
        {"entry_id": row.id, "created_at_ms": row.created_at_ms, "memo": row.memo, "amount_nano": int(row.nano)}
        for row in await db.execute(query)
    ]


async def check_correctable(db: AsyncConnection, account_id: str, corrects: str) -> None:
    """Raises InvalidField unless `corrects` is an entry or a request of the account."""
    entry = select(entries.c.id).where(entries.c.id == corrects, entries.c.account_id == account_id)
    request = select(receipts.c.request_id).where(
        receipts.c.request_id == corrects, receipts.c.account_id == account_id
    )
    if await db.scalar(entry) is None and await db.scalar(request) is None:
        raise InvalidField("corrects", "is neither an entry nor a request of this account")


async def _refunded(db: AsyncConnection, account_id: str, request_id: str) -> tuple[int, int]:
    """What all refunds of a request have given back: plain money, and promotional credit."""
    query = (
        select(postings.c.ledger_account, func.sum(postings.c.amount_nano))
        .join(entries, entries.c.id == postings.c.entry_id)
        .where(
            entries.c.account_id == account_id,
            entries.c.kind == "refund",
            entries.c.corrects == request_id,
            _of_customer,
        )
        .group_by(postings.c.ledger_account)
    )
    # PostgreSQL's sum of bigints is a numeric.
    sums = {ledger_account: int(total) for ledger_account, total in await db.execute(query)}
    return sums.get(f"wallet:{account_id}", 0), sums.get(f"promo:{account_id}", 0)


async def _promotional_parts(db: AsyncConnection, parts: Mapping[str, int]) -> list[Lot]:
    """What promotional lots paid of a charge, in the order they were spent: `remaining_nano` is a lot's part."""
    if not parts:
        return []
    rows = await db.execute(
        select(lots.c.entry_id, lots.c.expires_at_ms).where(lots.c.entry_id.in_(parts), lots.c.promotional)
    )
    expiries = {row.entry_id: row.expires_at_ms for row in rows}
    return [Lot(lot_id, nano, expiries[lot_id], True) for lot_id, nano in parts.items() if lot_id in expiries]


def _expiry(touched: Sequence[Lot]) -> int | None:
    """When promotional credit that is given back expires: with the first of the lots that it came from."""
    expiries = [lot.expires_at_ms for lot in touched if lot.expires_at_ms is not None]
    return max(min(expiries), now_ms() + _PROMO_LASTS_MS) if expiries else None


_of_customer = postings.c.ledger_account.in_(("wallet:" + entries.c.account_id, "promo:" + entries.c.account_id))
