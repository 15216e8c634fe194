"""What was used since a moment, as the books have it: for counters that Redis does not have (any more)."""

from collections.abc import Collection, Iterable
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ledger.items import Item, StreamedReceipt
from app.ledger.sums import day_of
from app.ledger.tables import receipts, usage_days

__all__ = ["Scope", "Used", "used_in_books", "used_in_stream"]

_IN_MOST = 500
_DAY_MS = 86_400_000


class Scope(msgspec.Struct, frozen=True):
    """Whose use: of the account that pays, or of some of its keys (its members' too); of one model, or of all."""

    account_id: str
    key_ids: frozenset[str] | None = None
    model: str | None = None


class Used(msgspec.Struct, frozen=True):
    requests: int = 0
    tokens: int = 0
    nano: int = 0

    def __add__(self, other: "Used") -> "Used":
        return Used(self.requests + other.requests, self.tokens + other.tokens, self.nano + other.nano)


async def used_in_books(db: AsyncConnection, scope: Scope, start_ms: int) -> Used:
    """Of posted requests that came at `start_ms` or later: whole days (UTC) from the sums, the rest from the receipts.
    A model is the one that was asked for, which the sums don't know."""
    used = Used()
    for some in _chunks(scope.key_ids):
        if scope.model is not None:
            used += await _used_in_receipts(db, scope, some, start_ms, None)
            continue
        whole_days_ms = -(-start_ms // _DAY_MS) * _DAY_MS
        used += await _used_in_days(db, scope, some, whole_days_ms)
        if whole_days_ms > start_ms:
            used += await _used_in_receipts(db, scope, some, start_ms, whole_days_ms)
    return used


def used_in_stream(items: Iterable[Item], scope: Scope, start_ms: int) -> Used:
    """The same of requests that are not posted yet."""
    used = Used()
    for item in items:
        if not isinstance(item, StreamedReceipt):
            continue
        receipt = item.receipt
        if (
            receipt.account_id == scope.account_id
            and receipt.created_at_ms >= start_ms
            and (scope.key_ids is None or receipt.key_id in scope.key_ids)
            and (scope.model is None or (receipt.requested_model or receipt.model) == scope.model)
        ):
            usage = receipt.usage
            used += Used(1, usage.input_tokens + usage.output_tokens, receipt.amount_nano)
    return used


async def _used_in_days(db: AsyncConnection, scope: Scope, key_ids: Collection[str] | None, start_ms: int) -> Used:
    columns = usage_days.c
    query = select(
        func.sum(columns.requests),
        func.sum(columns.input_tokens + columns.output_tokens),
        func.sum(columns.amount_nano),
    ).where(columns.account_id == scope.account_id, columns.day >= day_of(start_ms))
    if key_ids is not None:
        query = query.where(columns.key_id.in_(key_ids))
    return _used((await db.execute(query)).one())


async def _used_in_receipts(
    db: AsyncConnection, scope: Scope, key_ids: Collection[str] | None, start_ms: int, end_ms: int | None
) -> Used:
    """An id says when its request came, and the indexes sort by it."""
    columns = receipts.c
    bounds: list[ColumnElement[bool]] = [columns.request_id >= _first_id(start_ms)]
    if end_ms is not None:
        bounds.append(columns.request_id < _first_id(end_ms))
    if key_ids is not None:
        bounds.append(columns.key_id.in_(key_ids))
    if scope.model is not None:
        bounds.append(func.coalesce(columns.requested_model, columns.model) == scope.model)
    query = select(
        func.count(), func.sum(columns.input_tokens + columns.output_tokens), func.sum(columns.amount_nano)
    ).where(columns.account_id == scope.account_id, *bounds)
    return _used((await db.execute(query)).one())


def _first_id(at_ms: int) -> str:
    return f"req_{at_ms:012x}"


def _used(row: Any) -> Used:
    return Used(*(int(figure or 0) for figure in row))


def _chunks(key_ids: frozenset[str] | None) -> Iterable[Collection[str] | None]:
    if key_ids is None:
        return [None]
    ordered = sorted(key_ids)
    return [ordered[start : start + _IN_MOST] for start in range(0, len(ordered), _IN_MOST)]
