"""Money taken back from a wallet: written down first, then taken in Redis, which alone knows what is free of holds, and
then through the shard's stream into the journal, like a charge."""

import msgspec

from app.base.database import Database
from app.base.errors import Conflict, InvalidField, ServiceUnavailable
from app.base.ids import shard_of
from app.ledger.debit_intents import (
    Debit,
    ask_debit,
    mark_refused,
    mark_taken,
    movement_of,
    settle_stale,
    stale_debits,
)
from app.ledger.expected import streamed_items
from app.ledger.items import StreamedMovement
from app.ledger.rebuild import rebuild_wallet
from app.ledger.redis_side import QuotaSide

__all__ = ["Taken", "abandon_old_debits", "take_back"]

_TRIES = 10
_encode = msgspec.json.Encoder().encode


class Taken(msgspec.Struct, frozen=True):
    """The entry that the bookkeeper posts, or has posted. `is_new` is False where it was taken before."""

    entry_id: str
    account_id: str
    amount_nano: int
    is_new: bool


async def take_back(
    database: Database,
    quota: QuotaSide,
    account_id: str,
    amount_nano: int,
    memo: str,
    idempotency_key: str | None,
    *,
    corrects: str | None = None,
) -> Taken:
    """Lowers a wallet by `amount_nano` (positive), once for each idempotency key: lots first, like a charge.

    Raises InvalidField where it is nothing, or more than is free; NotFound; Conflict where the key was used for another
    amount, another correction, or money that was given; ServiceUnavailable, after which it may have happened: with the
    same key it may be tried again.
    """
    if amount_nano <= 0:
        raise InvalidField("amount", "must be more than zero")
    async with database.write() as db:
        debit = await ask_debit(db, account_id, amount_nano, memo, idempotency_key, corrects)
    if debit.state == "taken":
        return Taken(debit.id, account_id, debit.amount_nano, False)
    # Redis remembers what it took for a day: what an older call took may be known to the stream alone.
    earlier = (await _streamed(quota, {account_id})).get(debit.id) if debit.unanswered > 1 else None
    answer = str(earlier) if earlier is not None else await _ask_redis(database, quota, debit)
    async with database.write() as db:
        if answer == "credit":
            await mark_refused(db, debit.id)
        else:
            await mark_taken(db, debit.id, amount_nano if answer == "ok" else int(answer))
    if answer == "credit":
        raise InvalidField("amount", "is more than the wallet has free")
    if answer not in ("ok", str(amount_nano)):
        raise Conflict("This idempotency key was used for another amount.")
    return Taken(debit.id, account_id, amount_nano, answer == "ok")


async def abandon_old_debits(database: Database, quota: QuotaSide, before_ms: int) -> int:
    """Ends debits that nobody has asked Redis for since `before_ms`, whose callers died or never heard: those that
    Redis took are marked as taken, and the others are abandoned, which frees their keys; how many were abandoned. A job
    runs this.

    `before_ms` must be an hour ago or more: a call that was cut off has run by then, or never will. Redis takes a debit
    and writes its movement in one script, and the stream keeps a movement until it is in the journal. So a debit was
    taken if the stream has it now, or the journal does afterwards: in this order, for what is posted in between.

    Raises ServiceUnavailable.
    """
    async with database.read() as db:
        stale = await stale_debits(db, before_ms)
    if not stale:
        return 0
    streamed = await _streamed(quota, {debit.account_id for debit in stale})
    async with database.write() as db:
        return await settle_stale(db, stale, streamed, before_ms)


async def _ask_redis(database: Database, quota: QuotaSide, debit: Debit) -> str:
    """`ok`, `credit`, or in digits what Redis had taken before under this id. Raises ServiceUnavailable."""
    movement = _encode(movement_of(debit))
    for _ in range(_TRIES):
        answer = await quota.debit(debit.account_id, debit.id, debit.amount_nano, movement)
        if answer != "cold":
            return answer
        await rebuild_wallet(database, quota, debit.account_id)
    raise ServiceUnavailable


async def _streamed(quota: QuotaSide, account_ids: set[str]) -> dict[str, int]:
    """What movements of the accounts' shards took that are still in their streams: nano by id."""
    found: dict[str, int] = {}
    for number in sorted({shard_of(account_id, quota.shards) for account_id in account_ids}):
        items = streamed_items(await quota.look(number, []))
        found |= {item.id: item.taken_nano for item in items if isinstance(item, StreamedMovement)}
    return found
