"""Money taken back from a wallet: in Redis first, which alone knows what is free of holds, and then through the shard's
stream into the journal, like a charge."""

import hashlib

import msgspec
from sqlalchemy import select

from app.base.clock import now_ms
from app.base.database import Database
from app.base.errors import Conflict, InvalidField, ServiceUnavailable
from app.base.ids import new_id
from app.base.receipt import Movement
from app.ledger.rebuild import rebuild_wallet
from app.ledger.redis_side import QuotaSide
from app.ledger.tables import postings

__all__ = ["Taken", "take_back"]

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
    amount; ServiceUnavailable, after which it may have happened: with the same key it may be tried again.
    """
    if amount_nano <= 0:
        raise InvalidField("amount", "must be more than zero")
    entry_id = _entry_id(account_id, idempotency_key)
    movement = Movement(
        id=entry_id,
        account_id=account_id,
        kind="adjustment",
        created_at_ms=now_ms(),
        memo=memo,
        corrects=corrects,
    )
    # Redis remembers what it took for a day; what is older is in the journal.
    earlier = await _posted(database, entry_id)
    if earlier is not None:
        return _same(Taken(entry_id, account_id, earlier, False), amount_nano)
    for _ in range(_TRIES):
        match await quota.debit(account_id, entry_id, amount_nano, _encode(movement)):
            case "ok":
                return Taken(entry_id, account_id, amount_nano, True)
            case "cold":
                await rebuild_wallet(database, quota, account_id)
            case "credit":
                raise InvalidField("amount", "is more than the wallet has free")
            case taken:
                return _same(Taken(entry_id, account_id, int(taken), False), amount_nano)
    raise ServiceUnavailable


def _entry_id(account_id: str, idempotency_key: str | None) -> str:
    """The same for the same key, so that the set in Redis and the journal's own ids tell a repeat."""
    if idempotency_key is None:
        return new_id("ent")
    digest = hashlib.sha256(f"{account_id} {idempotency_key}".encode(errors="surrogatepass")).hexdigest()
    return f"ent_{digest[:28]}"


def _same(earlier: Taken, amount_nano: int) -> Taken:
    if earlier.amount_nano != amount_nano:
        raise Conflict("This idempotency key was used for another amount.")
    return earlier


async def _posted(database: Database, entry_id: str) -> int | None:
    """What an entry that is in the journal took."""
    async with database.read() as db:
        return await db.scalar(
            select(postings.c.amount_nano).where(
                postings.c.entry_id == entry_id, postings.c.ledger_account == "adjustments"
            )
        )
