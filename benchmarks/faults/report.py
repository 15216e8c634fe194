"""Shows a finished run. Computes nothing but sums."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from rich.table import Table

from benchmarks.faults.plan import KINDS, well_least

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from benchmarks.faults.judge import Finding, Speeds
    from benchmarks.faults.play import Result


def show(result: Result, title: str, console: Console) -> None:
    """Print the tables."""
    console.print(_faults(result, title))
    console.print(_speeds(result))
    findings = result.findings
    console.print(_counts(findings))
    for finding in findings:
        if finding.is_wrong or (finding.found and finding.most):
            console.print(f"[bold]{finding.what}[/bold]")
            for example in finding.examples:
                console.print(f"  {example}", soft_wrap=True, highlight=False, markup=False)
    wrong = sum(finding.is_wrong for finding in findings)
    console.print(f"{len(findings)} checks: {f'[bold red]{wrong} are wrong' if wrong else '[bold green]all hold'}")


def _faults(result: Result, title: str) -> Table:
    table = Table(title=f"{title}; at least {well_least(result.spells)} of ten channels well", title_justify="left")
    for name in ("fault", "what the upstream does"):
        table.add_column(name)
    for name in ("spells", "requests that met it", "tries that failed", "back after, s: worst (due)"):
        table.add_column(name, justify="right")
    met = Counter(visit.fault for visit in result.visits)
    failed = _failed_tries(result)
    back: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for one in result.recovered:
        if one.after_s is not None:
            back[one.spell.kind].append((one.after_s, one.due_s))
    for kind, what in KINDS.items():
        spells = sum(spell.kind == kind for spell in result.spells)
        worst = "{:.1f} ({:.1f})".format(*max(back[kind])) if back[kind] else "-"
        table.add_row(kind, what, str(spells), f"{met[kind]:,}", f"{failed[kind]:,}", worst)
    return table


def _failed_tries(result: Result) -> Counter[str]:
    """By the fault that the channel had when the request was made; many never reach it."""
    at_s = {one.request_id: one.at_s for one in result.sent}
    tries: Counter[str] = Counter()
    for receipt in result.receipts:
        for attempt in receipt.attempts:
            if attempt.error and receipt.request_id in at_s:
                tries[result.fault_of(attempt.channel_id, at_s[receipt.request_id])] += 1
    return tries


def _speeds(result: Result) -> Table:
    table = Table(title="Milliseconds: plain answers, and first content of streams", title_justify="left")
    table.add_column("requests")
    for name in ("answers", "plain p50", "plain p99", "first p50", "first p99", "p99 against no faults"):
        table.add_column(name, justify="right")
    rows: tuple[tuple[str, Speeds], ...] = (
        ("without faults", result.calm),
        ("with faults, served at once by a channel that is well", result.healthy),
        ("with faults, all", result.all),
    )
    for what, one in rows:
        figures = (one.plain_p50, one.plain_p99, one.first_p50, one.first_p99)
        more = f"{_more(one.plain_p99, result.calm.plain_p99)}, {_more(one.first_p99, result.calm.first_p99)}"
        table.add_row(what, f"{one.requests:,}", *(f"{figure:.1f}" for figure in figures), more)
    return table


def _more(found: float, calm: float) -> str:
    return f"{found / calm - 1:+.0%}" if calm else "-"


def _counts(findings: Sequence[Finding]) -> Table:
    table = Table(title="What must hold", title_justify="left")
    table.add_column("count")
    for name in ("found", "at most"):
        table.add_column(name, justify="right")
    for finding in findings:
        style = "bold red" if finding.is_wrong else None
        table.add_row(finding.what, f"{finding.found:,}", f"{finding.most:,}", style=style)
    return table
