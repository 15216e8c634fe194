"""What a customer's chat client asks of its credit: figures that add up to the live balance."""

from datetime import date

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.errors import NotFound
from app.ledger.tables import usage_days, wallets

__all__ = ["DayCost", "costs_by_day", "credited_nano"]


class DayCost(msgspec.Struct, frozen=True):
    """What an account paid on a day for a model."""

    day: date
    model: str
    charged_nano: int


async def credited_nano(db: AsyncConnection, account_id: str) -> int:
    """All that ever came into a wallet, less what was taken out of it for another reason than a request: its balance in
    the journal and all its charges, from one snapshot. Requests don't move it. Raises NotFound."""
    balance = await db.scalar(select(wallets.c.balance_nano).where(wallets.c.account_id == account_id))
    if balance is None:
        raise NotFound(f"There is no account `{account_id}`.")
    charged = await db.scalar(
        select(func.sum(usage_days.c.amount_nano - usage_days.c.unpaid_nano)).where(
            usage_days.c.account_id == account_id
        )
    )
    return int(balance) + int(charged or 0)


async def costs_by_day(db: AsyncConnection, account_id: str, first: date, end: date) -> list[DayCost]:
    """By day and model, of the days from `first` to before `end` on which anything was charged."""
    columns = usage_days.c
    charged = func.sum(columns.amount_nano - columns.unpaid_nano)
    query = (
        select(columns.day, columns.model, charged.label("charged_nano"))
        .where(columns.account_id == account_id, columns.day >= first, columns.day < end)
        .group_by(columns.day, columns.model)
        .having(charged != 0)
        .order_by(columns.day, columns.model)
    )
    return [DayCost(row.day, row.model, int(row.charged_nano)) for row in await db.execute(query)]
