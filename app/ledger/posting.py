"""A batch of receipts becomes rows: one transaction, idempotent by request id.

The charges of a batch are one entry an account, not one a receipt: a receipt names its entry, the entry's postings are
the sums of its receipts, and verify adds them up again. At 5,000 receipts a second that is a handful of entries instead
of twenty thousand rows.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import now_ms
from app.base.database import Database
from app.base.ids import new_id
from app.base.receipt import Receipt
from app.ledger.journal import move_balances
from app.ledger.tables import entries, postings, receipts

__all__ = ["StreamedReceipt", "Unpostable", "post", "posted_among"]

_IN_MOST = 500  # SQLite takes some thousand parameters a statement


class Unpostable(Exception):
    """The database refuses a value of a receipt, such as a number beyond 64 bits."""


class StreamedReceipt(msgspec.Struct, frozen=True):
    """A receipt as its stream has it, with what the wallet could not pay."""

    receipt: Receipt
    unpaid_nano: int


async def post(database: Database, batch: Sequence[StreamedReceipt]) -> int:
    """Posts those of the batch that are not posted yet; how many.

    Raises ServiceUnavailable, or Unpostable where the database refuses one of them; with nothing posted.
    """
    # In one order, whoever posts: two bookkeepers with overlapping batches wait for each other, and never in a circle.
    fresh = {item.receipt.request_id: item for item in sorted(batch, key=lambda item: item.receipt.request_id)}
    try:
        return await _post_fresh(database, fresh)
    except (DBAPIError, OverflowError, UnicodeError) as error:
        raise Unpostable from error


async def _post_fresh(database: Database, fresh: dict[str, StreamedReceipt]) -> int:
    try:
        async with database.write() as db:
            await _insert(db, list(fresh.values()))
    except IntegrityError:
        # Rare: some were posted before, by a run that died before it could say so, or by another bookkeeper.
        async with database.write() as db:
            for request_id in await posted_among(db, list(fresh)):
                del fresh[request_id]
            await _insert(db, list(fresh.values()))
    return len(fresh)


async def posted_among(db: AsyncConnection, request_ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(request_ids), _IN_MOST):
        some = request_ids[start : start + _IN_MOST]
        found.update(await db.scalars(select(receipts.c.request_id).where(receipts.c.request_id.in_(some))))
    return found


async def _insert(db: AsyncConnection, batch: Sequence[StreamedReceipt]) -> None:
    if not batch:
        return
    entry_ids: dict[str, str] = {}
    charges: dict[str, int] = defaultdict(int)
    costs: dict[tuple[str, str], int] = defaultdict(int)
    for item in batch:
        receipt = item.receipt
        charges[receipt.account_id] += receipt.amount_nano - item.unpaid_nano
        if receipt.upstream_cost_nano:
            costs[receipt.account_id, receipt.channel_id or ""] += receipt.upstream_cost_nano
    lines: list[dict[str, Any]] = []
    for account_id, charge in charges.items():
        moves = {f"wallet:{account_id}": -charge, "revenue": charge}
        for (payer, channel_id), cost in costs.items():
            if payer == account_id:
                moves[f"cost:{channel_id}"] = -cost
                moves[f"payable:{channel_id}"] = cost
        moves = {name: amount for name, amount in moves.items() if amount}
        if moves:
            entry_ids[account_id] = entry_id = new_id("ent")
            lines += [
                {"entry_id": entry_id, "ledger_account": name, "amount_nano": amount} for name, amount in moves.items()
            ]
    if entry_ids:
        created_at_ms = now_ms()
        await db.execute(
            insert(entries),
            [
                {
                    "id": entry_id,
                    "kind": "usage",
                    "account_id": account_id,
                    "created_at_ms": created_at_ms,
                    "memo": "",
                    "credit_number": None,
                    "idempotency_key": None,
                }
                for account_id, entry_id in entry_ids.items()
            ],
        )
        await db.execute(insert(postings), lines)
    await db.execute(insert(receipts), [_row(item, entry_ids.get(item.receipt.account_id)) for item in batch])
    await move_balances(db, {account: -charge for account, charge in charges.items() if charge})


def _row(item: StreamedReceipt, entry_id: str | None) -> dict[str, Any]:
    receipt, usage = item.receipt, item.receipt.usage
    return {
        "request_id": receipt.request_id,
        "entry_id": entry_id,
        "created_at_ms": receipt.created_at_ms,
        "account_id": receipt.account_id,
        "key_id": receipt.key_id,
        "dialect": receipt.dialect,
        "model": receipt.model,
        "upstream_model": receipt.upstream_model,
        "channel_id": receipt.channel_id,
        "stream": receipt.stream,
        "status": receipt.status,
        "http_status": receipt.http_status,
        "finish_reason": None if receipt.finish_reason is None else receipt.finish_reason[:40],
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_input_tokens": usage.cached_input_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "usage_source": receipt.usage_source,
        "price_version": receipt.price_version,
        "amount_nano": receipt.amount_nano,
        "unpaid_nano": item.unpaid_nano,
        "upstream_cost_nano": receipt.upstream_cost_nano,
        "attempts": msgspec.to_builtins(receipt.attempts),
        "ttft_ms": receipt.ttft_ms,
        "duration_ms": receipt.duration_ms,
    }
