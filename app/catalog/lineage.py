"""Accounts above and below each other. An account draws on the wallet of the nearest account above it that has one of
its own: the way there is its chain."""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Row, Select, literal, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.errors import Conflict, InvalidField
from app.base.limits import NO_LIMITS, Budget, Limits
from app.catalog.records import Account
from app.catalog.tables import accounts, price_books

__all__ = ["DEPTH_MOST", "account_of", "ancestors", "chain_of", "lock_tree", "payer_of", "place_below", "subtree"]

DEPTH_MOST = 5  # accounts from the topmost to the lowest
_TREE_LOCK = 0x74726565  # "tree"


def account_of(row: Row[Any]) -> Account:
    return Account(
        id=row.id,
        name=row.name,
        book=row.book,
        created_at_ms=row.created_at_ms,
        parent_id=row.parent_id,
        wallet=row.wallet,
        limits=msgspec.convert(row.limits, Limits),
        model_limits=msgspec.convert(row.model_limits, dict[str, Limits]),
        budgets=msgspec.convert(row.budgets, tuple[Budget, ...]),
        time_zone=row.time_zone,
        may_issue_keys=row.may_issue_keys,
    )


async def chain_of(db: AsyncConnection, account_id: str) -> tuple[Account, ...]:
    """The account and those above it, up to the one whose wallet pays. One that has no limits of its own has those of
    its price book here."""
    up = _upwards(account_id, until_wallet=True)
    query = (
        select(accounts, price_books.c.limits.label("book_limits"))
        .join(up, up.c.id == accounts.c.id)
        .outerjoin(price_books, price_books.c.name == accounts.c.book)
        .order_by(up.c.height)
    )
    chain = []
    for row in await db.execute(query):
        account = account_of(row)
        if account.limits == NO_LIMITS and row.book_limits:
            account = msgspec.structs.replace(account, limits=msgspec.convert(row.book_limits, Limits))
        chain.append(account)
    return tuple(chain)


async def ancestors(db: AsyncConnection, account_id: str) -> list[str]:
    """The ids of the account and of all above it; empty where there is no such account."""
    up = _upwards(account_id, until_wallet=False)
    return list(await db.scalars(select(up.c.id).order_by(up.c.height)))


async def payer_of(db: AsyncConnection, account_id: str) -> str:
    """The account whose wallet pays; itself where there is no such account."""
    chain = await chain_of(db, account_id)
    return chain[-1].id if chain else account_id


async def subtree(db: AsyncConnection, account_id: str) -> dict[str, int]:
    """The account and all below it: how many steps below it each is."""
    top = select(accounts.c.id, literal(0).label("depth")).where(accounts.c.id == account_id)
    down = top.cte("down", recursive=True)
    below = select(accounts.c.id, down.c.depth + 1).where(accounts.c.parent_id == down.c.id)
    down = down.union_all(below)
    return {row.id: row.depth for row in await db.execute(select(down))}


async def lock_tree(db: AsyncConnection) -> None:
    """Until the end of the transaction nobody else moves accounts: two moves could make a circle between them."""
    if db.dialect.name == "postgresql":  # SQLite's write transaction is a lock already
        await db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _TREE_LOCK})


async def place_below(db: AsyncConnection, parent_id: str, moved: Mapping[str, int]) -> None:
    """Checks that `moved`, an account's subtree, may hang below the parent; the tree must be locked. Raises
    InvalidField or Conflict."""
    above = await ancestors(db, parent_id)
    if not above:
        raise InvalidField("parent_id", f"there is no account `{parent_id}`")
    if parent_id in moved:
        raise InvalidField("parent_id", "an account can't be below itself")
    if len(above) + 1 + max(moved.values(), default=0) > DEPTH_MOST:
        raise Conflict(f"Accounts can be {DEPTH_MOST} deep at most, the topmost one included.")


def _upwards(account_id: str, *, until_wallet: bool) -> Any:
    columns = accounts.c
    first: Select[Any] = select(columns.id, columns.parent_id, columns.wallet, literal(0).label("height"))
    up = first.where(columns.id == account_id).cte("up", recursive=True)
    above = select(columns.id, columns.parent_id, columns.wallet, up.c.height + 1).where(columns.id == up.c.parent_id)
    return up.union_all(above.where(up.c.wallet == "shared") if until_wallet else above)
