"""What is settled at the first start and never changes after: the number of shards, the operator's key as a hash."""

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.tables import installation

__all__ = ["read_installation", "write_installation"]


async def read_installation(db: AsyncConnection) -> dict[str, str]:
    """Empty before the first start."""
    return {row.name: row.value for row in await db.execute(select(installation))}


async def write_installation(db: AsyncConnection, values: dict[str, str]) -> None:
    await db.execute(insert(installation), [{"name": name, "value": value} for name, value in values.items()])
