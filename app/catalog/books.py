"""Price books: what some customers pay instead of a model's own prices. A book is a multiplier of all of them, and
prices of its own for some models. The default book is the models' own prices, once: it takes no others, and stays."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Row, bindparam, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import now_ms
from app.base.errors import Conflict, InvalidField
from app.base.limits import Limits
from app.base.money import MULTIPLIER_ONE
from app.catalog.pricing import Prices, Sale
from app.catalog.records import Book
from app.catalog.tables import DEFAULT_BOOK, accounts, book_prices, models, price_books, price_versions
from app.catalog.versions import add_versions

__all__ = ["check_book_name", "delete_book", "find_book", "list_books", "put_book", "require_book"]

_NAME_MOST = 100


def check_book_name(name: str, field: str) -> None:
    """Raises InvalidField. A name is part of an address, so a slash would be two."""
    if not 1 <= len(name) <= _NAME_MOST or "/" in name or not name.isprintable() or name != name.strip():
        raise InvalidField(field, f"must be a name of at most {_NAME_MOST} characters, without slashes")


async def find_book(db: AsyncConnection, name: str) -> Book | None:
    row = (await db.execute(select(price_books).where(price_books.c.name == name))).first()
    return _book(row, (await _own_prices(db, [name])).get(name, {})) if row else None


async def list_books(db: AsyncConnection, after: str = "", limit: int = 10_000) -> list[Book]:
    """By name, those after `after`."""
    query = select(price_books).where(price_books.c.name > after).order_by(price_books.c.name).limit(limit)
    rows = (await db.execute(query)).all()
    own = await _own_prices(db, [row.name for row in rows])
    return [_book(row, own.get(row.name, {})) for row in rows]


async def require_book(db: AsyncConnection, name: str) -> None:
    """Raises InvalidField. A book that is there stays until the end of the transaction."""
    if name == DEFAULT_BOOK:
        return
    query = select(price_books.c.name).where(price_books.c.name == name).with_for_update(read=True)
    if await db.scalar(query) is None:
        raise InvalidField("book", f"there is no price book `{name}`")


async def put_book(
    db: AsyncConnection, name: str, values: Mapping[str, Any], prices: Mapping[str, Prices | None]
) -> tuple[Book, bool]:
    """Creates or changes a book; whether it is new. `values` may have `multiplier`, `description` and `limits`: what
    they leave out stays, and so do the prices of models that `prices` does not name. None takes a model's own price
    away. Changed prices become a new version, equal ones keep theirs. Raises InvalidField."""
    if name == DEFAULT_BOOK:
        if values.get("multiplier", MULTIPLIER_ONE) != MULTIPLIER_ONE:
            raise InvalidField("multiplier", "the default book is the models' own prices: its multiplier is 1")
        if prices:
            raise InvalidField("prices", "the default book is the models' own prices: set them at each model")
    is_new = await _insert_book(db, name, values)
    # Whoever changes the same book at the same time waits here.
    await db.execute(select(price_books.c.name).where(price_books.c.name == name).with_for_update())
    if values and not is_new:
        await db.execute(update(price_books).where(price_books.c.name == name).values(**values))
    await _check_models(db, prices)
    own = (await _own_prices(db, [name])).get(name, {})
    changed = {
        model: new
        for model, new in prices.items()
        if new is not None and (model not in own or own[model].prices != new)
    }
    # Changed or taken away: the old row goes, and whatever has a price now gets a new one.
    gone = [{"of": model} for model in own if model in changed or (model in prices and prices[model] is None)]
    if gone:
        row = (book_prices.c.book == name, book_prices.c.model == bindparam("of"))
        await db.execute(delete(book_prices).where(*row), gone)
    versions = await add_versions(db, changed, book=name)
    if versions:
        new_rows = [{"book": name, "model": model, "price_version": version} for model, version in versions.items()]
        await db.execute(insert(book_prices), new_rows)
    book = await find_book(db, name)
    assert book is not None
    return book, is_new


async def delete_book(db: AsyncConnection, name: str) -> bool:
    """Whether there was one. Its price versions stay, for the receipts that name them. Raises Conflict."""
    if name == DEFAULT_BOOK:
        raise Conflict("The default book stays.")
    query = select(price_books.c.name).where(price_books.c.name == name).with_for_update()
    if await db.scalar(query) is None:
        return False
    user = await db.scalar(select(accounts.c.id).where(accounts.c.book == name).limit(1))
    if user is not None:
        raise Conflict(f"Accounts pay by this book, such as `{user}`: give them another first.")
    await db.execute(delete(book_prices).where(book_prices.c.book == name))
    await db.execute(delete(price_books).where(price_books.c.name == name))
    return True


async def _insert_book(db: AsyncConnection, name: str, values: Mapping[str, Any]) -> bool:
    """False where it is there, or another transaction was quicker."""
    dialect_insert = sqlite.insert if db.dialect.name == "sqlite" else postgresql.insert
    blank = {"name": name, "multiplier": MULTIPLIER_ONE, "description": "", "created_at_ms": now_ms()}
    statement = dialect_insert(price_books).values(**{**blank, **values}).on_conflict_do_nothing()
    return bool((await db.execute(statement)).rowcount)


async def _check_models(db: AsyncConnection, prices: Mapping[str, Prices | None]) -> None:
    """A price of a model that nobody has heard of is a typo."""
    wanted = [name for name, price in prices.items() if price is not None]
    known = set(await db.scalars(select(models.c.name).where(models.c.name.in_(wanted)))) if wanted else set()
    for name in wanted:
        if name not in known:
            raise InvalidField(f"prices.{name}", "there is no such model")


async def _own_prices(db: AsyncConnection, books: Iterable[str]) -> dict[str, dict[str, Sale]]:
    """By book and model."""
    query = (
        select(book_prices, price_versions.c.prices)
        .join(price_versions, price_versions.c.id == book_prices.c.price_version)
        .where(book_prices.c.book.in_(list(books)))
        .order_by(book_prices.c.model)
    )
    own: dict[str, dict[str, Sale]] = {}
    for row in await db.execute(query):
        own.setdefault(row.book, {})[row.model] = Sale(row.price_version, msgspec.convert(row.prices, Prices))
    return own


def _book(row: Row[Any], own: dict[str, Sale]) -> Book:
    return Book(
        name=row.name,
        multiplier=row.multiplier,
        description=row.description,
        own=own,
        created_at_ms=row.created_at_ms,
        limits=msgspec.convert(row.limits, Limits),
    )
