"""Accounts, and which are whose members."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Column, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import now_ms
from app.base.database import in_parts
from app.base.errors import Conflict, InvalidField, NotFound
from app.base.ids import new_id
from app.catalog.books import require_book
from app.catalog.lineage import account_of, lock_tree, payer_of, place_below, subtree
from app.catalog.records import Account
from app.catalog.tables import DEFAULT_BOOK, accounts

__all__ = [
    "books_of_accounts",
    "create_account",
    "find_account",
    "list_accounts",
    "names_of_accounts",
    "require_purse",
    "update_account",
]


async def create_account(db: AsyncConnection, name: str, book: str = DEFAULT_BOOK, **values: Any) -> Account:
    """`values` are columns. Raises InvalidField where there is no such book or parent, Conflict where that is too deep
    down."""
    await require_book(db, book)
    if (parent_id := values.get("parent_id")) is not None:
        await lock_tree(db)
        await place_below(db, parent_id, {})
    elif values.get("wallet") == "shared":
        raise InvalidField("wallet", "only an account with a parent can share a wallet")
    account_id = new_id("acc")
    await db.execute(insert(accounts).values(id=account_id, name=name, book=book, created_at_ms=now_ms(), **values))
    account = await find_account(db, account_id)
    assert account is not None
    return account


async def update_account(db: AsyncConnection, account_id: str, values: Mapping[str, Any]) -> Account | None:
    """None where there is no such account. Raises InvalidField and Conflict like create_account."""
    if "book" in values:
        await require_book(db, values["book"])
    if "parent_id" in values or "wallet" in values:
        await lock_tree(db)
        account = await find_account(db, account_id)
        if account is None:
            return None
        parent_id = values.get("parent_id", account.parent_id)
        if parent_id is None and values.get("wallet", account.wallet) == "shared":
            raise InvalidField("wallet", "only an account with a parent can share a wallet")
        if parent_id is not None and parent_id != account.parent_id:
            await place_below(db, parent_id, await subtree(db, account_id))
    if values:
        await db.execute(update(accounts).where(accounts.c.id == account_id).values(**values))
    return await find_account(db, account_id)


async def find_account(db: AsyncConnection, account_id: str, *, stays: bool = False) -> Account | None:
    """One that `stays` is not changed by others until the end of the transaction."""
    query = select(accounts).where(accounts.c.id == account_id)
    row = (await db.execute(query.with_for_update(read=True) if stays else query)).first()
    return account_of(row) if row else None


async def require_purse(db: AsyncConnection, account_id: str, *, stays: bool = False) -> Account:
    """An account with a wallet of its own; one that `stays` keeps it until the end of the transaction. Raises NotFound,
    and Conflict where another account pays for it."""
    account = await find_account(db, account_id, stays=stays)
    if account is None:
        raise NotFound(f"There is no account `{account_id}`.")
    if account.wallet == "shared":
        owner = await payer_of(db, account_id)
        raise Conflict(f"This account draws on the wallet of `{owner}`, and has no money of its own.")
    return account


async def list_accounts(
    db: AsyncConnection, after: str, limit: int, *, parent_id: str | None = None, among: Collection[str] | None = None
) -> list[Account]:
    """Oldest first, those after the id `after`; of one parent, and of those `among`, where they are given."""
    query = select(accounts).where(accounts.c.id > after).order_by(accounts.c.id).limit(limit)
    if parent_id is not None:
        query = query.where(accounts.c.parent_id == parent_id)
    if among is not None:
        query = query.where(accounts.c.id.in_(among))
    return [account_of(row) for row in await db.execute(query)]


async def books_of_accounts(db: AsyncConnection, account_ids: Collection[str]) -> dict[str, str]:
    """The price book of each; those that do not exist are left out."""
    return await _looked_up(db, accounts.c.book, account_ids)


async def names_of_accounts(db: AsyncConnection, account_ids: Collection[str]) -> dict[str, str]:
    """The name of each; those that do not exist are left out."""
    return await _looked_up(db, accounts.c.name, account_ids)


async def _looked_up(db: AsyncConnection, column: Column[str], account_ids: Collection[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for some in in_parts(sorted(account_ids)):
        rows = await db.execute(select(accounts.c.id, column.label("value")).where(accounts.c.id.in_(some)))
        found |= {row.id: row.value for row in rows}
    return found
