"""`tollgate channel`: what channels there are, how they are, and whether they answer."""

import json
from typing import Annotated, Any

import typer
from rich.table import Table

from app.base.clock import now_ms
from app.base.errors import NotFound
from app.base.redis import connect
from app.books import Books, open_books, redis_url
from app.catalog.offers import list_channels
from app.catalog.records import Channel
from app.commands.common import AsJson, console, read_settings, run
from app.proxy.relay import Relay
from app.proxy.relay.probe import probe_channel
from app.proxy.relay.sandbox import SandboxTransport
from app.proxy.relay.vendors import VendorTransport
from app.warden.balances import read_balances
from app.warden.house import read_ways
from app.warden.sight import show_health

__all__ = ["channel"]

channel = typer.Typer(no_args_is_help=True, help="What channels there are, how they are, and whether they answer.")

Named = Annotated[str | None, typer.Argument(metavar="NAME|ID", help="One channel.")]


@channel.command("list")
def list_all(as_json: AsJson = False) -> None:
    """Every channel, with the models that it serves."""

    async def work() -> list[dict[str, Any]]:
        books = await open_books(read_settings())
        try:
            return [_show(each) for each in await _channels(books)]
        finally:
            await books.close()

    found = run(work())
    if as_json:
        typer.echo(json.dumps(found))
        return
    table = Table("name", "id", "provider", "models", "priority", "weight", "credentials", "state")
    for each in found:
        numbers = (str(each["priority"]), str(each["weight"]), str(each["credentials"]))
        table.add_row(each["name"], each["id"], each["provider"], ", ".join(each["models"]), *numbers, each["state"])
    console.print(table)


@channel.command()
def health(as_json: AsJson = False) -> None:
    """How each credential of each channel is, as the workers that serve know it."""

    async def work() -> list[dict[str, Any]]:
        books = await open_books(read_settings())
        try:
            client = connect(redis_url(books.settings))
            try:
                ways = await read_ways(client)
            finally:
                await client.aclose()
            return show_health(await _channels(books), ways, await read_balances(books.wire), now_ms())
        finally:
            await books.close()

    found = run(work())
    if as_json:
        typer.echo(json.dumps(found))
        return
    table = Table("channel", "credential", "state", "why", "in flight", "failed of 30 s", "balance")
    for each in found:
        for way in each["credentials"]:
            state = each["state"] if each["state"] in ("off", "draining") else way["state"]
            left = way["balance"] or {}
            table.add_row(
                each["name"],
                way["name"] or way["credential_id"],
                state,
                way["reason"] or way["last_error"] or "",
                str(way["in_flight"]),
                f"{way['failures']} of {way['requests']}",
                f"{left['amount']} {left['currency']}" if left.get("amount") else left.get("error", ""),
            )
    console.print(table)


@channel.command()
def test(
    name: Named = None,
    every: Annotated[bool, typer.Option("--all", help="Every channel that is on.")] = False,
    as_json: AsJson = False,
) -> None:
    """One tiny real request over each credential; exit 1 where one is not answered."""
    if (name is None) is not every:
        raise typer.BadParameter("name one channel, or say --all")
    results = run(_test(name))
    if as_json:
        typer.echo(json.dumps(results))
    else:
        table = Table("channel", "credential", "answered", "ms", "status", "error")
        for each in results:
            cells = ("yes" if each["ok"] else "no", str(each["latency_ms"]), str(each["http_status"] or ""))
            table.add_row(each["channel"], each["credential_id"], *cells, each["error"] or "")
        console.print(table)
    raise typer.Exit(0 if all(each["ok"] for each in results) else 1)


async def _test(name: str | None) -> list[dict[str, Any]]:
    """Raises NotFound."""
    books = await open_books(read_settings())
    relay = Relay(VendorTransport(), SandboxTransport())
    try:
        wanted = [
            each for each in await _channels(books) if (each.enabled if name is None else name in (each.name, each.id))
        ]
        if name is not None and not wanted:
            raise NotFound(f"There is no channel `{name}`.")
        return [
            {
                "channel": each.name,
                "channel_id": each.id,
                "credential_id": way.id,
                **await probe_channel(relay, each, next(iter(each.models)), way),
            }
            for each in wanted
            for way in each.ways
        ]
    finally:
        await relay.close()
        await books.close()


async def _channels(books: Books) -> list[Channel]:
    async with books.database.read() as db:
        return await list_channels(db, books.sealer)


def _show(channel: Channel) -> dict[str, Any]:
    return {
        "id": channel.id,
        "name": channel.name,
        "provider": channel.provider,
        "models": list(channel.models),
        "priority": channel.priority,
        "weight": channel.weight,
        "credentials": len(channel.credentials),
        "state": "draining" if channel.draining and channel.enabled else "on" if channel.enabled else "off",
    }
