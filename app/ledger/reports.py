"""Receipts as people read them: by filter, newest first, and one by its id."""

from typing import Any

import msgspec
from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import iso
from app.base.money import format_usd
from app.ledger.tables import receipts

__all__ = ["ReceiptFilter", "find_receipt", "list_receipts"]


class ReceiptFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What to list; None means any. Times are milliseconds since 1970 UTC; `to_ms` itself is left out."""

    account_id: str | None = None
    key_id: str | None = None
    model: str | None = None
    channel_id: str | None = None
    status: str | None = None
    request_id: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None


async def list_receipts(
    db: AsyncConnection, wanted: ReceiptFilter, before: str | None, limit: int
) -> list[dict[str, Any]]:
    """Newest first; those older than the request id `before`."""
    columns = receipts.c
    query = select(receipts)
    for name in ("account_id", "key_id", "model", "channel_id", "status", "request_id"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(columns[name] == value)
    if wanted.from_ms is not None:
        query = query.where(columns.created_at_ms >= wanted.from_ms)
    if wanted.to_ms is not None:
        query = query.where(columns.created_at_ms < wanted.to_ms)
    if before is not None:
        query = query.where(columns.request_id < before)
    rows = await db.execute(query.order_by(columns.request_id.desc()).limit(limit))
    return [_show(row) for row in rows]


async def find_receipt(db: AsyncConnection, request_id: str, account_id: str) -> dict[str, Any] | None:
    """One of an account's own receipts, without what is the operator's business."""
    row = (
        await db.execute(
            select(receipts).where(receipts.c.request_id == request_id, receipts.c.account_id == account_id)
        )
    ).first()
    if row is None:
        return None
    shown = _show(row)
    for name in ("upstream_model", "channel_id", "upstream_cost", "margin", "attempts"):
        del shown[name]
    return shown


def _show(row: Row[Any]) -> dict[str, Any]:
    charged = row.amount_nano - row.unpaid_nano
    return {
        "request_id": row.request_id,
        "created_at": iso(row.created_at_ms),
        "account_id": row.account_id,
        "key_id": row.key_id,
        "dialect": row.dialect,
        "model": row.model,
        "upstream_model": row.upstream_model,
        "channel_id": row.channel_id,
        "stream": row.stream,
        "status": row.status,
        "http_status": row.http_status,
        "finish_reason": row.finish_reason,
        "usage": {
            "input_tokens": row.input_tokens,
            "output_tokens": row.output_tokens,
            "cached_input_tokens": row.cached_input_tokens,
            "cache_write_tokens": row.cache_write_tokens,
            "reasoning_tokens": row.reasoning_tokens,
        },
        "usage_source": row.usage_source,
        "price_version": row.price_version,
        "amount": format_usd(row.amount_nano),
        "unpaid": format_usd(row.unpaid_nano),
        "upstream_cost": format_usd(row.upstream_cost_nano),
        "margin": format_usd(charged - row.upstream_cost_nano),
        "attempts": row.attempts,
        "ttft_ms": row.ttft_ms,
        "duration_ms": row.duration_ms,
    }
