"""Shows a finished run: one table of figures, one of the books. Computes nothing but the verdict."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.figures import Line
from benchmarks.reconcile import Check
from benchmarks.rounds import Visit


class Machine(msgspec.Struct, frozen=True):
    """Where it ran, so that two reports can be told apart."""

    processor: str
    cores: int
    system: str
    python: str
    load_average: float

    @staticmethod
    def here() -> Machine:
        """This machine, now."""
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        system = f"{platform.system()} {platform.release()}"
        model = models[0] if models else platform.machine()
        return Machine(model, os.cpu_count() or 1, system, platform.python_version(), os.getloadavg()[0])


class Report(msgspec.Struct, kw_only=True):
    """All of a run. `cpu_ms_per_request` is over the whole run, the bookkeeper's backlog included."""

    machine: Machine
    layout: str
    database: str
    rounds: int
    seconds: float
    points: dict[str, list[Line]] = {}
    memory: list[Line] = []
    cpu_ms_per_request: dict[str, float] = {}
    harness_us_per_request: dict[str, float] = {}
    sync_ms: float = 0.0
    catch_up_s: float = 0.0
    checks: list[Check] = []
    visits: list[Visit] = []

    @property
    def differences(self) -> list[Check]:
        """What does not agree; empty when the run is good."""
        return [check for check in self.checks if check.difference]


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}".rstrip("0").rstrip(".")


def show(report: Report, console: Console) -> None:
    """Print the tables."""
    machine = report.machine
    title = f"Tollgate, layout {report.layout}, {report.database}, {report.rounds} rounds of {report.seconds} s"
    table = Table(title=title, title_justify="left")
    for name, justify in (
        ("load", "left"),
        ("figure", "left"),
        ("median", "right"),
        ("lowest", "right"),
        ("highest", "right"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("unit")
    for point, lines in [*report.points.items(), ("whole run", report.memory)]:
        for number, line in enumerate(lines):
            spread = (line.value.median, line.value.low, line.value.high)
            table.add_row("" if number else point, line.name, *map(_number, spread), line.unit)
        table.add_section()
    for role, cpu_ms in report.cpu_ms_per_request.items():
        table.add_row("", f"CPU a request, {role}, backlog too", _number(cpu_ms), "", "", "ms")
    for part, cpu_us in report.harness_us_per_request.items():
        table.add_row("", f"the harness itself, {part}", _number(cpu_us), "", "", "us CPU a request")
    table.add_row("", "the disk itself, an append and its sync", _number(report.sync_ms), "", "", "ms")
    console.print(table)
    console.print(
        f"{machine.processor}, {machine.cores} cores, {machine.system}, Python {machine.python}, "
        f"load average {machine.load_average:.2f} at the start"
    )
    _show_checks(report, console)


def _show_checks(report: Report, console: Console) -> None:
    table = Table(title=f"The books, {report.catch_up_s:.1f} s after the last request", title_justify="left")
    table.add_column("must agree")
    for name in ("expected", "found", "difference"):
        table.add_column(name, justify="right")
    for check in report.checks:
        style = "bold red" if check.difference else None
        numbers = (check.expected, check.found, check.difference)
        table.add_row(check.what, *(f"{number:,}" for number in numbers), style=style)
    console.print(table)
    verdict = f"[bold red]{len(report.differences)} differ" if report.differences else "[bold green]all agree"
    console.print(f"{len(report.checks)} checks: {verdict}")
