"""`tollgate keys`: customers' keys from the command line, in the database itself. A secret is read from the input or
written to a file, and never an argument: those are seen by whoever lists processes."""

import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.database import Database
from app.base.errors import InvalidField, NotFound
from app.base.events import announce
from app.base.ids import keys_in
from app.base.redis import connect
from app.books import redis_url
from app.catalog.customers import find_account
from app.catalog.keys import KeyFilter, create_keys, list_keys
from app.catalog.revocation import Revoked, revoke_secrets
from app.commands.common import AsJson, console, read_settings, run
from app.console.key_fields import BulkFields, columns_of_keys, show_key
from app.console.keys import LEAKED_MOST, TEXT_MOST, issued_csv
from app.settings import Settings

__all__ = ["keys"]

_LISTED_MOST = 1_000

keys = typer.Typer(no_args_is_help=True, help="Customers' keys: issue, list, revoke.")


@keys.callback()
def keys_group() -> None:
    """Customers' keys: issue, list, revoke."""


@keys.command()
def issue(
    account: Annotated[str, typer.Argument(help="Its id, acc_….")],
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 1,
    prefix: Annotated[str, typer.Option(help="Their names: `PREFIX-1`, `PREFIX-2`, …")] = "key",
    tag: Annotated[list[str] | None, typer.Option(help="A tag of all of them; may be repeated.")] = None,
    owner: Annotated[str, typer.Option(help="Whose they are.")] = "",
    file: Annotated[
        str, typer.Option("--csv", metavar="FILE", help="Where they are written, for its owner alone; `-`: printed.")
    ] = "-",
    as_json: AsJson = False,
) -> None:
    """Issue keys of an account. Their secrets are written this once."""
    wanted = BulkFields(count=count, name_prefix=prefix, tags=tag or [], owner=owner)

    async def work(db: AsyncConnection) -> Any:
        if await find_account(db, account) is None:
            raise NotFound(f"There is no account `{account}`.")
        made = await create_keys(db, account, columns_of_keys(wanted))
        text = issued_csv(made)
        if as_json:
            text = json.dumps([{**show_key(key), "key": secret} for key, secret in made], ensure_ascii=False) + "\n"
        _write(file, text)  # before the commit: what nobody could be told of is not issued

    _run(read_settings(), work)


@keys.command("list")
def list_(
    account: Annotated[str | None, typer.Option(help="Of this account alone.")] = None,
    owner: Annotated[str | None, typer.Option(help="Of this owner alone.")] = None,
    tag: Annotated[str | None, typer.Option(help="With this tag alone.")] = None,
    q: Annotated[str | None, typer.Option(help="With this in their name, note, owner, hint or id.")] = None,
    as_json: AsJson = False,
) -> None:
    """List keys, oldest first."""
    wanted = KeyFilter(account_ids=None if account is None else (account,), owner=owner, tag=tag, q=q)

    async def work(db: AsyncConnection) -> Any:
        return await list_keys(db, wanted, "", _LISTED_MOST)

    found = [show_key(key) for key in _run(read_settings(), work)]
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    table = Table("id", "account", "name", "hint", "owner", "tags", "last used", "")
    for key in found:
        columns = (key["id"], key["account_id"], key["name"], key["hint"], key["owner"], ", ".join(key["tags"]))
        state = "" if key["enabled"] else "disabled"
        table.add_row(*(escape(each) for each in (*columns, key["last_used_at"] or "never", state)))
    console.print(table)


@keys.command()
def revoke(as_json: AsJson = False) -> None:
    """End the keys in a text that is read from the input, such as a pasted line of a log."""
    settings = read_settings()
    if sys.stdin.isatty():
        sys.stderr.write("Paste the text, and end it with Ctrl-D.\n")
    found = keys_in(sys.stdin.read(TEXT_MOST))

    async def work(db: AsyncConnection) -> list[Revoked]:
        if not 1 <= len(found) <= LEAKED_MOST:
            raise InvalidField("input", f"must have from 1 to {LEAKED_MOST} keys of a gateway in it")
        return await revoke_secrets(db, found, _anyone)

    revoked: list[Revoked] = _run(settings, work, lambda ended: [each.event for each in ended])
    unknown = len(found) - len(revoked)
    if as_json:
        shown = [{**show_key(each.key), "whole": each.whole, "issued": each.issued} for each in revoked]
        typer.echo(json.dumps({"revoked": shown, "unknown": unknown}, ensure_ascii=False))
        return
    for each in revoked:
        what = "ended" if each.whole else "an earlier secret ended; the one that followed it works on"
        more = f", and {len(each.issued)} that it issued" if each.issued else ""
        console.print(f"{each.key.id} ({escape(each.key.name)}): {what}{more}")
    if unknown:
        console.print(f"{unknown} of them nobody knows.")


async def _anyone(_db: AsyncConnection, _account_id: str) -> bool:
    return True


def _run(
    settings: Settings,
    work: Callable[[AsyncConnection], Awaitable[Any]],
    events_of: Callable[[Any], list[str]] = lambda _: [],
) -> Any:
    """One transaction; then the workers hear of it, those that run."""

    async def whole() -> Any:
        database = Database(settings.database_url)
        try:
            async with database.write() as db:
                done = await work(db)
        finally:
            await database.close()
        events = dict.fromkeys(events_of(done))
        client = connect(redis_url(settings))
        try:
            for event in events:
                await announce(client, event)
        finally:
            await client.aclose()
        return done

    return run(whole())


def _write(file: str, text: str) -> None:
    """Raises InvalidField; a file that is there stays as it is."""
    if file == "-":
        sys.stdout.write(text)
        return
    try:
        descriptor = os.open(Path(file), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", newline="", encoding="utf-8") as out:
            out.write(text)
    except OSError as error:
        raise InvalidField("--csv", f"can't be written ({error.strerror})") from None
