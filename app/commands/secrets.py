"""`tollgate secrets`: the key that credentials are sealed with."""

import json

import typer

from app.base.database import Database
from app.commands.common import AsJson, console, read_settings, run
from app.sealed_rows import seal_anew

__all__ = ["secrets"]

secrets = typer.Typer(no_args_is_help=True, help=__doc__)


@secrets.callback()
def _group() -> None:
    """Keeps `rotate` a command of its own while it is the only one."""


@secrets.command()
def rotate(as_json: AsJson = False) -> None:
    """Seal everything anew under TOLLGATE_SECRET_KEY, opened with TOLLGATE_OLD_SECRET_KEY where that was used before.
    Gateways that know both keys go on serving."""
    settings = read_settings()
    if not settings.old_secret_key:
        typer.echo(
            "TOLLGATE_OLD_SECRET_KEY is not set: start every gateway with the new key as TOLLGATE_SECRET_KEY and the"
            " former one as TOLLGATE_OLD_SECRET_KEY, then run this with the same two",
            err=True,
        )
        raise typer.Exit(2)

    async def work() -> int:
        database = Database(settings.database_url)
        try:
            return await seal_anew(database, settings.sealer())
        finally:
            await database.close()

    sealed = run(work())
    if as_json:
        typer.echo(json.dumps({"sealed": sealed}))
    else:
        console.print(f"{sealed} credentials and secrets are sealed under TOLLGATE_SECRET_KEY.")
        console.print("TOLLGATE_OLD_SECRET_KEY is needed no more: unset it at the next start of each gateway.")
