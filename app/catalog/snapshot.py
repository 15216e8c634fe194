"""What a worker knows of the offer, in memory: read once, read again when a change is announced. The proxy reads it
without a look-up in Redis or the database."""

from collections.abc import Iterable, Mapping

import msgspec

from app.base.crypto import Sealer
from app.base.database import Database
from app.base.money import MULTIPLIER_ONE
from app.catalog.books import list_books
from app.catalog.offers import list_channels, list_models
from app.catalog.pricing import Sale
from app.catalog.records import Book, Channel, Model
from app.catalog.tables import DEFAULT_BOOK

__all__ = ["EMPTY", "Snapshot", "build_snapshot", "load_snapshot"]


class Snapshot(msgspec.Struct, frozen=True):
    """Models that somebody may buy, by name; for each the enabled channels that serve it, highest priority first; for
    each price book what its customers pay; and all channels, also those that are off."""

    models: dict[str, Model]
    routes: dict[str, tuple[Channel, ...]]
    sales: dict[str, dict[str, Sale]]  # by book, then by model
    channels: tuple[Channel, ...] = ()

    def sale(self, model_name: str, book: str) -> Sale | None:
        """What a customer with this price book pays; None where the model is not sold to them. A book that is not known
        here is the default one."""
        sales = self.sales.get(book)
        return (self.sales[DEFAULT_BOOK] if sales is None else sales).get(model_name)


EMPTY = Snapshot({}, {}, {DEFAULT_BOOK: {}})


def build_snapshot(models: Iterable[Model], channels: Iterable[Channel], books: Iterable[Book] = ()) -> Snapshot:
    """Pure: only models with a price are sold, and only enabled channels serve."""
    known = {model.name: model for model in models}
    channels = tuple(channels)
    sales = _price_all(known, books)
    priced = {name for each in sales.values() for name in each}
    on_sale = {name: model for name, model in known.items() if name in priced}
    ranked = sorted((channel for channel in channels if channel.enabled), key=lambda channel: -channel.priority)
    routes: dict[str, list[Channel]] = {name: [] for name in on_sale}
    for channel in ranked:
        for name in channel.models:
            if name in routes:
                routes[name].append(channel)
    return Snapshot(on_sale, {name: tuple(route) for name, route in routes.items()}, sales, channels)


def _price_all(models: Mapping[str, Model], books: Iterable[Book]) -> dict[str, dict[str, Sale]]:
    """Worked out once, so that a request's price is two look-ups. Books of one multiplier share what they can."""
    by_multiplier: dict[int, dict[str, Sale]] = {}

    def at(multiplier: int) -> dict[str, Sale]:
        if multiplier not in by_multiplier:
            by_multiplier[multiplier] = {
                name: Sale(model.price_version, model.prices, multiplier)
                for name, model in models.items()
                if model.prices is not None and model.price_version is not None
            }
        return by_multiplier[multiplier]

    sales = {DEFAULT_BOOK: at(MULTIPLIER_ONE)}
    for book in books:
        own = {name: sale for name, sale in book.own.items() if name in models}
        sales[book.name] = at(book.multiplier) | own if own else at(book.multiplier)
    return sales


async def load_snapshot(database: Database, sealer: Sealer) -> Snapshot:
    async with database.read() as db:
        return build_snapshot(await list_models(db), await list_channels(db, sealer), await list_books(db))
