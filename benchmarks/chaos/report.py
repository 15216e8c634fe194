"""Shows a finished run: faults, requests, receipts, and what must agree. Computes nothing but sums."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.table import Table

from benchmarks.chaos.faults import tally
from benchmarks.chaos.judge import is_excused

if TYPE_CHECKING:
    from rich.console import Console

    from benchmarks.chaos.errand import Sent
    from benchmarks.chaos.office import Receipt
    from benchmarks.chaos.play import Result


_BY_KIND = ("carried out", "lost", "twice", "drift after the repair, nano-USD")


def figures(result: Result) -> dict[str, dict[str, int]]:
    """Every count of the run by table and line."""
    cases = list(result.cases.values())
    answered = sorted(c.sent.ended_ms - c.sent.sent_ms for c in cases if c.sent.outcome == "answered")
    plain = sorted(
        c.sent.ended_ms - c.sent.sent_ms - c.sent.errand.wait_ms
        for c in cases
        if c.sent.outcome == "answered" and not c.sent.errand.stream
    )
    faults = {kind: count.done for kind, count in sorted(tally(result.struck).items())}
    served = {
        "seen by the upstream": sum(c.served.seen > 0 for c in cases),
        "served to the end": sum(c.served.whole > 0 for c in cases),
        "streams among them": sum(c.served.whole > 0 and c.sent.errand.stream for c in cases),
        "frames among them": sum(c.served.frames for c in cases),
    }
    return {
        "faults": faults,
        "requests, as their clients saw them": dict(sorted(Counter(_outcome(c.sent) for c in cases).items())),
        "requests, as the upstream saw them": served,
        "receipts": dict(sorted(Counter(_receipt(r) for r in result.receipts).items())),
        "excused": {
            "expired, explained by a kill": sum(is_excused(c, result.struck) for c in cases),
        },
        "latency of whole answers, ms": {
            "p50": _at(answered, 0.5),
            "p99": _at(answered, 0.99),
            "longest": _at(answered, 1.0),
            "plain, less the upstream's own: p50": _at(plain, 0.5),
            "plain, less the upstream's own: p99": _at(plain, 0.99),
        },
        "payments": {"made": result.paid_count, "calls for them": result.paid_calls},
        "watch": {
            "looks at a wallet": result.watch.looks,
            "looks while Redis was being rebuilt": result.watch.rebuilding,
            "verdicts": result.watch.verdicts,
            "lowest balance seen, nano-USD": result.watch.lowest_nano or 0,
        },
    }


def _outcome(sent: Sent) -> str:
    outcome, code = sent.outcome, sent.code
    return f"{outcome} ({code})" if code and outcome != "cut" else outcome


def _receipt(receipt: Receipt) -> str:
    status, ending, source = receipt.status, receipt.ending, receipt.usage_source
    return f"{status}{f' {ending}' if ending else ''}, usage {source}"


def _at(values: list[int], share: float) -> int:
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0


def _by_kind(result: Result) -> Table:
    table = Table(title="Faults that took writes from Redis", title_justify="left")
    table.add_column("fault")
    for name in _BY_KIND:
        table.add_column(name, justify="right")
    for kind in result.by_kind:
        wrong = kind.lost or kind.twice or kind.drift_nano
        numbers = (kind.done, kind.lost, kind.twice, kind.drift_nano)
        table.add_row(kind.kind, *(f"{number:,}" for number in numbers), style="bold red" if wrong else None)
    return table


def show(result: Result, title: str, console: Console) -> None:
    """Print the tables."""
    table = Table(title=title, title_justify="left")
    for name in ("of", "what"):
        table.add_column(name)
    table.add_column("how many", justify="right")
    for name, lines in figures(result).items():
        for number, (what, count) in enumerate(lines.items()):
            table.add_row("" if number else name, what, f"{count:,}")
        table.add_section()
    console.print(table)
    if result.by_kind:
        console.print(_by_kind(result))
    books = Table(title=f"The books, {result.calm_s:.0f} s after the last fault", title_justify="left")
    books.add_column("must agree")
    for name in ("expected", "found", "difference"):
        books.add_column(name, justify="right")
    for finding in result.findings:
        numbers = (finding.expected, finding.found, finding.difference)
        style = "bold red" if finding.difference else None
        books.add_row(finding.what, *(f"{number:,}" for number in numbers), style=style)
    console.print(books)
    for finding in result.findings:
        if finding.difference:
            console.print(f"[bold red]{finding.what}[/bold red]")
            for example in finding.examples:
                console.print(f"  {example}", soft_wrap=True, highlight=False, markup=False)
    differ = sum(finding.difference != 0 for finding in result.findings)
    console.print(
        f"{len(result.findings)} checks: {f'[bold red]{differ} differ' if differ else '[bold green]all agree'}"
    )
