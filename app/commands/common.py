"""What every command does: read the settings, run its work, and say an error of ours as one line."""

import sys
from collections.abc import Coroutine
from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console

from app.base.crypto import UnsealError
from app.base.errors import TollgateError
from app.settings import Settings, SettingsError, load_settings, start_logging
from app.supervisor import AlreadyRunning

__all__ = ["AsJson", "console", "read_settings", "run"]

console = Console(highlight=False, soft_wrap=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def read_settings() -> Settings:
    """Exits with 2 where the environment has a value that can't be used."""
    try:
        settings = load_settings()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(2) from None
    start_logging(settings)
    return settings


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """What the work returns. Exits with 1 at an error that has been foreseen."""
    try:
        return uvloop.run(work)
    except (TollgateError, AlreadyRunning, LookupError, SettingsError, UnsealError) as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(1) from None
