"""Corrections: new entries that point at what they put right. Nothing here changes an old one.

Money that is given goes into the journal first, as a numbered credit. Money that is taken is taken in Redis first,
where the holds of running requests are known, and is posted from the stream.
"""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.errors import Conflict, InvalidField, NotFound
from app.base.money import format_usd
from app.ledger.journal import Credit, refund
from app.ledger.tables import entries, postings, receipts, wallets

__all__ = ["check_correctable", "check_key_unused", "find_refunds", "refund_request"]


async def refund_request(
    db: AsyncConnection, request_id: str, amount_nano: int | None, memo: str, idempotency_key: str | None
) -> Credit:
    """Gives back what a request was charged; None: all that was not given back yet.

    Raises NotFound; Conflict where more would be given back than was charged, or where the idempotency key was used for
    something else.
    """
    receipt = (await db.execute(select(receipts).where(receipts.c.request_id == request_id))).first()
    if receipt is None:
        raise NotFound(f"There is no receipt `{request_id}`; one appears a moment after its request has ended.")
    # Refunds of one account wait for each other here, so that two can't both find the same amount left.
    await db.execute(select(wallets.c.account_id).where(wallets.c.account_id == receipt.account_id).with_for_update())
    if idempotency_key is not None and (earlier := await _earlier(db, receipt.account_id, idempotency_key)) is not None:
        if earlier.kind != "refund" or earlier.corrects != request_id or amount_nano not in (None, earlier.amount_nano):
            raise Conflict("This idempotency key was used for something else.")
        # PostgreSQL's sum of bigints is a numeric.
        return Credit(earlier.id, receipt.account_id, earlier.credit_number, int(earlier.amount_nano))
    charged = receipt.amount_nano - receipt.unpaid_nano
    left = charged - sum(each["amount_nano"] for each in await find_refunds(db, receipt.account_id, request_id))
    wanted = left if amount_nano is None else amount_nano
    if left <= 0:
        raise Conflict(f"Nothing is left to refund of the {format_usd(charged)} USD that were charged.")
    if wanted > left:
        raise Conflict(f"Only {format_usd(left)} of the {format_usd(charged)} USD charged are left to refund.")
    return await refund(db, receipt.account_id, request_id, wanted, memo, idempotency_key)


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


async def check_key_unused(db: AsyncConnection, account_id: str, idempotency_key: str) -> None:
    """For money that is taken: a key of money that was given is another request. Raises Conflict."""
    used = select(entries.c.id).where(entries.c.account_id == account_id, entries.c.idempotency_key == idempotency_key)
    if await db.scalar(used) is not None:
        raise Conflict("This idempotency key was used for something else.")


_of_customer = postings.c.ledger_account.in_(("wallet:" + entries.c.account_id, "promo:" + entries.c.account_id))


async def _earlier(db: AsyncConnection, account_id: str, idempotency_key: str) -> Any:
    query = (
        select(
            entries.c.id,
            entries.c.kind,
            entries.c.corrects,
            entries.c.credit_number,
            func.sum(postings.c.amount_nano).label("amount_nano"),
        )
        .join(postings, postings.c.entry_id == entries.c.id)
        .where(entries.c.account_id == account_id, entries.c.idempotency_key == idempotency_key, _of_customer)
        .group_by(entries.c.id)
    )
    return (await db.execute(query)).first()
