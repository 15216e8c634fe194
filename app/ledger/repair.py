"""Puts wallets in Redis right that differ from the books. The journal is the truth: nothing of it changes but that an
entry without postings says what was found, and why it was looked at."""

from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.database import Database
from app.base.errors import ServiceUnavailable
from app.base.ids import new_id, shard_of
from app.base.money import format_usd
from app.ledger.compare import Compared, compare_wallets
from app.ledger.journal import add_entry
from app.ledger.redis_side import QuotaSide
from app.ledger.tables import wallets

__all__ = ["Repair", "repair_wallets", "wallet_ids"]

_TRIES = 10
_MEMO_MOST = 1_000


class Repair(msgspec.Struct, frozen=True):
    """What was wrong with a wallet, and is put right; or would be. `entry_id` is that of the entry which says so."""

    account_id: str
    problems: tuple[str, ...]
    balance_before_nano: int
    balance_after_nano: int
    entry_id: str | None = None


class _MovedOn(Exception):
    """A wallet changed while it was looked at."""


async def wallet_ids(db: AsyncConnection) -> list[str]:
    """The accounts that have a wallet of their own."""
    return list(await db.scalars(select(wallets.c.account_id)))


async def repair_wallets(
    database: Database, quota: QuotaSide, account_ids: Iterable[str], why: str, *, is_trial: bool = False
) -> list[Repair]:
    """Those of the accounts whose wallets differ; with `is_trial` nothing is changed. Raises ServiceUnavailable, after
    which some may have been put right: repeating it does the rest."""
    shards: dict[int, list[str]] = defaultdict(list)
    for account_id in account_ids:
        shards[shard_of(account_id, quota.shards)].append(account_id)
    done = []
    for number, own in shards.items():
        off = [each.account_id for each in await compare_wallets(database, quota, number, own) if each.can_repair]
        done += [await _repair(database, quota, number, account_id, why, is_trial) for account_id in off]
    return [made for made in done if made is not None]


async def _repair(
    database: Database, quota: QuotaSide, number: int, account_id: str, why: str, is_trial: bool
) -> Repair | None:
    """None where it has come right by itself."""
    for _ in range(_TRIES):
        # What was only between two looks is not there any more in a third.
        found = next(iter(await compare_wallets(database, quota, number, [account_id])), None)
        if found is None or not found.can_repair:
            return None
        made = Repair(found.account_id, found.problems, found.wallet.balance_nano, found.expected.balance_nano)
        if is_trial:
            return made
        # The entry is written first and comes to stand once Redis has taken the change: none is made without one.
        with suppress(_MovedOn):
            async with database.write() as db:
                entry_id = await _note(db, made, why)
                await _replace(quota, found)
            return msgspec.structs.replace(made, entry_id=entry_id)
    raise ServiceUnavailable(f"The wallet of `{account_id}` moves too fast to be put right now.")


async def _replace(quota: QuotaSide, found: Compared) -> None:
    """Raises _MovedOn where the wallet is another by now."""
    expected = found.expected
    answer = await quota.warm(
        found.account_id,
        expected.balance_nano,
        expected.credit_number,
        expected.floor_nano,
        found.last_entry,
        expected.lots_text,
        instead_of=found.wallet,
        ended=found.ended,
        debits=expected.debits,
    )
    if answer != "ok":
        raise _MovedOn


async def _note(db: AsyncConnection, made: Repair, why: str) -> str:
    entry_id = new_id("ent")
    before, after = format_usd(made.balance_before_nano), format_usd(made.balance_after_nano)
    memo = f"{why}: the wallet in Redis had {before} USD and has {after} USD now. {'; '.join(made.problems)}"
    entry = {"id": entry_id, "kind": "repair", "account_id": made.account_id, "memo": memo[:_MEMO_MOST]}
    await add_entry(db, entry, {})
    return entry_id
