"""The journal as people read it: an account's entries with their postings, newest first."""

from collections import defaultdict
from typing import Any

from sqlalchemy import literal_column, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import iso
from app.base.money import format_usd
from app.ledger.tables import entries, postings

__all__ = ["list_entries"]


async def list_entries(
    db: AsyncConnection, account_id: str, kind: str | None, before: str | None, limit: int
) -> list[dict[str, Any]]:
    """Newest first; those made before the entry `before`."""
    columns = entries.c
    query = select(entries).where(columns.account_id == account_id)
    if kind is not None:
        query = query.where(columns.kind == kind)
        if kind != "usage":  # said in the statement itself, so that the index of these few will do
            query = query.where(columns.kind != literal_column("'usage'"))
    if before:
        # By time and not by id: the id of an entry that a client's retry must find again does not tell its time.
        made = select(columns.created_at_ms).where(columns.id == before).scalar_subquery()
        query = query.where(tuple_(columns.created_at_ms, columns.id) < tuple_(made, before))
    rows = (await db.execute(query.order_by(columns.created_at_ms.desc(), columns.id.desc()).limit(limit))).all()
    lines: dict[str, list[dict[str, str]]] = defaultdict(list)
    moved = select(postings).where(postings.c.entry_id.in_([row.id for row in rows]))
    for line in await db.execute(moved.order_by(postings.c.ledger_account)):
        lines[line.entry_id].append({"account": line.ledger_account, "amount": format_usd(line.amount_nano)})
    return [
        {
            "id": row.id,
            "kind": row.kind,
            "created_at": iso(row.created_at_ms),
            "memo": row.memo,
            "corrects": row.corrects,
            "idempotency_key": row.idempotency_key,
            "postings": lines[row.id],
        }
        for row in rows
    ]
