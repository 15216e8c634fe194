"""Wallets in Redis against the journal, a shard at one moment: balance and lots there, with what the shard's stream
still holds, are balance and lots here; and what is held there is held for requests that run."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.database import Database
from app.ledger.debit_intents import Debit
from app.ledger.expected import Expected, ended_among, expected_wallet, lost_debits, streamed_items
from app.ledger.items import Item
from app.ledger.journal import Credit, credits_after, lots_of
from app.ledger.lots import Lot, show_lots, spending_order
from app.ledger.posting import posted_items
from app.ledger.redis_side import LiveHold, QuotaSide, Wallet
from app.ledger.tables import entries, wallets

__all__ = ["Compared", "compare_wallets"]


class Compared(msgspec.Struct, frozen=True):
    """A wallet as Redis has it, and as it should be with all of its credits. `problems` say what differs beyond credits
    that are on their way; `drift_nano` is the difference in money, its sign dropped. `is_moving` is True where
    something happened between the two looks: the comparison is made again. `can_repair` is False where all that differs
    is what only time or money mends. `ended` are requests that are over and still
    hold something; `last_entry` is the last of the shard's stream at that moment."""

    account_id: str
    wallet: Wallet
    expected: Expected
    problems: tuple[str, ...]
    drift_nano: int
    is_moving: bool
    can_repair: bool
    ended: tuple[str, ...]
    last_entry: bytes


async def compare_wallets(
    database: Database, quota: QuotaSide, number: int, account_ids: Sequence[str]
) -> list[Compared]:
    """Those of the accounts whose wallets Redis has. Raises ServiceUnavailable."""
    # The order matters: first how far the database is, then its snapshot, which has at least that, then Redis. What was
    # settled in between is in the stream.
    posted_up_to = await quota.posted_up_to(number)
    async with database.read() as db:
        rows = {
            row.account_id: row
            for row in await db.execute(select(wallets).where(wallets.c.account_id.in_(account_ids)))
        }
        lots = await lots_of(db, account_ids)
        look = await quota.look(number, account_ids, posted_up_to)
        items = streamed_items(look)
        posted = await posted_items(db, items)
        lost = await lost_debits(db, account_ids, items)
        holds = _by_account(look.holds)
        found = []
        for account_id, wallet in look.wallets.items():
            if wallet is None or account_id not in rows:
                continue
            waiting = [item for item in items if item.account_id == account_id and item.id not in posted]
            own_lots = spending_order(lots.get(account_id, ()))
            own_holds = holds.get(account_id, [])
            ended = await ended_among(db, own_holds, items)
            seen = await _Comparison.of(db, rows[account_id], wallet, own_lots, waiting)
            seen.add_lost(own_lots, waiting, lost.get(account_id, ()))
            seen.check_holds(own_holds, ended)
            await seen.check_terms(db)
            found.append(seen.result(tuple(ended), look.last_entry))
        return found


class _Comparison:
    """Of one wallet."""

    def __init__(self, row: Any, wallet: Wallet, expected: Expected, unapplied: Sequence[Credit]) -> None:
        self._row = row
        self._wallet = wallet
        self._expected = expected
        self._unapplied = unapplied
        self._problems: list[str] = []
        self._beyond_repair: list[str] = []
        self._drift_nano = 0
        self._is_moving = False

    @classmethod
    async def of(
        cls, db: AsyncConnection, row: Any, wallet: Wallet, lots: Sequence[Lot], waiting: Sequence[Item]
    ) -> "_Comparison":
        """The money."""
        unapplied: Sequence[Credit] = ()
        if wallet.credit_number != row.credit_number:
            unapplied = await credits_after(db, row.account_id, wallet.credit_number)
        made = cls(row, wallet, expected_wallet(row, lots, waiting), unapplied)
        unheard = {credit.entry_id for credit in unapplied}
        known = expected_wallet(row, [lot for lot in lots if lot.id not in unheard], waiting)
        made._check_money(known.balance_nano - sum(credit.amount_nano for credit in unapplied), known.lots)
        return made

    def _check_money(self, balance_nano: int, lots: Sequence[Lot]) -> None:
        wallet, name = self._wallet, f"wallet {self._row.account_id}"
        if wallet.balance_nano != balance_nano:
            self._drift_nano += abs(wallet.balance_nano - balance_nano)
            self._problems.append(f"{name} is {wallet.balance_nano} nano in Redis, {balance_nano} by the books")
        if wallet.lots != show_lots(lots):
            self._problems.append(f"{name} has lots of '{wallet.lots}' in Redis, '{show_lots(lots)}' by the books")

    def add_lost(self, lots: Sequence[Lot], waiting: Sequence[Item], lost: Sequence[Debit]) -> None:
        """Money that was taken back, and that Redis has lost."""
        if lost:
            nano = sum(debit.amount_nano for debit in lost)
            self._expected = expected_wallet(self._row, lots, waiting, lost)
            self._drift_nano += nano
            self._problems.append(f"wallet {self._row.account_id} has lost debits of {nano} nano that it had")

    def check_holds(self, holds: Sequence[LiveHold], ended: Sequence[str]) -> None:
        name = f"wallet {self._row.account_id}"
        held = sum(hold.nano for hold in holds)
        if self._wallet.held_nano != held:
            self._problems.append(f"{name} has holds of {self._wallet.held_nano} nano, its requests {held}")
        if ended:
            self._problems.append(f"{name} has holds of {len(ended)} requests that have ended, such as {ended[0]}")

    async def check_terms(self, db: AsyncConnection) -> None:
        """Numbers, the credit line, and that no more is held than there is."""
        row, wallet, name = self._row, self._wallet, f"wallet {self._row.account_id}"
        if wallet.credit_number > row.credit_number:
            self._is_moving = True
        if wallet.credit_number < row.applied_number:
            lost = sum(credit.amount_nano for credit in self._unapplied)
            self._problems.append(f"{name} has lost credits of {lost} nano that it had")
            self._drift_nano += abs(lost)
        if wallet.credit_number == row.credit_number and wallet.floor_nano != row.floor_nano:
            # A new line may be there a moment before its number.
            self._is_moving = True
            self._problems.append(
                f"{name} may go down to {wallet.floor_nano} nano in Redis, {row.floor_nano} by the books"
            )
        free = wallet.balance_nano - wallet.held_nano
        if free < min(wallet.floor_nano, wallet.balance_nano) and not await _had_a_line(db, row.account_id):
            self._beyond_repair.append(f"{name} holds more than it has")

    def result(self, ended: tuple[str, ...], last_entry: bytes) -> Compared:
        return Compared(
            self._row.account_id,
            self._wallet,
            self._expected,
            (*self._problems, *self._beyond_repair),
            self._drift_nano,
            self._is_moving,
            bool(self._problems),
            ended,
            last_entry,
        )


def _by_account(holds: Iterable[LiveHold]) -> dict[str, list[LiveHold]]:
    found: dict[str, list[LiveHold]] = defaultdict(list)
    for hold in holds:
        found[hold.account_id].append(hold)
    return found


async def _had_a_line(db: AsyncConnection, account_id: str) -> bool:
    """A line that was cut leaves the holds that it had allowed."""
    query = select(entries.c.id).where(
        entries.c.account_id == account_id, entries.c.credit_number.is_not(None), entries.c.kind == "credit_line"
    )
    return (await db.execute(query.limit(1))).first() is not None
