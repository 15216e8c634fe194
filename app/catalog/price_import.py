"""An imported price list against the catalogue: what would change, and, where that is wanted, the change, whole or not
at all. A second import of the same list changes nothing."""

from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.crypto import Sealer
from app.base.errors import NotFound
from app.catalog.books import find_book, list_books, put_book
from app.catalog.offers import add_models, find_channel, list_models, set_prices, update_channel
from app.catalog.price_files import PriceFile
from app.catalog.price_plan import BookChange, PriceChange, plan_books, plan_costs, plan_sales
from app.catalog.tables import DEFAULT_BOOK

__all__ = ["Import", "ImportWish", "import_prices"]

_MODELS_MOST = 1_000_000


class ImportWish(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator asked for. `book` sets the book's own prices, `channel_id` the channel's costs."""

    markup: Decimal = Decimal(1)
    pattern: str = "*"
    book: str | None = None
    channel_id: str | None = None
    create: bool = False


class Import(msgspec.Struct, frozen=True):
    prices: list[PriceChange]
    books: list[BookChange]


async def import_prices(
    db: AsyncConnection, sealer: Sealer, listed: PriceFile, wish: ImportWish, *, apply: bool
) -> Import:
    """The whole difference; written too, in the caller's transaction, where it is to be applied. Raises NotFound."""
    if wish.channel_id is not None:
        return Import(await _import_costs(db, sealer, listed, wish.channel_id, wish.pattern, apply=apply), [])
    models = {model.name: model for model in await list_models(db, limit=_MODELS_MOST)}
    book = None
    if wish.book is not None and wish.book != DEFAULT_BOOK:
        book = await find_book(db, wish.book)
        if book is None:
            raise NotFound(f"There is no price book `{wish.book}`.")
    changes = plan_sales(listed, models, book, markup=wish.markup, pattern=wish.pattern, create=wish.create)
    groups: list[BookChange] = []
    if wish.book is None:
        groups = plan_books(listed, {each.name: each.multiplier for each in await list_books(db)})
    if apply:
        prices = {change.model: change.then for change in _to_write(changes) if change.then is not None}
        fresh = [change for change in _to_write(changes) if change.model not in models]
        own = prices if book is None else {}
        await add_models(
            db, [_row(change) for change in fresh], {c.model: own[c.model] for c in fresh if c.model in own}
        )
        await set_prices(db, {name: each for name, each in own.items() if name in models})
        if book is not None:
            await put_book(db, book.name, {}, prices)
        for group in groups:
            if group.kind in ("new", "changed"):
                await put_book(db, group.book, {"multiplier": group.then}, {})
    return Import(changes, groups)


async def _import_costs(
    db: AsyncConnection, sealer: Sealer, listed: PriceFile, channel_id: str, pattern: str, *, apply: bool
) -> list[PriceChange]:
    channel = await find_channel(db, sealer, channel_id)
    if channel is None:
        raise NotFound(f"There is no channel `{channel_id}`.")
    costs = {name: cost.prices for name, cost in channel.costs.items()}
    changes = plan_costs(listed, costs, channel.models.values(), pattern=pattern)
    new = {change.model: change.then for change in _to_write(changes) if change.then is not None}
    if apply and new:
        await update_channel(db, sealer, channel_id, {}, costs | new)
    return changes


def _to_write(changes: list[PriceChange]) -> list[PriceChange]:
    return [change for change in changes if change.kind in ("new", "changed")]


def _row(change: PriceChange) -> dict[str, Any]:
    return {
        "name": change.model,
        "context_length": change.context_length,
        "max_output_tokens": change.max_output_tokens,
    }
