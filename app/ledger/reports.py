"""Receipts as people read them: by filter, newest first, and one by its id."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Column, Row, bindparam, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import iso
from app.base.money import format_multiplier, format_usd
from app.base.receipt import Attempt, Usage
from app.ledger.tables import entries, receipts, usage_days

__all__ = [
    "ReceiptFilter",
    "WholeReceipt",
    "find_receipt",
    "find_whole_receipt",
    "for_customers",
    "list_receipts",
    "money_moved",
]


class ReceiptFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What to list; None means any. Of `account_ids`, what they paid for and what others paid for them. Times are
    milliseconds since 1970 UTC; `to_ms` itself is left out."""

    account_ids: tuple[str, ...] | None = None
    key_id: str | None = None
    model: str | None = None
    channel_id: str | None = None
    status: str | None = None
    request_id: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None


_CLASSES = Usage.__struct_fields__
# The contract's five; a class that few models have is shown where there is some.
_ALWAYS_SHOWN = frozenset(
    {"input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "reasoning_tokens"}
)

_OPERATORS_BUSINESS = frozenset({"upstream_model", "channel_id", "upstream_cost", "margin", "attempts"})

# An id is made with its request; an earlier version wrote down the moment of reading it.
_ID_BEFORE_TIME_MS = 60_000


class WholeReceipt(msgspec.Struct, frozen=True):
    """A receipt as JSON, and what leads on from it."""

    shown: dict[str, Any]
    account_id: str
    entry_id: str | None
    price_version: str
    attempts: tuple[Attempt, ...]


async def list_receipts(
    db: AsyncConnection, wanted: ReceiptFilter, before: str | None, limit: int
) -> list[dict[str, Any]]:
    """Newest first; those older than the request id `before`."""
    if wanted.account_ids is None:
        return [_show(row) for row in await _newest(db, wanted, None, before, limit)]
    # Two lists, each read in the order of its index, and merged: one query for both would sort all that it finds.
    found = [
        *await _newest(db, wanted, receipts.c.account_id, before, limit),
        *await _newest(db, wanted, receipts.c.member_id, before, limit),
    ]
    newest = sorted({row.request_id: row for row in found}.values(), key=lambda row: row.request_id, reverse=True)
    return [_show(row) for row in newest[:limit]]


async def _newest(
    db: AsyncConnection, wanted: ReceiptFilter, whose: Column[str] | None, before: str | None, limit: int
) -> Sequence[Row[Any]]:
    """Those whose column `whose` has one of the accounts."""
    columns = receipts.c
    query = select(receipts)
    if whose is not None:
        query = query.where(whose.in_(wanted.account_ids or ()))
    if whose is columns.account_id and (wanted.key_id or wanted.model or wanted.channel_id):
        # Few receipts of many: the sums by day know where they can be, so that nobody reads all of an account's.
        first, last = await _days_of(db, wanted)
        if first is None or last is None:
            return []
        query = query.where(columns.request_id >= _id_at(first, -_ID_BEFORE_TIME_MS))
        query = query.where(columns.request_id < _id_at(last + timedelta(days=1)))
    for name in ("key_id", "model", "channel_id", "request_id"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(columns[name] == value)
    if wanted.status is not None:
        # Said in the statement itself: only then can the planner see that the index of those that are not `ok` will do.
        query = query.where(columns.status == bindparam("status", wanted.status, literal_execute=True))
    # Ids sort by time, so they bound the months to look into; the time itself decides.
    if wanted.from_ms is not None:
        earliest = f"req_{max(0, wanted.from_ms - _ID_BEFORE_TIME_MS):012x}"
        query = query.where(columns.created_at_ms >= wanted.from_ms, columns.request_id >= earliest)
    if wanted.to_ms is not None:
        latest = f"req_{max(0, wanted.to_ms):012x}"
        query = query.where(columns.created_at_ms < wanted.to_ms, columns.request_id < latest)
    if before is not None:
        query = query.where(columns.request_id < before)
    return (await db.execute(query.order_by(columns.request_id.desc()).limit(limit))).all()


async def _days_of(db: AsyncConnection, wanted: ReceiptFilter) -> tuple[date | None, date | None]:
    """The first and the last day (UTC) of what accounts paid for, by key, model and channel."""
    days = usage_days.c
    query = select(func.min(days.day), func.max(days.day)).where(
        days.requests > 0, days.account_id.in_(wanted.account_ids or ())
    )
    for name in ("key_id", "model", "channel_id"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(days[name] == value)
    first, last = (await db.execute(query)).one()
    return first, last


def _id_at(day: date, more_ms: int = 0) -> str:
    """No id of a request that began on `day` sorts before it."""
    at_ms = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000) + more_ms
    return f"req_{max(0, at_ms):012x}"


async def find_receipt(db: AsyncConnection, request_id: str, account_id: str) -> dict[str, Any] | None:
    """One that an account paid for, or another for it; without what is the operator's business."""
    columns = receipts.c
    is_own = or_(columns.account_id == account_id, columns.member_id == account_id)
    row = (await db.execute(select(receipts).where(columns.request_id == request_id, is_own))).first()
    return None if row is None else for_customers(_show(row))


def for_customers(shown: dict[str, Any]) -> dict[str, Any]:
    """A receipt without what is the operator's business: the vendors, and what they take."""
    return {name: value for name, value in shown.items() if name not in _OPERATORS_BUSINESS}


async def money_moved(db: AsyncConnection, account_id: str, members: Sequence[str]) -> bool:
    """Whether the account's own wallet was ever used, or another's for one of the members."""
    entry = select(entries.c.id).where(entries.c.account_id == account_id).limit(1)
    receipt = select(receipts.c.request_id).where(receipts.c.member_id.in_(members)).limit(1)
    return await db.scalar(entry) is not None or await db.scalar(receipt) is not None


async def find_whole_receipt(db: AsyncConnection, request_id: str) -> WholeReceipt | None:
    """Anyone's, for the operator."""
    row = (await db.execute(select(receipts).where(receipts.c.request_id == request_id))).first()
    if row is None:
        return None
    attempts = msgspec.convert(row.attempts, tuple[Attempt, ...])
    return WholeReceipt(_show(row), row.account_id, row.entry_id, row.price_version, attempts)


def _show(row: Row[Any]) -> dict[str, Any]:
    charged = row.amount_nano - row.unpaid_nano
    return {
        "request_id": row.request_id,
        "created_at": iso(row.created_at_ms),
        "account_id": row.account_id,
        "member_id": row.member_id,
        "key_id": row.key_id,
        "dialect": row.dialect,
        "model": row.model,
        "requested_model": row.requested_model or row.model,
        "upstream_model": row.upstream_model,
        "channel_id": row.channel_id,
        "stream": row.stream,
        "status": row.status,
        "http_status": row.http_status,
        "finish_reason": row.finish_reason,
        "ending": row.ending,
        "policy": row.policy,
        "usage": {name: count for name in _CLASSES if (count := getattr(row, name)) or name in _ALWAYS_SHOWN},
        "usage_source": row.usage_source,
        "price_version": row.price_version,
        "multiplier": format_multiplier(row.multiplier),
        "amount": format_usd(row.amount_nano),
        "unpaid": format_usd(row.unpaid_nano),
        "upstream_cost": format_usd(row.upstream_cost_nano),
        "margin": format_usd(charged - row.upstream_cost_nano),
        "attempts": [_show_attempt(attempt) for attempt in row.attempts],
        "ttft_ms": row.ttft_ms,
        "duration_ms": row.duration_ms,
        "extras": row.extras or {},
        "vendor_excess": row.vendor_excess,
    }


def _show_attempt(attempt: dict[str, Any]) -> dict[str, Any]:
    """`usage` only where it is not the receipt's own."""
    shown = {name: value for name, value in attempt.items() if name != "cost_nano"}
    return {**shown, "cost": format_usd(attempt.get("cost_nano", 0))}
