"""`tollgate prices`: price lists of other projects, compared with the catalogue and taken over."""

import json
import sys
from collections import Counter
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.database import Database
from app.base.errors import InvalidField
from app.base.events import announce
from app.base.money import format_multiplier
from app.base.redis import connect
from app.books import redis_url
from app.catalog.installation import read_installation
from app.catalog.price_files import PriceFile, read_price_file
from app.catalog.price_import import Import, ImportWish, import_prices
from app.catalog.price_plan import PriceChange, parse_markup
from app.catalog.pricing import Prices, show_prices
from app.commands.common import AsJson, console, read_settings, run
from app.settings import Settings

__all__ = ["prices"]

_FILE_MOST_BYTES = 64 * 1024 * 1024

prices = typer.Typer(no_args_is_help=True, help="Prices: imports of other projects' lists.")


@prices.callback()
def prices_group() -> None:
    """Prices: imports of other projects' lists."""


@prices.command("import")
def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A JSON price list; `-` reads it from the input.")],
    markup: Annotated[str, typer.Option(help="What the list's prices are multiplied with, such as 1.3.")] = "1",
    book: Annotated[str | None, typer.Option(help="Set this price book's own prices, not the models'.")] = None,
    costs_for: Annotated[
        str | None, typer.Option(metavar="CHANNEL_ID", help="Set what this channel's vendor takes, without a markup.")
    ] = None,
    models: Annotated[str, typer.Option(metavar="GLOB", help="Only models whose names match, such as 'gpt-*'.")] = "*",
    create: Annotated[bool, typer.Option("--create", help="Add models that are not in the catalogue yet.")] = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write it. Without this, the difference is only shown.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare a price list with the catalogue, and take it over with --apply.

    Reads LiteLLM's model_prices_and_context_window.json, and ratios of one-api and new-api: an export of their options,
    /api/ratio_config or /api/pricing; their groups become price books.
    """
    settings = read_settings()

    async def work() -> Import:
        if costs_for is not None and (book is not None or create or markup != "1"):
            raise InvalidField("--costs-for", "goes without --book, --create and --markup")
        wish = ImportWish(markup=parse_markup(markup), pattern=models, book=book, channel_id=costs_for, create=create)
        return await _import(settings, read_price_file(_read(file)), wish, apply=apply)

    done: Import = run(work())
    if as_json:
        typer.echo(json.dumps(_as_json(done, applied=apply)))
    else:
        _show(done, applied=apply)


async def _import(settings: Settings, listed: PriceFile, wish: ImportWish, *, apply: bool) -> Import:
    """Raises ServiceUnavailable, NotFound, InvalidField; LookupError before the first start."""
    database = Database(settings.database_url)
    opened: AbstractAsyncContextManager[AsyncConnection] = database.write() if apply else database.read()
    try:
        async with opened as db:
            if not await read_installation(db):
                raise LookupError("this database has no Tollgate in it yet: run `tollgate serve` or `tollgate migrate`")
            done = await import_prices(db, settings.sealer(), listed, wish, apply=apply)
    finally:
        await database.close()
    if apply:
        await _tell_workers(settings)
    return done


async def _tell_workers(settings: Settings) -> None:
    """Those that run use the new prices from here on; where Redis is away there is nobody to tell."""
    client = connect(redis_url(settings))
    try:
        await announce(client, "catalog")
    finally:
        await client.aclose()


def _read(file: str) -> str:
    """Raises InvalidField."""
    try:
        if file == "-":
            return sys.stdin.read(_FILE_MOST_BYTES)
        if Path(file).stat().st_size > _FILE_MOST_BYTES:
            raise InvalidField("file", f"is larger than {_FILE_MOST_BYTES} bytes")
        return Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidField("file", f"can't be read ({error})") from None


def _as_json(done: Import, *, applied: bool) -> dict[str, Any]:
    return {
        "applied": applied,
        "counts": dict(Counter(change.kind for change in done.prices)),
        "models": [
            {
                "model": change.model,
                "change": change.kind,
                "now": None if change.now is None else show_prices(change.now),
                "then": None if change.then is None else show_prices(change.then),
                "reason": change.reason or None,
            }
            for change in done.prices
        ],
        "books": [
            {
                "book": group.book,
                "change": group.kind,
                "now": None if group.now is None else format_multiplier(group.now),
                "then": None if group.then is None else format_multiplier(group.then),
                "reason": group.reason or None,
            }
            for group in done.books
        ],
    }


def _show(done: Import, *, applied: bool) -> None:
    """What is new or changes, class by class; then how many stay, and why some are skipped."""
    differing = [change for change in done.prices if change.kind in ("new", "changed")]
    if differing:
        table = Table("model", "", "class", "now", "then", title="USD per million tokens; `request`: USD each")
        for change in differing:
            for index, row in enumerate(_rows(change)):
                table.add_row(*((escape(change.model), change.kind) if index == 0 else ("", "")), *row)
        console.print(table)
    groups = [change for change in done.books if change.kind != "unchanged"]
    if groups:
        table = Table("price book", "", "now", "then")
        for group in groups:
            multipliers = ("—" if each is None else format_multiplier(each) for each in (group.now, group.then))
            table.add_row(escape(group.book), group.reason or group.kind, *multipliers)
        console.print(table)
    kinds = Counter(change.kind for change in done.prices)
    console.print(", ".join(f"{kinds[kind]} {kind}" for kind in ("new", "changed", "unchanged", "skipped")) + ".")
    for reason, count in Counter(change.reason for change in done.prices if change.kind == "skipped").most_common():
        example = next(change.model for change in done.prices if change.reason == reason)
        console.print(f"  skipped: {reason} ({count}, such as {example})", markup=False)
    console.print("Written." if applied else "Nothing is written without --apply.")


def _rows(change: PriceChange) -> list[tuple[str, str, str]]:
    """The classes that differ: their name, now and then."""
    now, then = _flat(change.now), _flat(change.then)
    names = list(dict.fromkeys([*then, *now]))
    return [(name, now.get(name, "—"), then.get(name, "—")) for name in names if now.get(name) != then.get(name)]


def _flat(prices: Prices | None) -> dict[str, str]:
    """By class, those of tiers with the length they start at."""
    if prices is None:
        return {}
    shown = show_prices(msgspec.structs.replace(prices, tiers=(), service_tiers={}, fields={}))
    flat = {name: str(value) for name, value in shown.items() if name != "request" or prices.request}
    for tier in prices.tiers:
        for name, value in show_prices(tier).items():
            if name != "above_input_tokens":
                flat[f"{name} above {tier.above_input_tokens:,}"] = str(value)
    return flat
