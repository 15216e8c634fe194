"""`tollgate apply`: the catalogue from a file, as operators keep it under version control."""

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from app.base.database import Database
from app.base.errors import InvalidField
from app.base.events import announce
from app.base.redis import connect
from app.books import redis_url
from app.catalog.installation import read_installation
from app.commands.common import AsJson, console, read_settings, run
from app.commands.declared_file import read_file
from app.console.declared import Applied, Declared, apply_declared, read_declared
from app.proxy.relay.providers import PROVIDERS
from app.settings import Settings

__all__ = ["apply"]

_FILE_MOST_BYTES = 64 * 1024 * 1024


def apply(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A YAML file; `-` reads it from the input.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the difference.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Write it without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Set accounts, channels, models and price books from one file, showing first what differs.

    What the file does not mention stays as it is. A second run changes nothing. Secrets may be ${VARIABLES} of the
    environment.
    """
    settings = read_settings()
    declared = _declared(file)
    shown: Applied = run(_apply(settings, declared, dry_run=True))
    if not as_json:
        _show(shown)
    wanted = shown.is_change and not dry_run and (yes or _is_confirmed(file, as_json=as_json))
    if wanted:
        run(_apply(settings, declared, dry_run=False, expected=shown))
    if as_json:
        typer.echo(json.dumps({"applied": wanted, "changes": msgspec.to_builtins(shown.changes)}))
    elif shown.is_change:
        console.print("Written." if wanted else "Nothing is written.")


async def _apply(settings: Settings, declared: Declared, *, dry_run: bool, expected: Applied | None = None) -> Applied:
    """Raises TollgateError; LookupError before the first start."""
    database = Database(settings.database_url)
    urls = {name: provider.base_url for name, provider in PROVIDERS.items()}
    try:
        async with database.read() as db:
            if not await read_installation(db):
                raise LookupError("this database has no Tollgate in it yet: run `tollgate serve` or `tollgate migrate`")
        sealer = settings.sealer()
        done = await apply_declared(database, sealer, urls, declared, dry_run=dry_run, expected=expected)
    finally:
        await database.close()
    if not dry_run:
        await _tell_workers(settings, done.events)
    return done


async def _tell_workers(settings: Settings, events: tuple[str, ...]) -> None:
    """Those that run use it from here on; where Redis is away there is nobody to tell."""
    client = connect(redis_url(settings))
    try:
        for event in events:
            await announce(client, event)
    finally:
        await client.aclose()


def _declared(file: str) -> Declared:
    async def work() -> Declared:
        return read_declared(read_file(_read(file), os.environ))

    declared: Declared = run(work())
    return declared


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


def _is_confirmed(file: str, *, as_json: bool) -> bool:
    """Nobody is there to ask where the file came in by the input, or a program reads the output."""
    if file == "-" or as_json or not sys.stdin.isatty():
        return False
    return typer.confirm("Write this?")


def _show(done: Applied) -> None:
    differing = [change for change in done.changes if change.does != "unchanged"]
    if differing:
        table = Table("", "", "", "field", "now", "then")
        for change in differing:
            head = (change.kind, escape(change.name), change.does)
            for place, field in enumerate(change.fields):
                row = (escape(field.field), _told(field.now), _told(field.then))
                table.add_row(*(head if place == 0 else ("", "", "")), *row)
        console.print(table)
    kinds = Counter(change.does for change in done.changes)
    console.print(", ".join(f"{kinds[kind]} {kind}" for kind in ("new", "changed", "unchanged")) + ".")


def _told(value: Any) -> str:
    return "—" if value is None else escape(value if isinstance(value, str) else json.dumps(value))
