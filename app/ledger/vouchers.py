"""Vouchers: codes that customers redeem for credit, each once, whoever races for it. A code is shown to the operator
who makes it and to nobody again: only its SHA-256 is kept."""

import hashlib
from typing import Any, Literal, get_args

import msgspec
from sqlalchemy import ColumnElement, Row, and_, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import iso, now_ms
from app.base.errors import Conflict, InvalidField, NotFound
from app.base.ids import digest, new_id
from app.base.money import format_usd
from app.ledger.journal import Credit, add_credit
from app.ledger.tables import vouchers
from app.ledger.voucher_codes import hint_of, new_code, read_code

__all__ = ["STATES", "Batch", "NewBatch", "State", "cancel_batch", "create_batch", "list_vouchers", "redeem"]

State = Literal["open", "redeemed", "expired", "cancelled"]
STATES: tuple[State, ...] = get_args(State)

_DAY_MS = 24 * 3600 * 1000
_INSERT_MOST = 1000


class NewBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What every voucher of a batch is worth. `credit_days` is how long its credit lasts once redeemed; None: for good.
    `expires_at_ms` is when an unredeemed code stops working; None: never."""

    count: int
    amount_nano: int
    promotional: bool = False
    credit_days: int | None = None
    expires_at_ms: int | None = None
    note: str = ""


class Batch(msgspec.Struct, frozen=True):
    """A new batch, and its codes: this once."""

    id: str
    codes: list[str]


async def create_batch(db: AsyncConnection, wanted: NewBatch, idempotency_key: str | None) -> Batch:
    """Raises Conflict, naming the batch, where the idempotency key made one before: its codes can't be shown again."""
    batch_id = new_id("vbt")
    if idempotency_key is not None:
        # No row stands for a batch: its name comes from the key, and writers of one name wait for each other.
        named = hashlib.sha256(idempotency_key.encode()).hexdigest()
        batch_id = f"vbt_{named[:28]}"
        if db.dialect.name == "postgresql":  # SQLite's write transaction is a lock already
            await db.execute(select(func.pg_advisory_xact_lock(int(named[:15], 16))))
        if await db.scalar(select(vouchers.c.id).where(vouchers.c.batch_id == batch_id).limit(1)):
            raise Conflict(f"This idempotency key made batch `{batch_id}`; its codes were shown then.")
    codes = [new_code() for _ in range(wanted.count)]
    rows = [_row(code, batch_id, wanted) for code in codes]
    for start in range(0, len(rows), _INSERT_MOST):
        await db.execute(insert(vouchers), rows[start : start + _INSERT_MOST])
    return Batch(batch_id, codes)


async def list_vouchers(
    db: AsyncConnection, batch_id: str | None, state: State | None, before: str | None, limit: int
) -> list[dict[str, Any]]:
    """Newest first; those made before the voucher `before`."""
    now = now_ms()
    query = select(vouchers)
    if batch_id is not None:
        query = query.where(vouchers.c.batch_id == batch_id)
    if state is not None:
        query = query.where(_is_in(state, now))
    if before:
        query = query.where(vouchers.c.id < before)
    return [_show(row, now) for row in await db.execute(query.order_by(vouchers.c.id.desc()).limit(limit))]


async def cancel_batch(db: AsyncConnection, batch_id: str) -> dict[str, int]:
    """Ends every voucher of a batch that nobody has redeemed; how the batch stands after it. Raises NotFound."""
    now = now_ms()
    await db.execute(
        update(vouchers)
        .where(
            vouchers.c.batch_id == batch_id, vouchers.c.redeemed_at_ms.is_(None), vouchers.c.cancelled_at_ms.is_(None)
        )
        .values(cancelled_at_ms=now)
    )
    total, redeemed, cancelled = (
        await db.execute(
            select(func.count(), func.count(vouchers.c.redeemed_at_ms), func.count(vouchers.c.cancelled_at_ms)).where(
                vouchers.c.batch_id == batch_id
            )
        )
    ).one()
    if not total:
        raise NotFound(f"There is no batch `{batch_id}`.")
    return {"count": total, "redeemed": redeemed, "cancelled": cancelled}


async def redeem(db: AsyncConnection, account_id: str, sent: str) -> Credit:
    """The credit of a code, written in the same transaction that uses the code up: of any number of callers one wins.

    Raises InvalidField (no such code can be), NotFound (nobody made it), Conflict (redeemed, expired, cancelled).
    """
    code_digest = digest(read_code(sent))
    now = now_ms()
    taken = (
        await db.execute(
            update(vouchers)
            .where(vouchers.c.digest == code_digest, _is_in("open", now))
            .values(redeemed_at_ms=now, redeemed_by=account_id)
            .returning(vouchers.c.id, vouchers.c.amount_nano, vouchers.c.promotional, vouchers.c.credit_days)
        )
    ).first()
    if taken is None:
        raise await _why_not(db, code_digest, account_id, now)
    try:
        credit = await add_credit(
            db,
            account_id,
            taken.amount_nano,
            f"voucher {taken.id}",
            None,
            promotional=taken.promotional,
            expires_at_ms=None if taken.credit_days is None else now + taken.credit_days * _DAY_MS,
        )
    except InvalidField as error:  # past what a wallet can hold; with the transaction the code is free again
        raise Conflict(f"This voucher can't be redeemed: it {error.problem}.") from None
    await db.execute(update(vouchers).where(vouchers.c.digest == code_digest).values(entry_id=credit.entry_id))
    return credit


async def _why_not(db: AsyncConnection, code_digest: bytes, account_id: str, now: int) -> Exception:
    row = (await db.execute(select(vouchers).where(vouchers.c.digest == code_digest))).first()
    if row is None:
        return NotFound("There is no such voucher.")
    match _state(row, now):
        case "redeemed":
            whose = "by you" if row.redeemed_by == account_id else "already"
            return Conflict(f"This voucher was redeemed {whose} on {iso(row.redeemed_at_ms)[:10]}.")
        case "cancelled":
            return Conflict("This voucher was cancelled.")
        case _:
            return Conflict("This voucher has expired.")


def _is_in(state: State, now: int) -> ColumnElement[bool]:
    columns = vouchers.c
    if state == "redeemed":
        return columns.redeemed_at_ms.is_not(None)
    if state == "cancelled":
        return columns.cancelled_at_ms.is_not(None)
    waits = and_(columns.redeemed_at_ms.is_(None), columns.cancelled_at_ms.is_(None))
    if state == "expired":
        return and_(waits, columns.expires_at_ms <= now)
    return and_(waits, or_(columns.expires_at_ms.is_(None), columns.expires_at_ms > now))


def _state(row: Row[Any], now: int) -> State:
    if row.redeemed_at_ms is not None:
        return "redeemed"
    if row.cancelled_at_ms is not None:
        return "cancelled"
    return "expired" if row.expires_at_ms is not None and row.expires_at_ms <= now else "open"


def _row(code: str, batch_id: str, wanted: NewBatch) -> dict[str, Any]:
    return {
        "digest": digest(code),
        "id": new_id("vch"),
        "batch_id": batch_id,
        "hint": hint_of(code),
        "amount_nano": wanted.amount_nano,
        "promotional": wanted.promotional,
        "credit_days": wanted.credit_days,
        "expires_at_ms": wanted.expires_at_ms,
        "note": wanted.note,
        "created_at_ms": now_ms(),
    }


def _show(row: Row[Any], now: int) -> dict[str, Any]:
    return {
        "id": row.id,
        "batch_id": row.batch_id,
        "hint": row.hint,
        "state": _state(row, now),
        "amount": format_usd(row.amount_nano),
        "promotional": row.promotional,
        "credit_days": row.credit_days,
        "expires_at": _time(row.expires_at_ms),
        "note": row.note,
        "created_at": iso(row.created_at_ms),
        "cancelled_at": _time(row.cancelled_at_ms),
        "redeemed_at": _time(row.redeemed_at_ms),
        "redeemed_by": row.redeemed_by,
        "entry_id": row.entry_id,
    }


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else iso(at_ms)
