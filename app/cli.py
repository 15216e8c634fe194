"""The command line: `tollgate serve`, and what an operator does beside it. `--json` everywhere that prints a result."""

import json
from typing import Annotated

import msgspec
import typer

from app.base.database import Database
from app.commands.apply import apply
from app.commands.channel import channel
from app.commands.common import AsJson, console
from app.commands.common import read_settings as _settings
from app.commands.common import run as _run
from app.commands.keys import keys
from app.commands.prices import prices
from app.commands.route import route
from app.commands.secrets import secrets
from app.commands.statements import statement
from app.commands.verify import verify
from app.first_start import Welcome, set_up
from app.private_files import keep_private
from app.processes import run_bookkeeper
from app.schema import migrate as migrate_schema
from app.sealed_rows import check_secret_key
from app.settings import Settings
from app.supervisor import serve as supervise

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
cli.add_typer(keys, name="keys")
cli.add_typer(prices, name="prices")
cli.add_typer(channel, name="channel")
cli.add_typer(route, name="route")
cli.add_typer(secrets, name="secrets")
cli.command()(statement)
cli.command()(apply)
cli.command()(verify)


@cli.command()
def serve(
    without_bookkeeper: Annotated[bool, typer.Option(help="It runs elsewhere, as `tollgate bookkeeper`.")] = False,
) -> None:
    """Migrate, then serve in the foreground: workers, bookkeeper and, unless TOLLGATE_REDIS_URL is set, Redis."""
    settings = _settings()
    keep_private(settings)
    _run(supervise(settings, lambda welcome: _greet(settings, welcome), with_bookkeeper=not without_bookkeeper))


@cli.command()
def bookkeeper() -> None:
    """Post receipts from Redis into the database, until SIGTERM. `serve` runs one already."""
    settings = _settings()
    keep_private(settings)
    _run(run_bookkeeper(settings))


@cli.command()
def migrate(as_json: AsJson = False) -> None:
    """Bring the database to this version's schema; a first start's keys are printed once."""
    settings = _settings()
    keep_private(settings)

    async def work() -> Welcome | None:
        database = Database(settings.database_url)
        try:
            await migrate_schema(database)
            first = await set_up(database, settings)
            await check_secret_key(database, settings.sealer())
        finally:
            await database.close()
        return first

    welcome = _run(work())
    if welcome is not None and not as_json:
        _greet(settings, welcome)
    if as_json:
        keys = {} if welcome is None else msgspec.to_builtins(welcome, enc_hook=str)
        print(json.dumps({"migrated": True, "first_start": welcome is not None, **keys}))


def _greet(settings: Settings, welcome: Welcome) -> None:
    """Shown once, at the first start."""
    address = f"http://{settings.host}:{settings.port}"
    shown_once = " These secrets are shown this once." if welcome.admin_key or welcome.demo_key else ""
    console.print(f"\n[bold]Tollgate is set up.[/bold]{shown_once}\n")
    if welcome.admin_key is not None:
        console.print(f"  admin key       {welcome.admin_key}")
    if welcome.admin_key_file is not None:
        console.print(f"  admin key       in {welcome.admin_key_file}, which its owner alone may read")
    if welcome.demo_key is not None:
        console.print(f"  demo customer   {welcome.demo_key}   (5.00 USD of credit)")
    console.print(f"  console         {address}/console\n")
    if welcome.demo_key is None:
        return
    console.print("Try it:\n")
    print(
        f"curl {address}/v1/chat/completions \\\n"
        f'  -H "Authorization: Bearer {welcome.demo_key}" \\\n'
        f'  -H "Content-Type: application/json" \\\n'
        f"""  -d '{{"model": "sandbox", "messages": [{{"role": "user", "content": "Hello!"}}]}}'\n""",
        flush=True,
    )


def main() -> None:
    cli()


if __name__ == "__main__":
    main()
