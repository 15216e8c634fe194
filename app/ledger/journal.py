"""The journal: entries whose postings sum to zero. Credits are written here first, and applied to Redis after."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import now_ms
from app.base.errors import Conflict, InvalidField, NotFound
from app.base.ids import new_id
from app.base.money import WALLET_MAX_NANO
from app.ledger.tables import entries, postings, wallets

__all__ = [
    "Credit",
    "add_credit",
    "add_entry",
    "credits_after",
    "mark_applied",
    "move_balances",
    "open_wallet",
    "read_wallet",
    "unapplied_accounts",
]


class Credit(msgspec.Struct, frozen=True):
    """A credit of the journal. `number` counts them by account; `is_new` is False where it was written before."""

    entry_id: str
    account_id: str
    number: int
    amount_nano: int
    is_new: bool = False


async def open_wallet(db: AsyncConnection, account_id: str) -> None:
    await db.execute(
        insert(wallets).values(account_id=account_id, balance_nano=0, credit_number=0, applied_number=0, floor_nano=0)
    )


async def read_wallet(db: AsyncConnection, account_id: str) -> Any:
    """Its row, or None."""
    return (await db.execute(select(wallets).where(wallets.c.account_id == account_id))).first()


async def add_credit(
    db: AsyncConnection, account_id: str, amount_nano: int, memo: str, idempotency_key: str | None
) -> Credit:
    """Writes a credit, once for each idempotency key.

    Raises NotFound, InvalidField where the wallet would pass 2^53 nano-USD, Conflict where the key was used for another
    amount.
    """
    # The row is locked by its update: credits of one account are numbered without a gap.
    number = await db.scalar(
        update(wallets)
        .where(wallets.c.account_id == account_id)
        .values(credit_number=wallets.c.credit_number + 1)
        .returning(wallets.c.credit_number)
    )
    if number is None:
        raise NotFound(f"There is no account `{account_id}`.")
    if idempotency_key is not None:
        earlier = await _find_by_key(db, account_id, idempotency_key)
        if earlier is not None:
            await db.execute(update(wallets).where(wallets.c.account_id == account_id).values(credit_number=number - 1))
            if earlier.amount_nano != amount_nano:
                raise Conflict("This idempotency key was used for another amount.")
            return earlier
    balance = (await read_wallet(db, account_id)).balance_nano + amount_nano
    if balance > WALLET_MAX_NANO:
        raise InvalidField("amount", "would take the wallet past 9007199.254740991 USD")
    entry_id = new_id("ent")
    await add_entry(
        db,
        {
            "id": entry_id,
            "kind": "credit",
            "account_id": account_id,
            "memo": memo,
            "credit_number": number,
            "idempotency_key": idempotency_key,
        },
        {f"wallet:{account_id}": amount_nano, "cash": -amount_nano},
    )
    await move_balances(db, {account_id: amount_nano})
    return Credit(entry_id, account_id, number, amount_nano, is_new=True)


async def add_entry(db: AsyncConnection, entry: Mapping[str, Any], moves: Mapping[str, int]) -> None:
    """One entry and its postings; those of nothing are left out."""
    assert sum(moves.values()) == 0, moves
    blank = {"created_at_ms": now_ms(), "memo": "", "credit_number": None, "idempotency_key": None}
    await db.execute(insert(entries), [{**blank, **entry}])
    lines = [
        {"entry_id": entry["id"], "ledger_account": account, "amount_nano": amount}
        for account, amount in moves.items()
        if amount
    ]
    if lines:
        await db.execute(insert(postings), lines)


async def move_balances(db: AsyncConnection, changes: Mapping[str, int]) -> None:
    """Brings wallets' balances after their postings; in one order, so that two writers cannot wait for each other."""
    for account_id in sorted(changes):
        await db.execute(
            update(wallets)
            .where(wallets.c.account_id == account_id)
            .values(balance_nano=wallets.c.balance_nano + changes[account_id])
        )


async def credits_after(db: AsyncConnection, account_id: str, number: int) -> Sequence[Credit]:
    """Credits of an account beyond `number`, in order."""
    rows = await db.execute(
        _credits.where(entries.c.account_id == account_id, entries.c.credit_number > number).order_by(
            entries.c.credit_number
        )
    )
    return [Credit(row.id, row.account_id, row.credit_number, row.amount_nano) for row in rows]


async def unapplied_accounts(db: AsyncConnection) -> list[str]:
    """Accounts with credits that Redis may not have yet."""
    rows = await db.scalars(
        select(wallets.c.account_id).where(wallets.c.applied_number < wallets.c.credit_number).limit(1000)
    )
    return list(rows)


async def mark_applied(db: AsyncConnection, account_id: str, number: int) -> None:
    await db.execute(
        update(wallets)
        .where(wallets.c.account_id == account_id, wallets.c.applied_number < number)
        .values(applied_number=number)
    )


_credits = (
    select(entries.c.id, entries.c.account_id, entries.c.credit_number, postings.c.amount_nano)
    .join(postings, postings.c.entry_id == entries.c.id)
    .where(postings.c.ledger_account.like("wallet:%"))
)


async def _find_by_key(db: AsyncConnection, account_id: str, idempotency_key: str) -> Credit | None:
    row = (
        await db.execute(
            _credits.where(entries.c.account_id == account_id, entries.c.idempotency_key == idempotency_key)
        )
    ).first()
    return Credit(row.id, row.account_id, row.credit_number, row.amount_nano) if row else None
