"""Price books, and the history of prices."""

from typing import Annotated, Any

import msgspec
from litestar import Controller, Response, delete, get, put
from msgspec import UNSET, Meta, UnsetType

from app.base.clock import iso
from app.base.errors import NotFound
from app.base.money import format_multiplier, parse_multiplier
from app.catalog import books
from app.catalog.pricing import Prices, parse_prices, show_prices
from app.catalog.records import Book, PriceVersion
from app.catalog.versions import list_versions
from app.console.limit_fields import LimitFields, limits_of, show_limits
from app.console.office import Office, Page, page_cursor, page_limit, paged

__all__ = ["BookChange", "PriceBooksController", "PricesController", "columns_of_book", "own_prices_of", "show_book"]


class BookChange(msgspec.Struct, forbid_unknown_fields=True):
    """What is left out stays as it is; a model with null has no price of its own in this book any more."""

    multiplier: str | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=10_000)] | UnsetType = UNSET
    prices: Annotated[dict[str, dict[str, Any] | None], Meta(max_length=10_000)] | UnsetType = UNSET
    limits: LimitFields | None | UnsetType = UNSET  # of its accounts that have none of their own


class PriceBooksController(Controller):
    path = "/books"

    @get()
    async def list_all(self, office: Office, cursor: str = "", limit: int | None = None) -> Page:
        most = page_limit(limit)
        async with office.database.read() as db:
            found = await books.list_books(db, cursor, most + 1)
        page = paged(found, most, lambda book: book.name)
        page.items = [show_book(book) for book in page.items]
        return page

    @get("/{name:str}")
    async def read(self, office: Office, name: str) -> dict[str, Any]:
        async with office.database.read() as db:
            book = await books.find_book(db, name)
        if book is None:
            raise NotFound(f"There is no price book `{name}`.")
        return show_book(book)

    @put("/{name:str}")
    async def replace(self, office: Office, name: str, data: BookChange) -> Response[dict[str, Any]]:
        books.check_book_name(name, "name")
        values, prices = columns_of_book(data), own_prices_of(data)
        async with office.database.write() as db:
            book, is_new = await books.put_book(db, name, values, prices)
        await office.announce("catalog")
        if data.limits is not UNSET:
            await office.announce(f"book:{name}")
        return Response(show_book(book), status_code=201 if is_new else 200)

    @delete("/{name:str}")
    async def remove(self, office: Office, name: str) -> None:
        async with office.database.write() as db:
            if not await books.delete_book(db, name):
                raise NotFound(f"There is no price book `{name}`.")
        await office.announce("catalog")


class PricesController(Controller):
    path = "/prices"

    @get()
    async def history(
        self,
        office: Office,
        model: str | None = None,
        book: str | None = None,
        channel_id: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """Every price that was ever set, newest first: models' own, books' and, by upstream name, channels' costs."""
        most = page_limit(limit)
        before = page_cursor(cursor)
        async with office.database.read() as db:
            found = await list_versions(
                db, model=model, book=book, channel_id=channel_id, before=before, limit=most + 1
            )
        page = paged(found, most, lambda version: version.id)
        page.items = [_show_version(version) for version in page.items]
        return page


def columns_of_book(sent: BookChange) -> dict[str, Any]:
    """All but its prices. Raises InvalidField."""
    values: dict[str, Any] = {}
    if sent.multiplier is not UNSET:
        values["multiplier"] = parse_multiplier(sent.multiplier, "multiplier")
    if sent.description is not UNSET:
        values["description"] = sent.description
    if sent.limits is not UNSET:
        values["limits"] = msgspec.to_builtins(limits_of(sent.limits))
    return values


def own_prices_of(sent: BookChange) -> dict[str, Prices | None]:
    """By model; None takes its own price away. Raises InvalidField."""
    prices = {} if sent.prices is UNSET else sent.prices
    return {model: None if each is None else parse_prices(each, f"prices.{model}") for model, each in prices.items()}


def show_book(book: Book) -> dict[str, Any]:
    return {
        "name": book.name,
        "multiplier": format_multiplier(book.multiplier),
        "description": book.description,
        "prices": {model: show_prices(sale.prices) for model, sale in book.own.items()},
        "price_versions": {model: sale.version for model, sale in book.own.items()},
        "limits": show_limits(book.limits),
        "created_at": iso(book.created_at_ms),
    }


def _show_version(version: PriceVersion) -> dict[str, Any]:
    return {
        "id": version.id,
        "model": version.model,
        "book": version.book,
        "channel_id": version.channel_id,
        "prices": show_prices(version.prices),
        "created_at": iso(version.created_at_ms),
    }
