"""A batch of the streams becomes rows: one transaction, idempotent by request id and by movement id.

The charges of a batch are one entry an account, not one a receipt: a receipt names its entry, the entry's postings are
the sums of its receipts, and verify adds them up again. At 5,000 receipts a second that is a handful of entries instead
of twenty thousand rows. What all of a batch costs is one entry too, with two postings a channel, and a movement is an
entry of its own.

Rows that other bookkeepers may move too are locked in one order: lots, entries, days, receipts, wallets, each sorted.
Two with overlapping batches wait for each other, and never in a circle.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, Date, bindparam, select, text, update
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import now_ms
from app.base.database import Database
from app.base.errors import ServiceUnavailable
from app.base.ids import made_at_ms, new_id
from app.ledger.items import Item, StreamedMovement, StreamedReceipt
from app.ledger.journal import move_balances
from app.ledger.lots import Lot, allocate, show_parts, spend, spending_order
from app.ledger.rows import insert_receipts, insert_rows
from app.ledger.sums import costs_by_channel, sum_days
from app.ledger.tables import entries, lots, postings, receipts, usage_days

__all__ = ["Unpostable", "decide_parts", "post", "posted_among", "posted_items"]

log = logging.getLogger("tollgate.bookkeeper")

_TRIES = 5
_IN_MOST = 500  # SQLite takes some thousand parameters a statement


class Unpostable(Exception):
    """The database refuses a value of an item, such as a number beyond 64 bits."""

    @property
    def reason(self) -> str:
        """The class of the driver's error."""
        error: BaseException | None = self.__cause__
        if isinstance(error, DBAPIError):
            error = error.orig.__cause__ or error.orig if error.orig else error
        return type(error).__name__


async def post(database: Database, batch: Sequence[Item]) -> int:
    """Posts those of the batch, in the order of their streams, that are not posted yet; how many.

    Raises ServiceUnavailable, or Unpostable where the database refuses one of them; with nothing posted.
    """
    fresh = {item.id: item for item in reversed(batch)}
    try:
        return await _post_fresh(database, list(reversed(fresh.values())))
    except (OverflowError, ValueError) as error:
        raise Unpostable from error
    except DBAPIError as error:
        if _is_about_values(error):
            raise Unpostable from error
        # Nothing is set aside for a fault that may pass, or that an operator can mend.
        log.exception("a batch could not be posted")
        raise ServiceUnavailable("The database refused a batch.") from error


def _is_about_values(error: DBAPIError) -> bool:
    """SQLSTATE's classes 22 (data) and 23 (integrity); the drivers' own checks; SQLite's, which has no codes."""
    state = getattr(error.orig, "sqlstate", None)
    if isinstance(state, str):
        return state.startswith(("22", "23"))
    return isinstance(error, (DataError, IntegrityError)) or isinstance(error.orig, (ValueError, OverflowError))


async def _post_fresh(database: Database, batch: list[Item]) -> int:
    for again in range(_TRIES):
        try:
            async with database.write() as db:
                if again:
                    posted = await posted_items(db, batch)
                    batch = [item for item in batch if item.id not in posted]
                await _insert(db, batch)
            return len(batch)
        except IntegrityError:
            # Rare: some were posted before, by a run that died before it could say so, or by another bookkeeper.
            if again == _TRIES - 1:
                raise
    raise AssertionError


async def posted_among(db: AsyncConnection, request_ids: Sequence[str]) -> set[str]:
    """Those of the requests whose receipts the database has."""
    return await _found(db, receipts.c.request_id, request_ids)


async def posted_items(db: AsyncConnection, items: Iterable[Item]) -> set[str]:
    """The ids of those items that the database has."""
    requests: list[str] = []
    movements: list[str] = []
    for item in items:
        (requests if isinstance(item, StreamedReceipt) else movements).append(item.id)
    return await _found(db, receipts.c.request_id, requests) | await _found(db, entries.c.id, movements)


async def _found(db: AsyncConnection, column: Column[str], ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(ids), _IN_MOST):
        found.update(await db.scalars(select(column).where(column.in_(ids[start : start + _IN_MOST]))))
    return found


async def _insert(db: AsyncConnection, batch: Sequence[Item]) -> None:
    if not batch:
        return
    purses = await _lock_lots(db, batch)
    spent: dict[str, int] = defaultdict(int)
    paid_by_lots: dict[str, str] = {}
    sums = _Sums()
    for item in batch:
        own = purses.get(item.account_id, [])
        parts = _parts(item, own)
        purses[item.account_id] = spend(own, parts)
        for lot_id, nano in parts.items():
            spent[lot_id] += nano
        promo = sum(parts.get(lot.id, 0) for lot in own if lot.promotional)
        sums.add(item, promo)
        if parts:
            paid_by_lots[item.id] = show_parts(parts)
    await insert_rows(db, entries, _ENTRY_COLUMNS, sorted(sums.entries))
    await insert_rows(db, postings, _POSTING_COLUMNS, sums.postings())
    if sums.charged:
        await _add_days(db, sums.charged)
        ordered = sorted(sums.charged, key=lambda item: item.id)
        await insert_receipts(
            db, [(item, sums.usage_entries.get(item.account_id), paid_by_lots.get(item.id)) for item in ordered]
        )
    if spent:
        await db.execute(_spend_lot, [{"lot": lot_id, "spent": nano} for lot_id, nano in sorted(spent.items())])
    await move_balances(db, {account_id: -taken for account_id, taken in sums.taken.items()})


_ENTRY_COLUMNS = ("id", "kind", "account_id", "created_at_ms", "memo", "corrects")
_POSTING_COLUMNS = ("entry_id", "ledger_account", "amount_nano")
_spend_lot = (
    update(lots)
    .where(lots.c.entry_id == bindparam("lot"))
    .values(remaining_nano=lots.c.remaining_nano - bindparam("spent", type_=BigInteger()))
)


async def _lock_lots(db: AsyncConnection, batch: Sequence[Item]) -> dict[str, list[Lot]]:
    """What is left in lots, of the accounts that spent from some, in spending order."""
    accounts = sorted({item.account_id for item in batch if item.parts is None or item.parts})
    found: dict[str, list[Lot]] = defaultdict(list)
    columns = lots.c
    for start in range(0, len(accounts), _IN_MOST):
        rows = await db.execute(
            select(
                columns.account_id,
                columns.entry_id,
                columns.remaining_nano,
                columns.expires_at_ms,
                columns.promotional,
            )
            .where(columns.account_id.in_(accounts[start : start + _IN_MOST]), columns.remaining_nano > 0)
            .order_by(columns.account_id, columns.entry_id)
            .with_for_update()
        )
        for account_id, *lot in rows:
            found[account_id].append(Lot(*lot))
    return {account_id: spending_order(own) for account_id, own in found.items()}


def decide_parts(item: Item, own: Sequence[Lot]) -> dict[str, int]:
    """What came out of lots where Redis could not say: greedily, over those that were there at that moment and had not
    expired when the request came. A credit that is written later has no part in it, whoever asks and when."""
    if item.parts is not None:
        return item.parts
    there = [lot for lot in own if (made_at_ms(lot.id) or 0) <= item.at_ms]
    return allocate([lot for lot in there if (lot.expires_at_ms or math.inf) > item.came_ms], item.taken_nano)


def _parts(item: Item, own: Sequence[Lot]) -> dict[str, int]:
    """Never more of a lot than is left of it: a receipt is posted in any case, and verify shows the difference."""
    left = {lot.id: lot.remaining_nano for lot in own}
    parts = decide_parts(item, own)
    for lot_id, nano in parts.items():
        if nano > left.get(lot_id, 0):
            log.error("%s spent %d nano of lot %s, which has %d left", item.id, nano, lot_id, left.get(lot_id, 0))
    return {lot_id: min(nano, left[lot_id]) for lot_id, nano in parts.items() if left.get(lot_id)}


class _Sums:
    """The entries of a batch: one of usage for each account, one of what all of it costs, one for each movement; and
    what left each wallet."""

    def __init__(self) -> None:
        self.charged: list[StreamedReceipt] = []
        self.entries: list[tuple[Any, ...]] = []
        self.usage_entries: dict[str, str] = {}
        self.taken: dict[str, int] = defaultdict(int)
        self._moves: dict[tuple[str, str], int] = defaultdict(int)
        self._costs_entry = ""
        self._now_ms = now_ms()

    def add(self, item: Item, promo: int) -> None:
        """`promo` is what of the item came out of promotional lots."""
        self.taken[item.account_id] += item.taken_nano
        if isinstance(item, StreamedMovement):
            self._add_movement(item, promo)
        else:
            self._add_receipt(item, promo)

    def _add_receipt(self, item: StreamedReceipt, promo: int) -> None:
        self.charged.append(item)
        receipt, account_id = item.receipt, item.account_id
        moves = {f"promo:{account_id}": -promo, f"wallet:{account_id}": promo - item.taken_nano}
        moves["revenue"] = item.taken_nano
        if any(moves.values()):
            entry_id = self.usage_entries.get(account_id)
            if entry_id is None:
                entry_id = self.usage_entries[account_id] = new_id("ent")
                self._begin(entry_id, "usage", account_id, self._now_ms)
            self._move(entry_id, moves)
        costs = costs_by_channel(receipt.channel_id, receipt.upstream_cost_nano, receipt.attempts)
        if costs and not self._costs_entry:
            self._costs_entry = new_id("ent")
            self._begin(self._costs_entry, "costs", "", self._now_ms)
        for channel_id, cost in costs.items():
            self._move(self._costs_entry, {f"cost:{channel_id}": -cost, f"payable:{channel_id}": cost})

    def _add_movement(self, item: StreamedMovement, promo: int) -> None:
        movement, account_id = item.movement, item.account_id
        corrects = movement.lot if movement.kind == "lapse" else movement.corrects
        self._begin(movement.id, movement.kind, account_id, movement.created_at_ms, movement.memo, corrects)
        paid = item.taken_nano - promo
        moves = {f"promo:{account_id}": -promo, f"wallet:{account_id}": -paid}
        if movement.kind == "lapse":
            moves |= {"promotions": promo, "revenue": paid}
        else:
            moves["adjustments"] = item.taken_nano
        self._move(movement.id, moves)

    def _begin(
        self, entry_id: str, kind: str, account_id: str, at_ms: int, memo: str = "", corrects: str | None = None
    ) -> None:
        self.entries.append((entry_id, kind, account_id, at_ms, memo, corrects))

    def _move(self, entry_id: str, moves: dict[str, int]) -> None:
        for ledger_account, amount in moves.items():
            if amount:
                self._moves[entry_id, ledger_account] += amount

    def postings(self) -> list[tuple[str, str, int]]:
        return [(*key, amount) for key, amount in self._moves.items() if amount]


_DAY_COLUMNS = tuple(usage_days.c.keys())
_DAY_KEYS = tuple(usage_days.primary_key.columns.keys())
_ADD_UP = f" ON CONFLICT ({', '.join(_DAY_KEYS)}) DO UPDATE SET " + ", ".join(
    f"{name} = usage_days.{name} + excluded.{name}" for name in _DAY_COLUMNS if name not in _DAY_KEYS
)
_INTO_DAYS = f"INSERT INTO usage_days ({', '.join(_DAY_COLUMNS)})"
_upsert_one = text(f"{_INTO_DAYS} VALUES ({', '.join(f':{name}' for name in _DAY_COLUMNS)}) {_ADD_UP}").bindparams(
    bindparam("day", type_=Date())
)
# One statement with a list for each column: PostgreSQL takes the rows in the lists' order.
_types = {name: "date" if name == "day" else "text" if name in _DAY_KEYS else "bigint" for name in _DAY_COLUMNS}
_lists = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in _types.items())
_upsert_lists = text(f"{_INTO_DAYS} SELECT * FROM unnest({_lists}) {_ADD_UP}")  # noqa: S608


async def _add_days(db: AsyncConnection, charged: Sequence[StreamedReceipt]) -> None:
    days = sum_days((item.receipt, item.unpaid_nano) for item in charged)
    rows = [(*key, *sums) for key, sums in sorted(days.items())]
    if db.dialect.name == "postgresql":
        await db.execute(_upsert_lists, dict(zip(_DAY_COLUMNS, map(list, zip(*rows, strict=True)), strict=True)))
    else:
        await db.execute(_upsert_one, [dict(zip(_DAY_COLUMNS, row, strict=True)) for row in rows])
