"""`tollgate statement`: a month of an account, from the database alone."""

import sys
from typing import Annotated

import typer

from app.base.database import Database
from app.commands.common import AsJson, read_settings, run
from app.console.paper import draw_up, read_form, written

__all__ = ["statement"]


def statement(
    account: Annotated[str, typer.Argument(help="Its id, acc_….")],
    month: Annotated[str, typer.Argument(help="In UTC, such as 2026-01.")],
    form: Annotated[str, typer.Option("--format", help="json, csv, or html: a page to print.")] = "json",
    as_json: AsJson = False,
) -> None:
    """Print a month of an account: opening balance, credits, usage by model and key, closing balance."""
    settings = read_settings()

    async def work() -> str:
        wanted = read_form("json" if as_json else form)
        database = Database(settings.database_url)
        try:
            async with database.read() as db:
                return written(await draw_up(db, account, month), wanted)
        finally:
            await database.close()

    text = run(work())
    # As bytes: RFC 4180 ends its lines with CR LF on every system.
    sys.stdout.buffer.write(text.encode() + (b"" if text.endswith("\n") else b"\n"))
