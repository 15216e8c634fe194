"""`tollgate verify`: every invariant of the books; and with `--repair`, what of it can be put right."""

import json
from typing import Annotated, Any

import typer
from rich.table import Table

from app.base.money import format_usd
from app.books import Books, open_books
from app.commands.common import AsJson, console
from app.commands.common import read_settings as _settings
from app.commands.common import run as _run
from app.ledger.repair import Repair
from app.ledger.verify import Verdict

__all__ = ["verify"]

_WHY = "tollgate verify --repair"


def verify(
    repair: Annotated[
        bool, typer.Option("--repair", help="Show which wallets in Redis differ from the books, and put them right.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --repair: do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check every invariant of the books: exit 1 where one does not hold.

    With --repair, wallets in Redis that differ from the books are shown first, and rebuilt from the journal and the
    stream after a yes. Nothing of the journal changes, but that each repair is an entry that says what was found.
    """
    wanted: list[Repair] = []
    if repair:
        wanted = _with_books(lambda books: books.repair(_WHY, is_trial=True))
        if wanted and not as_json:
            _show(wanted)
        if wanted and (yes or typer.confirm("Put these wallets right?", err=True)):
            wanted = _with_books(lambda books: books.repair(_WHY, is_trial=False))
    verdict: Verdict = _with_books(lambda books: books.verify())
    if as_json:
        repairs = {"repairs": [_repair_as_json(each) for each in wanted]} if repair else {}
        typer.echo(json.dumps(_as_json(verdict) | repairs))
    else:
        _show_verdict(verdict)
    raise typer.Exit(0 if verdict.ok else 1)


def _with_books(work: Any) -> Any:
    async def run() -> Any:
        books: Books = await open_books(_settings())
        try:
            return await work(books)
        finally:
            await books.close()

    return _run(run())


def _as_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "ok": verdict.ok,
        "drift_nano": verdict.drift_nano,
        "checked": verdict.checked,
        "problems": verdict.problems,
    }


def _repair_as_json(made: Repair) -> dict[str, Any]:
    return {
        "account_id": made.account_id,
        "problems": list(made.problems),
        "balance_before": format_usd(made.balance_before_nano),
        "balance_after": format_usd(made.balance_after_nano),
        "entry_id": made.entry_id,
    }


def _show(wanted: list[Repair]) -> None:
    table = Table("account", "in Redis", "by the books", "what differs")
    for each in wanted:
        before, after = format_usd(each.balance_before_nano), format_usd(each.balance_after_nano)
        table.add_row(each.account_id, before, after, "\n".join(each.problems))
    console.print(table)


def _show_verdict(verdict: Verdict) -> None:
    table = Table("checked", "how many")
    for name, count in verdict.checked.items():
        table.add_row(name.replace("_", " "), f"{count:,}")
    console.print(table)
    for problem in verdict.problems:
        console.print(f"[red]{problem}[/red]")
    console.print("[green]The books are in order.[/green]" if verdict.ok else "[red]The books are not in order.[/red]")
