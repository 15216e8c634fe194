"""`python -m benchmarks.day`: every strategy through the same day, against its ideal; a table, and plots in docs/img.

Exits 1 where a strategy is further from its ideal than it may be.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.day.ideal import STRATEGIES, Outcome, judge
from benchmarks.day.simulate import Day, Served
from benchmarks.day.svg import areas, bars, legend, page, text
from benchmarks.day.world import MINUTES, VENDORS, requests

_NAMES = tuple(vendor.name for vendor in VENDORS)
_WIDE, _HIGH, _LEFT, _GAP = 720, 96, 90, 34


def split_plot(days: Mapping[str, Sequence[Served]]) -> str:
    """Where each minute's requests went, a band a vendor, a panel a strategy."""
    parts = [text(_LEFT, 20, "Where each minute's requests went", weight="bold"), *legend(_LEFT, 42, _NAMES)]
    for row, (name, served) in enumerate(days.items()):
        y = 58 + row * (_HIGH + _GAP)
        parts += areas(_LEFT, y, _WIDE - _LEFT - 20, _HIGH, _by_minute(served))
        parts.append(text(_LEFT - 8, y + _HIGH / 2, name, "end"))
        for minute in range(0, MINUTES + 1, 5):
            x = _LEFT + (_WIDE - _LEFT - 20) * minute / MINUTES
            parts.append(text(x, y + _HIGH + 15, f"{minute} min" if minute else "0", "middle"))
    return page(_WIDE, 58 + len(days) * (_HIGH + _GAP), parts)


def figures_plot(outcomes: Mapping[str, Outcome]) -> str:
    latency, cost = outcomes["latency"], outcomes["cost"]
    firsts = {name: one.first_mean_ms for name, one in outcomes.items()} | {"ideal": latency.ideal}
    usd = {name: one.usd for name, one in outcomes.items()} | {"ideal": cost.ideal}
    cached = {name: one.cached * 100 for name, one in outcomes.items()}
    cached["ideal"] = (1 - outcomes["sticky"].ideal) * 100
    parts = bars(10, 22, _WIDE, "Mean time to first content", firsts, " ms")
    parts += bars(10, 194, _WIDE, "Cost of a thousand requests", usd, " USD")
    parts += bars(10, 366, _WIDE, "Later turns that found their prompt cached", cached, " %")
    return page(_WIDE, 520, parts)


def _by_minute(served: Sequence[Served]) -> dict[str, list[float]]:
    counts = Counter((one.request.at_ms // 60_000, one.vendor) for one in served if one.vendor)
    totals = [sum(counts[minute, name] for name in _NAMES) or 1 for minute in range(MINUTES)]
    return {name: [counts[minute, name] / totals[minute] for minute in range(MINUTES)] for name in _NAMES}


def table_of(outcomes: Mapping[str, Outcome], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("strategy")
    for name in (
        *_NAMES,
        "USD/1000",
        "first mean",
        "p95",
        "cached",
        "failed",
        "after",
        "own",
        "ideal",
        "excess",
        "most",
    ):
        table.add_column(name, justify="right")
    for strategy in STRATEGIES:
        one = outcomes[strategy.name]
        table.add_row(
            strategy.name,
            *(f"{one.split.get(name, 0.0):.0%}" for name in _NAMES),
            f"{one.usd:.2f}",
            f"{one.first_mean_ms:.0f}",
            f"{one.first_p95_ms:.0f}",
            f"{one.cached:.0%}",
            str(one.failed),
            strategy.what,
            f"{one.own:.3f}",
            f"{one.ideal:.3f}",
            f"{one.excess:+.1%}",
            f"{strategy.bound:.0%}",
            style="bold red" if one.excess > strategy.bound else None,
        )
    return table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.day", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write day-split.svg and day-figures.svg there")
    given = parser.parse_args()
    day = requests(given.seed)
    days = {strategy.name: Day(strategy.routing, given.seed).run(day) for strategy in STRATEGIES}
    outcomes = {strategy.name: judge(strategy, days[strategy.name]) for strategy in STRATEGIES}
    Console(width=190).print(
        table_of(outcomes, f"{len(day):,} requests in {MINUTES} virtual minutes, seed {given.seed}")
    )
    if given.plots:
        given.plots.mkdir(parents=True, exist_ok=True)
        (given.plots / "day-split.svg").write_text(split_plot(days))
        (given.plots / "day-figures.svg").write_text(figures_plot(outcomes))
    return int(any(outcomes[strategy.name].excess > strategy.bound for strategy in STRATEGIES))


if __name__ == "__main__":
    sys.exit(main())
