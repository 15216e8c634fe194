"""Price versions: written once and never edited, so that an old receipt can be recomputed. One with a channel is what a
model costs there, by its upstream name; one with a book is what the book's customers pay for it."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import now_ms
from app.base.ids import new_id
from app.catalog.pricing import Prices
from app.catalog.records import PriceVersion
from app.catalog.tables import DEFAULT_BOOK, price_versions

__all__ = ["add_version", "add_versions", "list_versions", "prices_of"]

_IDS_A_QUERY = 10_000  # both databases take about 32,000 values in one statement


async def add_version(
    db: AsyncConnection, model: str, prices: Prices, *, book: str | None = None, channel_id: str | None = None
) -> str:
    """Its id."""
    return (await add_versions(db, {model: prices}, book=book, channel_id=channel_id))[model]


async def add_versions(
    db: AsyncConnection, prices: Mapping[str, Prices], *, book: str | None = None, channel_id: str | None = None
) -> dict[str, str]:
    """Their ids by model, in one statement: a price list has thousands."""
    ids = {model: new_id("prc") for model in prices}
    made_at_ms = now_ms()
    rows = [
        {
            "id": ids[model],
            "model": model,
            "book": book,
            "channel_id": channel_id,
            "prices": msgspec.to_builtins(each),
            "created_at_ms": made_at_ms,
        }
        for model, each in prices.items()
    ]
    if rows:
        await db.execute(insert(price_versions), rows)
    return ids


async def prices_of(db: AsyncConnection, versions: Iterable[str]) -> dict[str, Prices]:
    """Price versions by id; those that do not exist are left out."""
    ids = sorted(set(versions))
    found: dict[str, Prices] = {}
    for start in range(0, len(ids), _IDS_A_QUERY):
        wanted = ids[start : start + _IDS_A_QUERY]
        query = select(price_versions.c.id, price_versions.c.prices).where(price_versions.c.id.in_(wanted))
        for row in await db.execute(query):
            found[row.id] = msgspec.convert(row.prices, Prices)
    return found


async def list_versions(
    db: AsyncConnection,
    *,
    model: str | None,
    book: str | None,
    channel_id: str | None,
    before: str | None,
    limit: int,
) -> list[PriceVersion]:
    """The history of prices, newest first, those older than the id `before`. The default book's are the models' own."""
    wanted: list[Any] = []
    if model is not None:
        wanted.append(price_versions.c.model == model)
    if book == DEFAULT_BOOK:
        wanted += [price_versions.c.book.is_(None), price_versions.c.channel_id.is_(None)]
    elif book is not None:
        wanted.append(price_versions.c.book == book)
    if channel_id is not None:
        wanted.append(price_versions.c.channel_id == channel_id)
    if before:
        wanted.append(price_versions.c.id < before)
    rows = await db.execute(select(price_versions).where(*wanted).order_by(price_versions.c.id.desc()).limit(limit))
    return [
        PriceVersion(
            id=row.id,
            model=row.model,
            book=row.book,
            channel_id=row.channel_id,
            prices=msgspec.convert(row.prices, Prices),
            created_at_ms=row.created_at_ms,
        )
        for row in rows
    ]
