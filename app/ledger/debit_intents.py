"""Debits as the database keeps them. A debit is written before Redis is asked to take it, in the transaction that
checks its idempotency key; so a key stands for one movement before the journal has an entry of it, and money that a
Redis took and then lost is found again.

    asked ──▶ taken       Redis took it: its entry is in the shard's stream, or in the journal
      ├─────▶ refused     Redis said that the wallet does not have it free
      └─────▶ abandoned   nobody asked for long, and Redis never took it

A refused or abandoned debit frees its key: the next request under that key writes its terms into the same row. A
refusal counts only while no other call is unanswered: a call that was cut off may still reach Redis, and may be granted
there. What is unclear stays `asked` until a repeat or `abandon_old_debits` finds out.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import now_ms
from app.base.errors import Conflict
from app.base.receipt import Movement
from app.ledger.idempotency import debit_id, lock_wallet, refuse_key_of_entry
from app.ledger.tables import debits, entries, postings

__all__ = [
    "Debit",
    "DebitState",
    "ask_debit",
    "mark_refused",
    "mark_taken",
    "movement_of",
    "posted_nano",
    "settle_stale",
    "stale_debits",
    "unposted_debits",
]

DebitState = Literal["asked", "taken", "refused", "abandoned"]
_STALE_MOST = 500


class Debit(msgspec.Struct, frozen=True):
    """Money to take from a wallet. `id` is that of its entry; `amount_nano` is positive. `unanswered` counts the calls
    to Redis of which nobody knows whether they ran, the one that is about to be made included."""

    id: str
    account_id: str
    amount_nano: int
    memo: str
    corrects: str | None
    created_at_ms: int
    state: DebitState
    unanswered: int = 1


def movement_of(debit: Debit) -> Movement:
    """What Redis writes into the shard's stream when it takes the debit."""
    return Movement(
        id=debit.id,
        account_id=debit.account_id,
        kind="adjustment",
        created_at_ms=debit.created_at_ms,
        memo=debit.memo,
        corrects=debit.corrects,
    )


async def ask_debit(
    db: AsyncConnection,
    account_id: str,
    amount_nano: int,
    memo: str,
    idempotency_key: str | None,
    corrects: str | None,
) -> Debit:
    """Writes that Redis is about to be asked; or, for a key that was used before, goes on with its debit, whose `state`
    is `taken` where nothing is left to ask.

    Raises NotFound; Conflict where the key stands for another amount, another correction, or money that was given.
    """
    await lock_wallet(db, account_id)
    if idempotency_key is not None:
        await refuse_key_of_entry(db, account_id, idempotency_key)
    debit = Debit(debit_id(account_id, idempotency_key), account_id, amount_nano, memo, corrects, now_ms(), "asked")
    earlier = (await db.execute(select(debits).where(debits.c.id == debit.id))).first()
    posted = None if idempotency_key is None else await posted_nano(db, debit.id)
    if earlier is not None and earlier.state in ("asked", "taken"):
        _refuse_another(debit, earlier.amount_nano, earlier.corrects)
        if earlier.state == "taken":
            return _debit(earlier)
    elif posted is not None:
        _refuse_another(debit, posted, corrects)
    debit = await _write_asked(db, debit, earlier, idempotency_key)
    if posted is not None:
        await mark_taken(db, debit.id, posted)
        return msgspec.structs.replace(debit, state="taken")
    return debit


async def _write_asked(db: AsyncConnection, debit: Debit, earlier: Any, idempotency_key: str | None) -> Debit:
    """One more call to Redis is about to be made, for the debit of the row `earlier` where that is still asked."""
    asked = {"asked_at_ms": debit.created_at_ms, "state": "asked"}
    if earlier is None:
        row = msgspec.structs.asdict(debit) | {"idempotency_key": idempotency_key}
        await db.execute(insert(debits).values(row | asked))
    elif earlier.state == "asked":
        debit = msgspec.structs.replace(_debit(earlier), unanswered=earlier.unanswered + 1)
        await db.execute(_row(debit.id).values(asked | {"unanswered": debit.unanswered}))
    else:
        await db.execute(_row(debit.id).values(msgspec.structs.asdict(debit) | asked))
    return debit


async def mark_taken(db: AsyncConnection, entry_id: str, amount_nano: int) -> None:
    """Redis took it, or has told that it had: `amount_nano` is what it took."""
    await db.execute(_row(entry_id).values(state="taken", amount_nano=amount_nano, unanswered=0))


async def mark_refused(db: AsyncConnection, entry_id: str) -> None:
    """One call was answered with a refusal. While another is unanswered, the debit stays asked."""
    is_asked = debits.c.state == "asked"
    await db.execute(_row(entry_id).where(is_asked, debits.c.unanswered <= 1).values(state="refused", unanswered=0))
    await db.execute(_row(entry_id).where(is_asked).values(unanswered=debits.c.unanswered - 1))


async def unposted_debits(db: AsyncConnection, account_ids: Sequence[str]) -> list[Debit]:
    """Debits of the accounts that Redis has acknowledged and the journal does not have, oldest first. A debit whose
    movement is not in its shard's stream either was lost by Redis, and has to be taken again. Read the streams before
    the transaction of `db` begins: what the bookkeeper posts and trims in between would be missing in both otherwise.
    """
    posted = select(entries.c.id).where(entries.c.id == debits.c.id).exists()
    rows = await db.execute(
        select(debits)
        .where(debits.c.account_id.in_(account_ids), debits.c.state == "taken", ~posted)
        .order_by(debits.c.created_at_ms, debits.c.id)
    )
    return [_debit(row) for row in rows]


async def stale_debits(db: AsyncConnection, before_ms: int) -> list[Debit]:
    """Those of which nobody knows what became of them, and that nobody has asked for since `before_ms`."""
    rows = await db.execute(_stale(before_ms).order_by(debits.c.asked_at_ms).limit(_STALE_MOST))
    return [_debit(row) for row in rows]


async def settle_stale(db: AsyncConnection, stale: Sequence[Debit], streamed: Mapping[str, int], before_ms: int) -> int:
    """Says of `stale` debits what became of them: taken where the stream or the journal has them, else abandoned; how
    many were abandoned. `streamed` is what movements took (nano, by id) in the streams as they were before the
    transaction of `db` began."""
    count = 0
    for account_id in sorted({debit.account_id for debit in stale}):
        await lock_wallet(db, account_id)  # a repeat under one of their keys waits, or has renewed `asked_at_ms`
    for row in await db.execute(_stale(before_ms).where(debits.c.id.in_([debit.id for debit in stale]))):
        taken = streamed.get(row.id, await posted_nano(db, row.id))
        if taken is not None:
            await mark_taken(db, row.id, taken)
        else:
            still_asked = _row(row.id).where(debits.c.state == "asked")
            count += (await db.execute(still_asked.values(state="abandoned", unanswered=0))).rowcount
    return count


async def posted_nano(db: AsyncConnection, entry_id: str) -> int | None:
    """What a debit took whose entry is in the journal; None where there is no such entry."""
    return await db.scalar(
        select(postings.c.amount_nano).where(
            postings.c.entry_id == entry_id, postings.c.ledger_account == "adjustments"
        )
    )


def _row(entry_id: str) -> Any:
    return update(debits).where(debits.c.id == entry_id)


def _stale(before_ms: int) -> Any:
    return select(debits).where(debits.c.state == "asked", debits.c.asked_at_ms < before_ms)


def _debit(row: Any) -> Debit:
    return Debit(**{name: getattr(row, name) for name in Debit.__struct_fields__})


def _refuse_another(debit: Debit, amount_nano: int, corrects: str | None) -> None:
    if amount_nano != debit.amount_nano:
        raise Conflict("This idempotency key was used for another amount.")
    if corrects != debit.corrects:
        raise Conflict("This idempotency key was used for another correction.")
