"""The invariants, checked against what is really there. Safe under load: Redis and the database are compared at one
moment, shard by shard, through what is between them. Linear in the rows, and no table is ever in memory whole."""

from collections import defaultdict
from typing import Any

import msgspec
from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.database import Database
from app.base.ids import shard_of
from app.ledger.redis_side import QuotaSide, RecomputeAmount
from app.ledger.tables import entries, lots, postings, receipts, usage_days, wallets
from app.ledger.verify_receipts import check_receipts
from app.ledger.verify_redis import check_rejected, check_shard

__all__ = ["Verdict", "verify"]

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
            "lots": await _check_lots(db, problems),
            "receipts": await check_receipts(db, recompute, problems),
        }
        await _check_charges(db, problems)
        await _check_costs(db, problems)
        account_ids = list(await db.scalars(select(wallets.c.account_id)))
    shards: dict[int, list[str]] = defaultdict(list)
    for account_id in account_ids:
        shards[shard_of(account_id, quota.shards)].append(account_id)
    drift = checked["redis_wallets"] = 0
    for number, accounts in shards.items():
        seen, difference = await check_shard(database, quota, number, accounts, problems)
        checked["redis_wallets"] += seen
        drift += difference
    for number in range(quota.shards):
        await check_rejected(database, quota, number, problems)
    return Verdict(ok=not problems, drift_nano=drift, checked=checked, problems=problems[:_PROBLEMS_MOST])


async def _check_entries(db: AsyncConnection, problems: list[str]) -> int:
    """Every entry's postings sum to zero."""
    total = func.sum(postings.c.amount_nano)
    rows = await db.execute(select(postings.c.entry_id, total).group_by(postings.c.entry_id).having(total != 0))
    problems.extend(f"entry {entry_id} is off balance by {amount} nano" for entry_id, amount in rows)
    return await db.scalar(select(func.count(postings.c.entry_id.distinct()))) or 0


_sums = (
    select(postings.c.ledger_account, func.sum(postings.c.amount_nano).label("total"))
    .group_by(postings.c.ledger_account)
    .cte("sums")
)


def _sum_of(purse: str) -> Any:
    """What the postings of each account's `wallet:` or `promo:` come to; joined to by its ledger account's name."""
    return _sums.alias(purse)


async def _check_balances(db: AsyncConnection, problems: list[str]) -> int:
    """Every wallet's balance is the sum of its postings, promotional ones included."""
    paid, promo = _sum_of("paid"), _sum_of("promo")
    total = func.coalesce(paid.c.total, 0) + func.coalesce(promo.c.total, 0)
    rows = await db.execute(
        select(wallets.c.account_id, wallets.c.balance_nano, total.label("total"))
        .outerjoin(paid, paid.c.ledger_account == "wallet:" + wallets.c.account_id)
        .outerjoin(promo, promo.c.ledger_account == "promo:" + wallets.c.account_id)
        .where(wallets.c.balance_nano != total)
    )
    problems.extend(f"wallet {row.account_id} says {row.balance_nano} nano, its postings {row.total}" for row in rows)
    return await db.scalar(select(func.count()).select_from(wallets)) or 0


async def _check_lots(db: AsyncConnection, problems: list[str]) -> int:
    """A lot is what its credit was, and what is left of it is part of that; what is left of all promotional lots of an
    account is what its promotional postings come to."""
    purse = case((lots.c.promotional, "promo:" + lots.c.account_id), else_="wallet:" + lots.c.account_id)
    credited = func.coalesce(postings.c.amount_nano, 0)
    is_part = lots.c.remaining_nano.between(0, lots.c.amount_nano)
    rows = await db.execute(
        select(lots.c.entry_id, lots.c.amount_nano, lots.c.remaining_nano, credited.label("credited"))
        .outerjoin(postings, (postings.c.entry_id == lots.c.entry_id) & (postings.c.ledger_account == purse))
        .where(~is_part | (lots.c.amount_nano != credited))
    )
    problems.extend(
        f"lot {row.entry_id} has {row.remaining_nano} of {row.amount_nano} nano left, its credit was {row.credited}"
        for row in rows
    )
    left = (
        select(lots.c.account_id, func.sum(lots.c.remaining_nano).label("left"))
        .where(lots.c.promotional)
        .group_by(lots.c.account_id)
        .subquery()
    )
    promo = _sum_of("promo")
    has, posted = func.coalesce(left.c.left, 0), func.coalesce(promo.c.total, 0)
    rows = await db.execute(
        select(wallets.c.account_id, has.label("has"), posted.label("posted"))
        .outerjoin(left, left.c.account_id == wallets.c.account_id)
        .outerjoin(promo, promo.c.ledger_account == "promo:" + wallets.c.account_id)
        .where(has != posted)
    )
    problems.extend(
        f"promotional lots of {row.account_id} have {row.has} nano, its postings {row.posted}" for row in rows
    )
    return await db.scalar(select(func.count()).select_from(lots)) or 0


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
    own = postings.c.ledger_account.in_(("wallet:" + entries.c.account_id, "promo:" + entries.c.account_id))
    taken = (
        select(
            entries.c.id,
            entries.c.account_id,
            func.coalesce(-func.sum(postings.c.amount_nano), 0).label("taken"),
        )
        .outerjoin(postings, (postings.c.entry_id == entries.c.id) & own)
        .where(entries.c.kind == "usage")
        .group_by(entries.c.id, entries.c.account_id)
        .subquery()
    )
    due = func.coalesce(charged.c.charged, 0)
    rows = await db.execute(
        select(taken.c.id, taken.c.taken, due.label("due"))
        .outerjoin(charged, (charged.c.entry_id == taken.c.id) & (charged.c.account_id == taken.c.account_id))
        .where(due != taken.c.taken)
    )
    problems.extend(f"entry {row.id} took {row.taken} nano for receipts of {row.due}" for row in rows)
    await _check_strays(db, problems)


async def _check_costs(db: AsyncConnection, problems: list[str]) -> None:
    """Every vendor is owed, on its channel, what its attempts cost by day; and so much was spent there."""
    days = select(usage_days.c.channel_id, func.sum(usage_days.c.upstream_cost_nano)).group_by(usage_days.c.channel_id)
    cost = {channel_id: int(total) for channel_id, total in await db.execute(days) if total}
    sides: dict[str, dict[str, int]] = {"payable": {}, "cost": {}}
    rows = await db.execute(
        select(_sums).where(_sums.c.ledger_account.like("payable:%") | _sums.c.ledger_account.like("cost:%"))
    )
    for ledger_account, total in rows:
        side, _, channel_id = ledger_account.partition(":")
        sides[side][channel_id] = int(total)
    for channel_id in sorted(cost.keys() | sides["payable"].keys() | sides["cost"].keys()):
        due, owed, spent = (figures.get(channel_id, 0) for figures in (cost, sides["payable"], sides["cost"]))
        if not due == owed == -spent:
            problems.append(
                f"channel {channel_id} cost {due} nano by day, {-spent} spent and {owed} owed by its postings"
            )


async def _check_strays(db: AsyncConnection, problems: list[str]) -> None:
    """No receipt was charged with another account's; and none that charges is without an entry."""
    strays = await db.scalar(
        select(func.count())
        .select_from(receipts)
        .join(entries, entries.c.id == receipts.c.entry_id)
        .where(entries.c.account_id != receipts.c.account_id)
    )
    if strays:
        problems.append(f"{strays} receipts name an entry of another account")
    columns = receipts.c
    unposted = await db.scalar(
        select(func.count())
        .select_from(receipts)
        .where(columns.entry_id.is_(None), columns.amount_nano != columns.unpaid_nano)
    )
    if unposted:
        problems.append(f"{unposted} receipts that charge name no entry")
