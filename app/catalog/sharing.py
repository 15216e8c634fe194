"""Whose requests count for an account: its own, and those of members that draw on its wallet."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.tables import accounts, keys

__all__ = ["keys_sharing"]


async def keys_sharing(db: AsyncConnection, account_id: str) -> frozenset[str]:
    """The ids of the keys of the account, and of the accounts below it that share its wallet."""
    down = select(accounts.c.id).where(accounts.c.id == account_id).cte("down", recursive=True)
    below = select(accounts.c.id).where(accounts.c.parent_id == down.c.id, accounts.c.wallet == "shared")
    down = down.union_all(below)
    found = await db.scalars(select(keys.c.id).join(down, down.c.id == keys.c.account_id))
    return frozenset(found)
