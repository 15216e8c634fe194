"""The journal: entries whose postings sum to zero. Credits are written here first, and applied to Redis after, in the
order of their numbers; so is every change of a credit line, as an entry that moves nothing."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import BigInteger, bindparam, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import now_ms
from app.base.errors import Conflict, InvalidField, NotFound
from app.base.ids import new_id
from app.base.money import WALLET_MAX_NANO, format_usd
from app.ledger.idempotency import lock_wallet, refuse_key_of_debit
from app.ledger.lots import Lot
from app.ledger.tables import entries, lots, postings, wallets

__all__ = [
    "Credit",
    "CreditKind",
    "add_credit",
    "add_entry",
    "credits_after",
    "find_by_key",
    "lots_of",
    "mark_applied",
    "move_balances",
    "open_wallet",
    "read_wallet",
    "set_credit_line",
    "unapplied_accounts",
    "write_credit",
]

# What is written here before Redis has it. `adjustment` brings money in here; one that takes it out is a debit.
CreditKind = Literal["credit", "adjustment"]


class Credit(msgspec.Struct, frozen=True):
    """A numbered entry of the journal: a credit, or a change of the credit line, which moves nothing. `number` counts
    them by account; `lot` is the part that is promotional, or else all of it where it expires; `is_new` is False where
    it was written before."""

    entry_id: str
    account_id: str
    number: int
    amount_nano: int
    is_new: bool = False
    kind: str = "credit"
    lot: Lot | None = None
    corrects: str | None = None


async def open_wallet(db: AsyncConnection, account_id: str) -> None:
    await db.execute(
        insert(wallets).values(account_id=account_id, balance_nano=0, credit_number=0, applied_number=0, floor_nano=0)
    )


async def read_wallet(db: AsyncConnection, account_id: str) -> Any:
    """Its row, or None."""
    return (await db.execute(select(wallets).where(wallets.c.account_id == account_id))).first()


async def add_credit(
    db: AsyncConnection,
    account_id: str,
    amount_nano: int,
    memo: str,
    idempotency_key: str | None,
    *,
    promotional: bool = False,
    expires_at_ms: int | None = None,
    kind: CreditKind = "credit",
    corrects: str | None = None,
) -> Credit:
    """Writes a credit, once for each idempotency key.

    Raises NotFound; InvalidField where it is nothing, would take the wallet past 2^53 nano-USD or has expired already;
    Conflict where the key was used for something else, money that was taken included.
    """
    if amount_nano <= 0:
        raise InvalidField("amount", "must be more than zero")
    if (earlier := await find_by_key(db, account_id, idempotency_key)) is not None:
        _refuse_another(earlier, kind, amount_nano, corrects, promotional, expires_at_ms)
        return earlier
    if expires_at_ms is not None and expires_at_ms <= now_ms():
        raise InvalidField("expires_at", "must be in the future")
    promo_nano = amount_nano if promotional else 0
    entry = {"kind": kind, "corrects": corrects, "memo": memo, "idempotency_key": idempotency_key}
    source = "adjustments" if kind == "adjustment" else "promotions" if promotional else "cash"
    return await write_credit(db, account_id, amount_nano, promo_nano, expires_at_ms, entry, source)


async def find_by_key(db: AsyncConnection, account_id: str, idempotency_key: str | None) -> Credit | None:
    """The entry that a key gave money by; None where the key, or no key, stands for nothing yet. Locks the wallet's
    row: the next request under the same key waits. Raises NotFound, and Conflict where the key took money."""
    await lock_wallet(db, account_id)
    if idempotency_key is None:
        return None
    await refuse_key_of_debit(db, account_id, idempotency_key)
    row = (
        await db.execute(
            _credits.where(entries.c.account_id == account_id, entries.c.idempotency_key == idempotency_key)
        )
    ).first()
    return _credit(row) if row else None


async def write_credit(
    db: AsyncConnection,
    account_id: str,
    amount_nano: int,
    promo_nano: int,
    expires_at_ms: int | None,
    entry: Mapping[str, Any],
    source: str,
) -> Credit:
    """Writes a numbered entry of the columns `entry` that moves money from the ledger account `source` into a wallet:
    `promo_nano` of it is promotional. The promotional part, or else all of it where it expires, is the entry's lot.

    Raises NotFound, and InvalidField where it would take the wallet past 2^53 nano-USD.
    """
    if (await lock_wallet(db, account_id)).balance_nano + amount_nano > WALLET_MAX_NANO:
        raise InvalidField("amount", f"would take the wallet past {format_usd(WALLET_MAX_NANO)} USD")
    number, entry_id = await _next_number(db, account_id), new_id("ent")
    lot_nano = promo_nano or (amount_nano if expires_at_ms is not None else 0)
    lot = Lot(entry_id, lot_nano, expires_at_ms, promo_nano > 0) if lot_nano else None
    credit = Credit(entry_id, account_id, number, amount_nano, True, entry["kind"], lot, entry["corrects"])
    moves = {f"wallet:{account_id}": amount_nano - promo_nano, f"promo:{account_id}": promo_nano, source: -amount_nano}
    await _add_numbered(db, credit, entry, moves)
    if lot is not None:
        await db.execute(
            insert(lots).values(
                entry_id=lot.id,
                account_id=account_id,
                promotional=lot.promotional,
                amount_nano=lot_nano,
                remaining_nano=lot_nano,
                expires_at_ms=expires_at_ms,
            )
        )
    await move_balances(db, {account_id: amount_nano})
    return credit


async def set_credit_line(db: AsyncConnection, account_id: str, floor_nano: int) -> Credit:
    """How far below zero the wallet may go: `floor_nano` is 0, or minus the line. Raises NotFound, InvalidField."""
    if not -WALLET_MAX_NANO <= floor_nano <= 0:
        raise InvalidField("credit_line", f"must be from 0 to {format_usd(WALLET_MAX_NANO)}")
    number = await _next_number(db, account_id)
    await db.execute(update(wallets).where(wallets.c.account_id == account_id).values(floor_nano=floor_nano))
    credit = Credit(new_id("ent"), account_id, number, 0, True, "credit_line")
    await _add_numbered(db, credit, {"memo": f"credit line {format_usd(-floor_nano)}"}, {})
    return credit


async def add_entry(db: AsyncConnection, entry: Mapping[str, Any], moves: Mapping[str, int]) -> None:
    """One entry and its postings; those of nothing are left out."""
    assert sum(moves.values()) == 0, moves
    blank = {"created_at_ms": now_ms(), "memo": "", "credit_number": None, "idempotency_key": None, "corrects": None}
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
    moves = [{"account": account_id, "change": change} for account_id, change in sorted(changes.items()) if change]
    if moves:
        await db.execute(_move_balance, moves)


_move_balance = (
    update(wallets)
    .where(wallets.c.account_id == bindparam("account"))
    .values(balance_nano=wallets.c.balance_nano + bindparam("change", type_=BigInteger()))
)


async def lots_of(db: AsyncConnection, account_ids: Sequence[str]) -> dict[str, list[Lot]]:
    """The lots of accounts with something left of them, in no order; accounts without any are left out."""
    columns = lots.c
    rows = await db.execute(
        select(columns.account_id, columns.entry_id, columns.remaining_nano, columns.expires_at_ms, columns.promotional)
        .where(columns.account_id.in_(account_ids), columns.remaining_nano > 0)
        .order_by(columns.entry_id)
    )
    found: dict[str, list[Lot]] = {}
    for account_id, *lot in rows:
        found.setdefault(account_id, []).append(Lot(*lot))
    return found


async def credits_after(db: AsyncConnection, account_id: str, number: int) -> Sequence[Credit]:
    """Numbered entries of an account beyond `number`, in order."""
    rows = await db.execute(
        _credits.where(entries.c.account_id == account_id, entries.c.credit_number > number).order_by(
            entries.c.credit_number
        )
    )
    return [_credit(row) for row in rows]


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


_moved = (
    select(func.sum(postings.c.amount_nano))
    .where(
        postings.c.entry_id == entries.c.id,
        postings.c.ledger_account.in_(("wallet:" + entries.c.account_id, "promo:" + entries.c.account_id)),
    )
    .correlate(entries)
    .scalar_subquery()
)
_credits = select(
    entries.c.id,
    entries.c.account_id,
    entries.c.credit_number,
    entries.c.kind,
    entries.c.corrects,
    func.coalesce(_moved, 0).label("amount_nano"),
    lots.c.amount_nano.label("lot_nano"),
    lots.c.expires_at_ms,
    lots.c.promotional,
).outerjoin(lots, lots.c.entry_id == entries.c.id)


def _credit(row: Any) -> Credit:
    """As it was written, whatever has been spent of it since."""
    lot = None if row.lot_nano is None else Lot(row.id, row.lot_nano, row.expires_at_ms, row.promotional)
    # PostgreSQL's sum of bigints is a numeric.
    amount_nano = int(row.amount_nano)
    return Credit(row.id, row.account_id, row.credit_number, amount_nano, False, row.kind, lot, row.corrects)


async def _next_number(db: AsyncConnection, account_id: str) -> int:
    """The row is locked by its update: credits of one account are numbered without a gap."""
    number = await db.scalar(
        update(wallets)
        .where(wallets.c.account_id == account_id)
        .values(credit_number=wallets.c.credit_number + 1)
        .returning(wallets.c.credit_number)
    )
    if number is None:
        raise NotFound(f"There is no account `{account_id}`.")
    return int(number)


async def _add_numbered(
    db: AsyncConnection, credit: Credit, entry: Mapping[str, Any], moves: Mapping[str, int]
) -> None:
    own = {
        "id": credit.entry_id,
        "kind": credit.kind,
        "account_id": credit.account_id,
        "credit_number": credit.number,
        "corrects": credit.corrects,
    }
    await add_entry(db, {**entry, **own}, moves)


def _refuse_another(
    earlier: Credit,
    kind: CreditKind,
    amount_nano: int,
    corrects: str | None,
    promotional: bool,
    expires_at_ms: int | None,
) -> None:
    if earlier.amount_nano != amount_nano:
        raise Conflict("This idempotency key was used for another amount.")
    lot = (earlier.lot.promotional, earlier.lot.expires_at_ms) if earlier.lot else (False, None)
    if (earlier.kind, earlier.corrects, *lot) != (kind, corrects, promotional, expires_at_ms):
        raise Conflict("This idempotency key was used for another credit.")
