"""What a wallet in Redis should be, by the database and the stream of its shard: its balance and its lots in the
journal, less what the stream still holds, or what was set aside of it, and the journal does not have yet. Pure, but for
what it reads from the database."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ledger.debit_intents import Debit, movement_of, unposted_debits
from app.ledger.items import Item
from app.ledger.lots import Lot, allocate, show_lots, show_parts, spend
from app.ledger.posting import decide_parts, posted_among
from app.ledger.redis_side import LiveHold, Look
from app.ledger.stream import read_entry, read_rejected

__all__ = ["Expected", "Retaken", "ended_among", "expected_wallet", "lost_debits", "streamed_items"]

_encode = msgspec.json.Encoder().encode


class Retaken(msgspec.Struct, frozen=True):
    """A debit that Redis had taken and lost: it is taken again. `movement` is JSON, `parts` what comes out of lots."""

    id: str
    nano: int
    movement: bytes
    parts: str


class Expected(msgspec.Struct, frozen=True):
    """As it should be, less the `debits` that Redis has lost and has to take again; `lots` in spending order."""

    balance_nano: int
    credit_number: int
    floor_nano: int
    lots: tuple[Lot, ...]
    debits: tuple[Retaken, ...] = ()

    @property
    def lots_text(self) -> str:
        return show_lots(self.lots)


def streamed_items(look: Look) -> list[Item]:
    """What was set aside of the stream of a shard, which waits to be posted like the rest, and what the stream has; in
    its order, each once. What can't be read is left out."""
    rejected = (read_rejected(entry.id, entry.fields).item for entry in look.rejected)
    found = (*rejected, *map(read_entry, look.entries))
    return list({item.id: item for item in found if item is not None}.values())


def expected_wallet(row: Any, lots: Iterable[Lot], waiting: Iterable[Item], lost: Iterable[Debit] = ()) -> Expected:
    """`row` is the wallet's in the database, `lots` its lots there in spending order, `waiting` what of its stream is
    not posted yet, and `lost` are debits that Redis had taken and that are in neither."""
    balance, left = row.balance_nano, list(lots)
    for item in waiting:
        balance -= item.taken_nano
        left = spend(left, decide_parts(item, left))
    debits = []
    for debit in lost:
        parts = allocate(left, debit.amount_nano)
        balance -= debit.amount_nano
        left = spend(left, parts)
        debits.append(Retaken(debit.id, debit.amount_nano, _encode(movement_of(debit)), show_parts(parts)))
    return Expected(balance, row.credit_number, row.floor_nano, tuple(left), tuple(debits))


async def lost_debits(db: AsyncConnection, account_ids: Sequence[str], items: Iterable[Item]) -> dict[str, list[Debit]]:
    """By account, those that Redis had taken and that neither the journal nor the stream has."""
    streamed = {item.id for item in items}
    found: dict[str, list[Debit]] = {}
    for debit in await unposted_debits(db, account_ids):
        if debit.id not in streamed:
            found.setdefault(debit.account_id, []).append(debit)
    return found


async def ended_among(db: AsyncConnection, holds: Sequence[LiveHold], items: Iterable[Item]) -> list[str]:
    """The requests of these holds that have ended, by the database or the stream: a Redis that lost the writes which
    ended them has their holds again."""
    streamed = {item.id for item in items}
    posted = await posted_among(db, [hold.request_id for hold in holds])
    return [hold.request_id for hold in holds if hold.request_id in streamed or hold.request_id in posted]
