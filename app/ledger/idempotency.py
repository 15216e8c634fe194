"""An idempotency key stands for one movement of an account's money, whichever way it goes: money that is given is an
entry of the journal from the start, money that is taken is a row of `debits` until it is posted. Whoever uses a key
locks the wallet's row first, so that two requests under one key see each other.
"""

import hashlib
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.errors import Conflict, NotFound
from app.base.ids import new_id
from app.ledger.tables import debits, entries, wallets

__all__ = ["debit_id", "lock_wallet", "refuse_key_of_debit", "refuse_key_of_entry"]


async def lock_wallet(db: AsyncConnection, account_id: str) -> Any:
    """The wallet's row, locked until the end of the transaction. Raises NotFound."""
    row = (await db.execute(select(wallets).where(wallets.c.account_id == account_id).with_for_update())).first()
    if row is None:
        raise NotFound(f"There is no account `{account_id}`.")
    return row


def debit_id(account_id: str, idempotency_key: str | None) -> str:
    """The id of a debit and of its entry: one key has one id, so that Redis and the journal can tell a repeat."""
    if idempotency_key is None:
        return new_id("ent")
    digest = hashlib.sha256(f"{account_id} {idempotency_key}".encode(errors="surrogatepass")).hexdigest()
    return f"ent_{digest[:28]}"


async def refuse_key_of_debit(db: AsyncConnection, account_id: str, idempotency_key: str) -> None:
    """For money that is given. Raises Conflict where the key took money, or is about to."""
    entry_id = debit_id(account_id, idempotency_key)
    asked = select(debits.c.id).where(debits.c.id == entry_id, debits.c.state.in_(("asked", "taken")))
    posted = select(entries.c.id).where(entries.c.id == entry_id)  # the version before wrote no debits
    if (await db.execute(asked.union_all(posted))).first() is not None:
        raise Conflict("This idempotency key was used to take money from this account.")


async def refuse_key_of_entry(db: AsyncConnection, account_id: str, idempotency_key: str) -> None:
    """For money that is taken. Raises Conflict where the key gave money."""
    used = select(entries.c.id).where(entries.c.account_id == account_id, entries.c.idempotency_key == idempotency_key)
    if (await db.execute(used)).first() is not None:
        raise Conflict("This idempotency key was used to give money to this account.")
