"""Wallets in Redis against the journal, a shard at one moment: balance and lots there, with what the shard's stream
still holds, are balance and lots here."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.database import Database
from app.ledger.items import Item
from app.ledger.journal import Credit, credits_after, lots_of
from app.ledger.lots import Lot, show_lots, spend, spending_order
from app.ledger.posting import decide_parts, posted_items
from app.ledger.redis_side import QuotaSide, Wallet
from app.ledger.stream import read_entry
from app.ledger.tables import entries, wallets

__all__ = ["check_shard"]

_TRIES = 5


class _Found(msgspec.Struct):
    """What a comparison found. `moving` is True where something happened between its two looks: it is made again."""

    problems: list[str] = []
    seen: int = 0
    drift_nano: int = 0
    moving: bool = False


async def check_shard(
    database: Database, quota: QuotaSide, number: int, account_ids: Sequence[str], problems: list[str]
) -> tuple[int, int]:
    """For every wallet of a shard: (wallets seen, drift in nano)."""
    found = _Found()
    for _ in range(_TRIES):
        found = await _compare(database, quota, number, account_ids)
        if not found.moving:
            break
    problems.extend(found.problems)
    return found.seen, found.drift_nano


async def _compare(database: Database, quota: QuotaSide, number: int, account_ids: Sequence[str]) -> _Found:
    found = _Found()
    async with database.read() as db:
        # The order matters: the database's snapshot first, then Redis. What was settled in between is in the stream.
        rows = {
            row.account_id: row
            for row in await db.execute(select(wallets).where(wallets.c.account_id.in_(account_ids)))
        }
        lots = await lots_of(db, account_ids)
        look = await quota.look(number, account_ids)
        streamed = {item.id: item for entry in look.entries if (item := read_entry(entry))}
        posted = await posted_items(db, streamed.values())
        waiting: dict[str, list[Item]] = {}
        for item in streamed.values():
            if item.id not in posted:
                waiting.setdefault(item.account_id, []).append(item)
        for account_id, wallet in look.wallets.items():
            row = rows.get(account_id)
            if wallet is None or row is None:
                continue
            unapplied: Sequence[Credit] = ()
            if wallet.credit_number != row.credit_number:
                unapplied = await credits_after(db, account_id, wallet.credit_number)
            found.seen += 1
            await _compare_wallet(db, row, wallet, unapplied, found)
            expected = row.balance_nano - sum(credit.amount_nano for credit in unapplied)
            own = _without(lots.get(account_id, []), unapplied)
            for item in waiting.get(account_id, ()):
                expected -= item.taken_nano
                own = spend(own, decide_parts(item, own))
            if wallet.balance_nano != expected:
                found.drift_nano += abs(wallet.balance_nano - expected)
                found.problems.append(
                    f"wallet {account_id} is {wallet.balance_nano} nano in Redis, {expected} by the books"
                )
            if wallet.lots != show_lots(own):
                found.problems.append(
                    f"wallet {account_id} has lots of '{wallet.lots}' in Redis, '{show_lots(own)}' by the books"
                )
    return found


def _without(lots: Sequence[Lot], unapplied: Sequence[Credit]) -> list[Lot]:
    """Those that Redis has heard of, in spending order."""
    unheard = {credit.entry_id for credit in unapplied}
    return spending_order(lot for lot in lots if lot.id not in unheard)


async def _compare_wallet(
    db: AsyncConnection, row: Any, wallet: Wallet, unapplied: Sequence[Credit], found: _Found
) -> None:
    """All but the money: numbers, the credit line, the holds."""
    account_id = row.account_id
    if wallet.credit_number > row.credit_number:
        found.moving = True
    if wallet.credit_number < row.applied_number:
        lost = sum(credit.amount_nano for credit in unapplied)
        found.problems.append(f"wallet {account_id} has lost credits of {lost} nano that it had")
        found.drift_nano += abs(lost)
    if wallet.credit_number == row.credit_number and wallet.floor_nano != row.floor_nano:
        # A new line may be there a moment before its number.
        found.moving = True
        found.problems.append(
            f"wallet {account_id} may go down to {wallet.floor_nano} nano in Redis, {row.floor_nano} by the books"
        )
    if wallet.held_nano < 0:
        found.problems.append(f"wallet {account_id} has holds of {wallet.held_nano} nano")
    if wallet.balance_nano - wallet.held_nano < min(wallet.floor_nano, wallet.balance_nano) and not await _had_a_line(
        db, account_id
    ):
        found.problems.append(f"wallet {account_id} holds more than it has")


async def _had_a_line(db: AsyncConnection, account_id: str) -> bool:
    """A line that was cut leaves the holds that it had allowed."""
    query = select(entries.c.id).where(
        entries.c.account_id == account_id, entries.c.credit_number.is_not(None), entries.c.kind == "credit_line"
    )
    return (await db.execute(query.limit(1))).first() is not None
