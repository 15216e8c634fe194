"""`tollgate route`: where requests would go, and why."""

import json
from typing import Annotated, Any

import typer
from rich.table import Table

from app.base.redis import connect
from app.books import open_books, redis_url
from app.commands.common import AsJson, console, read_settings, run
from app.quota.seats import Seats
from app.signpost import Signpost

__all__ = ["route"]

route = typer.Typer(no_args_is_help=True, help="Where requests would go, and why.")


@route.callback()
def _only_subcommands() -> None:
    """A lone command would be the whole of `tollgate route` otherwise."""


@route.command()
def explain(
    key: Annotated[str, typer.Option(help="A key's id, or the key itself: it is looked up by its hash.")],
    model: Annotated[str, typer.Option(help="The public name.")],
    conversation: Annotated[str | None, typer.Option(help="As a client would name it: user, prompt_cache_key.")] = None,
    as_json: AsJson = False,
) -> None:
    """Each way to a model, in order: taken or passed over, and why."""

    async def work() -> dict[str, Any]:
        books = await open_books(read_settings())
        client = connect(redis_url(books.settings))
        try:
            signpost = Signpost(books.database, books.sealer, client, Seats(books.wire))
            return await signpost.explain(key, model, conversation)
        finally:
            await client.aclose()
            await books.close()

    found = run(work())
    if as_json:
        typer.echo(json.dumps(found))
        return
    _print(found)


def _print(found: dict[str, Any]) -> None:
    console.print(f"{found['model']}: {found['strategy']}{', conversations stay' if found['sticky'] else ''}")
    if found["problem"] is not None:
        console.print(f"[red]It would be refused: {found['problem']}.[/red]")
    if not found["health_known"]:
        console.print("[yellow]Redis is away: how the channels are is not known.[/yellow]")
    table = Table("", "channel", "credential", "priority", "weight", "in flight", "first content", "USD", "why")
    for way in found["ways"]:
        table.add_row(
            "" if way["position"] is None else str(way["position"]),
            way["channel"],
            way["credential"] or way["credential_id"],
            str(way["priority"]),
            str(way["weight"]),
            str(way["in_flight"]),
            "" if way["first_content_ms"] is None else f"{way['first_content_ms']} ms",
            way["estimate"] or "",
            way["reason"],
        )
    console.print(table)
