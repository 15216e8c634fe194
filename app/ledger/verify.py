"""The invariants, checked against what is really there. Safe under load: Redis and the database are compared at one
moment, shard by shard, through the receipts that are between them."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.database import Database
from app.base.ids import shard_of
from app.ledger.journal import credits_after
from app.ledger.posting import posted_among
from app.ledger.redis_side import QuotaSide, RecomputeAmount
from app.ledger.stream import read_entry
from app.ledger.tables import entries, postings, receipts, wallets

__all__ = ["Verdict", "verify"]

_PAGE = 5000
_TRIES = 5
_PROBLEMS_MOST = 50


class Verdict(msgspec.Struct):
    """`drift_nano` is the sum of all differences between wallets in Redis and their journal, signs dropped."""

    ok: bool
    drift_nano: int
    checked: dict[str, int]
    problems: list[str]


async def verify(database: Database, quota: QuotaSide, recompute: RecomputeAmount) -> Verdict:
    """Checks every invariant of the books. Raises ServiceUnavailable."""
    problems: list[str] = []
    async with database.read() as db:
        checked = {
            "entries": await _check_entries(db, problems),
            "wallets": await _check_balances(db, problems),
            "receipts": await _check_receipts(db, recompute, problems),
        }
        await _check_charges(db, problems)
        account_ids = list(await db.scalars(select(wallets.c.account_id)))
    shards: dict[int, list[str]] = defaultdict(list)
    for account_id in account_ids:
        shards[shard_of(account_id, quota.shards)].append(account_id)
    drift = checked["redis_wallets"] = 0
    for number, accounts in shards.items():
        seen, difference = await _check_shard(database, quota, number, accounts, problems)
        checked["redis_wallets"] += seen
        drift += difference
    return Verdict(ok=not problems, drift_nano=drift, checked=checked, problems=problems[:_PROBLEMS_MOST])


async def _check_entries(db: AsyncConnection, problems: list[str]) -> int:
    """Every entry's postings sum to zero."""
    total = func.sum(postings.c.amount_nano)
    rows = await db.execute(select(postings.c.entry_id, total).group_by(postings.c.entry_id).having(total != 0))
    problems.extend(f"entry {entry_id} is off balance by {amount} nano" for entry_id, amount in rows)
    return await db.scalar(select(func.count(postings.c.entry_id.distinct()))) or 0


async def _check_balances(db: AsyncConnection, problems: list[str]) -> int:
    """Every wallet's balance is the sum of its postings."""
    total = func.coalesce(func.sum(postings.c.amount_nano), 0)
    rows = await db.execute(
        select(wallets.c.account_id, wallets.c.balance_nano, total.label("total"))
        .outerjoin(postings, postings.c.ledger_account == "wallet:" + wallets.c.account_id)
        .group_by(wallets.c.account_id, wallets.c.balance_nano)
    )
    count = 0
    for row in rows:
        count += 1
        if row.balance_nano != row.total:
            problems.append(f"wallet {row.account_id} says {row.balance_nano} nano, its postings {row.total}")
    return count


async def _check_charges(db: AsyncConnection, problems: list[str]) -> None:
    """Every usage entry took from its wallet what its receipts charge."""
    charged = (
        select(
            receipts.c.entry_id,
            receipts.c.account_id,
            func.sum(receipts.c.amount_nano - receipts.c.unpaid_nano).label("charged"),
        )
        .where(receipts.c.entry_id.is_not(None))
        .group_by(receipts.c.entry_id, receipts.c.account_id)
        .subquery()
    )
    due = func.coalesce(charged.c.charged, 0)
    taken = func.coalesce(-postings.c.amount_nano, 0)
    rows = await db.execute(
        select(entries.c.id, due.label("due"), taken.label("taken"))
        .outerjoin(charged, (charged.c.entry_id == entries.c.id) & (charged.c.account_id == entries.c.account_id))
        .outerjoin(
            postings,
            (postings.c.entry_id == entries.c.id) & (postings.c.ledger_account == "wallet:" + entries.c.account_id),
        )
        .where(entries.c.kind == "usage", due != taken)
    )
    problems.extend(f"entry {row.id} took {row.taken} nano for receipts of {row.due}" for row in rows)
    strays = await db.scalar(
        select(func.count())
        .select_from(receipts)
        .join(entries, entries.c.id == receipts.c.entry_id)
        .where(entries.c.account_id != receipts.c.account_id)
    )
    if strays:
        problems.append(f"{strays} receipts name an entry of another account")


async def _check_receipts(db: AsyncConnection, recompute: RecomputeAmount, problems: list[str]) -> int:
    """Every receipt's amount is its usage at its price version."""
    count, last = 0, ""
    while page := await _receipts_after(db, last):
        for row in page:
            amount = await recompute(
                row.price_version,
                row.input_tokens,
                row.output_tokens,
                row.cached_input_tokens,
                row.cache_write_tokens,
            )
            served = row.channel_id is not None
            if (amount if served else 0) != row.amount_nano:
                problems.append(f"receipt {row.request_id} says {row.amount_nano} nano, recomputed {amount}")
        count += len(page)
        last = page[-1].request_id
    return count


async def _receipts_after(db: AsyncConnection, last: str) -> Sequence[Any]:
    columns = receipts.c
    query = (
        select(
            columns.request_id,
            columns.channel_id,
            columns.price_version,
            columns.amount_nano,
            columns.input_tokens,
            columns.output_tokens,
            columns.cached_input_tokens,
            columns.cache_write_tokens,
        )
        .where(columns.request_id > last)
        .order_by(columns.request_id)
        .limit(_PAGE)
    )
    return (await db.execute(query)).all()


async def _check_shard(
    database: Database, quota: QuotaSide, number: int, account_ids: Sequence[str], problems: list[str]
) -> tuple[int, int]:
    """Redis + what its stream holds = the journal, for every wallet of a shard: (wallets seen, drift)."""
    found: list[str] = []
    seen = drift = 0
    for _ in range(_TRIES):
        found, seen, drift, moving = await _compare_shard(database, quota, number, account_ids)
        if not moving:
            break
    problems.extend(found)
    return seen, drift


async def _compare_shard(
    database: Database, quota: QuotaSide, number: int, account_ids: Sequence[str]
) -> tuple[list[str], int, int, bool]:
    found: list[str] = []
    seen = drift = 0
    moving = False
    async with database.read() as db:
        # The order matters: the database's snapshot first, then Redis. What was settled in between is in the stream.
        rows = {
            row.account_id: row
            for row in await db.execute(select(wallets).where(wallets.c.account_id.in_(account_ids)))
        }
        look = await quota.look(number, account_ids)
        streamed = {item.receipt.request_id: item for entry in look.entries if (item := read_entry(entry))}
        posted = await posted_among(db, list(streamed))
        waiting: dict[str, int] = defaultdict(int)
        for request_id, item in streamed.items():
            if request_id not in posted:
                waiting[item.receipt.account_id] += item.receipt.amount_nano - item.unpaid_nano
        for account_id, wallet in look.wallets.items():
            row = rows.get(account_id)
            if wallet is None or row is None:
                continue
            seen += 1
            unapplied = sum(c.amount_nano for c in await credits_after(db, account_id, wallet.credit_number))
            moving = moving or wallet.credit_number > row.credit_number
            if wallet.credit_number < row.applied_number:
                found.append(f"wallet {account_id} has lost credits of {unapplied} nano that it had")
                drift += abs(unapplied)
            expected = row.balance_nano - unapplied - waiting[account_id]
            if wallet.balance_nano != expected:
                drift += abs(wallet.balance_nano - expected)
                found.append(f"wallet {account_id} is {wallet.balance_nano} nano in Redis, {expected} by the books")
            if wallet.held_nano < 0:
                found.append(f"wallet {account_id} has holds of {wallet.held_nano} nano")
            if wallet.balance_nano - wallet.held_nano < min(wallet.floor_nano, wallet.balance_nano):
                found.append(f"wallet {account_id} holds more than it has")
    return found, seen, drift, moving
