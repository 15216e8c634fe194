"""`python -m benchmarks.against CHECKOUT`: whether this checkout is slower than another one.

A gateway of each runs at the same time, idle while the other one is measured, and the same load visits them in turn:
within a round first one, then the other, in the next round the other way round. A ratio is taken inside a round, so
that what changes on the machine from one minute to the next meets both. Both are started anew several times, since one
process may be some percent quicker than another of the same code. The table shows the median ratio over all rounds with
its quartiles. Both run under the Python that runs this, with what is installed there.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.gateway import Cores, Gateway, running_gateway, upstream
from benchmarks.operator_api import Operator
from benchmarks.processes import inherited_cores
from benchmarks.rounds import POINTS, Point, Sides, cpu_difference, send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HERE = Path(__file__).parents[1]
WARM_UP_S = 1.0
FRAMES, INTERVAL_MS = 30, 15.0


class Look(msgspec.Struct, frozen=True):
    """One visit to one gateway. Units: requests/s or frames/s, ms of CPU a request by process."""

    rate: float
    cpu_ms: dict[str, float]


Looks = dict[str, list[tuple[Look, Look]]]


class Side(msgspec.Struct, frozen=True):
    """A gateway that is measured, and how it is reached."""

    gateway: Gateway
    sides: Sides

    def look(self, point: Point, seconds: float, core: int) -> Look:
        """Raises RuntimeError where anything but a 200 came back: a refusal is quick, and says nothing of speed."""
        before = self.gateway.tree.cpu_s()
        figures = send(point, self.sides.gateway_port, self.sides, seconds, core)
        cpu_s = cpu_difference(before, self.gateway.tree.cpu_s())
        if figures.errors or set(figures.statuses) != {"200"}:
            raise RuntimeError(f"{point.name}: {figures.statuses} {figures.errors}")
        rate = figures.stream.frames_per_s if figures.stream else figures.requests_per_s
        return Look(rate, {role: s * 1000 / figures.requests for role, s in cpu_s.items()})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description=__doc__)
    parser.add_argument("checkout", type=Path, help="the root of the other one, such as a git worktree")
    parser.add_argument("--layout", choices=("one-core", "worker"), default="one-core")
    parser.add_argument("--starts", type=int, default=6, help="how often both are started anew")
    parser.add_argument("--rounds", type=int, default=6, help="after each start")
    parser.add_argument("--seconds", type=float, default=0.8, help="of one visit")
    parser.add_argument("--points", nargs="+", choices=[p.name for p in POINTS], default=[p.name for p in POINTS[1:]])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every look there")
    options = parser.parse_args()
    if not (options.checkout / "app" / "cli.py").is_file():
        parser.error(f"{options.checkout}: there is no checkout of the gateway")
    return options


def _start(stack: ExitStack, checkout: Path, cores: Cores) -> Side:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tollgate-bench-")))
    upstream_port, _ = stack.enter_context(upstream(cores.harness, FRAMES, INTERVAL_MS))
    gateway = stack.enter_context(running_gateway(directory, cores, checkout=checkout))
    operator = Operator(gateway.port, gateway.admin_key)
    stack.callback(operator.close)
    customer = operator.set_up(upstream_port)
    sides = Sides(
        direct_port=upstream_port,
        gateway_port=gateway.port,
        key=customer.key,
        frames=FRAMES,
        interval_ms=INTERVAL_MS,
    )
    return Side(gateway, sides)


def _measure(options: argparse.Namespace, console: Console) -> Looks:
    """By point, the looks of each round: this checkout's, and the other one's."""
    cores = Cores.of(options.layout)
    points = [point for point in POINTS if point.name in options.points]
    looks: Looks = {point.name: [] for point in points}
    for start in range(options.starts):
        console.print(f"start {start + 1} of {options.starts}", style="dim")
        with inherited_cores({cores.harness}), ExitStack() as stack:
            order = (HERE, options.checkout.resolve())
            started = {checkout: _start(stack, checkout, cores) for checkout in (order if start % 2 else order[::-1])}
            ours, theirs = (started[checkout] for checkout in order)
            for side in started.values():
                for point in points:
                    side.look(point, WARM_UP_S, cores.harness)
            for number in range(options.rounds):
                for point in points:
                    turns = (ours, theirs) if number % 2 else (theirs, ours)
                    seen = {id(side): side.look(point, options.seconds, cores.harness) for side in turns}
                    looks[point.name].append((seen[id(ours)], seen[id(theirs)]))
    return looks


def _show(looks: Looks, console: Console) -> None:
    table = Table("load", "figure", "this one", "the other", "ratio", "quartiles")
    for point, rounds in looks.items():
        _row(table, point, "frames/s" if "stream" in point else "requests/s", rounds, lambda look: look.rate)
        _row(table, "", "CPU ms a request, total", rounds, lambda look: sum(look.cpu_ms.values()))
        for role in sorted({role for pair in rounds for look in pair for role in look.cpu_ms}):
            _row(table, "", f"CPU ms a request, {role}", rounds, lambda look, role=role: look.cpu_ms.get(role, 0.0))
    console.print(table)


def _row(
    table: Table, point: str, figure: str, rounds: Iterable[tuple[Look, Look]], measure: Callable[[Look], float]
) -> None:
    pairs = [(measure(ours), measure(theirs)) for ours, theirs in rounds]
    ratios = [ours / theirs for ours, theirs in pairs if theirs]
    if not ratios:
        return
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    table.add_row(point, figure, f"{ours:,.3f}", f"{theirs:,.3f}", f"{middle:.3f}", f"{low:.3f} to {high:.3f}")


def main() -> int:
    """Measure, show, write."""
    console = Console() if sys.stdout.isatty() else Console(width=120)
    options = _options()
    looks = _measure(options, console)
    _show(looks, console)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(looks)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
