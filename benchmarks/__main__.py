"""`python -m benchmarks`: calibrate, measure in rounds, wait for the books, hold them against the upstream,
report.

Exits 0 when every count agrees, 1 when any does not. It sets no threshold on speed: figures of a shared
machine are to be read, not asserted.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console

from benchmarks.disk import sync_ms
from benchmarks.figures import lines, memory_lines
from benchmarks.gateway import Cores, Gateway, postgres, running_gateway, upstream
from benchmarks.operator_api import Customer, Operator
from benchmarks.processes import Tree, inherited_cores
from benchmarks.reconcile import Check, reconcile, upstream_count, wait_for_ledger
from benchmarks.report import Machine, Report, show
from benchmarks.rounds import POINTS, Sides, Visit, cpu_difference, send, visit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.exchange import Figures


WARM_UP_S = 0.3
STREAM_MS_MAX = 5000  # well below the time that the load waits for what is in flight


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The command line."""

    layout: str
    database: str
    rounds: int
    seconds: float
    frames: int
    interval_ms: float
    library: bool
    json: Path | None


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about 20 s: two rounds of short visits")
    parser.add_argument(
        "--layout", choices=("one-core", "worker"), default="one-core", help="what the first core carries"
    )
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--rounds", type=int, help="3 unless --quick")
    parser.add_argument("--seconds", type=float, help="of one visit; 2.5 unless --quick")
    parser.add_argument("--frames", type=int, default=30, help="content frames a stream")
    parser.add_argument("--interval-ms", type=float, default=15.0, help="time between two frames of a stream")
    parser.add_argument(
        "--library", action="store_true", help="call the upstream by the HTTP library, as vendors with TLS are"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args()
    if given.frames < 1 or given.interval_ms < 0 or given.frames * given.interval_ms > STREAM_MS_MAX:
        parser.error(f"a stream has a frame at least, and takes {STREAM_MS_MAX} ms at most")
    rounds, seconds = (2, 0.35) if given.quick else (3, 2.5)
    return Options(
        layout=given.layout,
        database=given.database,
        rounds=max(1, min(given.rounds or rounds, 50)),
        seconds=max(0.2, min(given.seconds or seconds, 60.0)),
        frames=given.frames,
        interval_ms=given.interval_ms,
        library=given.library,
        json=given.json,
    )


@contextmanager
def _stage(options: Options, cores: Cores) -> Iterator[tuple[Gateway, int, tuple[int, int]]]:
    """Everything up: the gateway, the upstream's port behind it, port and pid of the one for direct load."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tollgate-bench-")))
        behind_port, _ = stack.enter_context(upstream(cores.harness, options.frames, options.interval_ms))
        direct = stack.enter_context(upstream(cores.harness, options.frames, options.interval_ms))
        database_url, database_pid = None, None
        if options.database == "postgres":
            database_url, database_pid = stack.enter_context(postgres(directory, cores.others))
        gateway = stack.enter_context(running_gateway(directory, cores, database_url, database_pid))
        yield gateway, behind_port, direct


def _calibrate(sides: Sides, upstream_pid: int, cores: Cores) -> dict[str, float]:
    """What the harness itself takes of its core, so that a reader sees that it is not what was measured."""
    tree = Tree([upstream_pid], Path(tempfile.gettempdir()) / "nobody-works-here")
    before = tree.cpu_s()
    figures = send(POINTS[1], sides.direct_port, sides, 1.0, cores.harness)
    cpu_s = sum(cpu_difference(before, tree.cpu_s()).values())
    return {"load": figures.cpu_us_per_request, "upstream": cpu_s * 1e6 / max(1, figures.requests)}


def _measure(
    options: Options, sides: Sides, tree: Tree, cores: Cores, console: Console
) -> tuple[list[Visit], list[Figures]]:
    """All rounds. The first loads warm the gateway up: they count for the books, not for the figures."""
    loads = [send(point, sides.gateway_port, sides, WARM_UP_S, cores.harness) for point in POINTS[1:]]
    visits = []
    for number in range(options.rounds):
        for point in POINTS:
            console.print(f"round {number + 1} of {options.rounds}: {point.name}", style="dim")
            visits.append(visit(point, sides, tree, cores, options.seconds))
            loads.append(visits[-1].gateway)
    return visits, loads


def _run(options: Options, console: Console) -> Report:
    cores = Cores.of(options.layout)
    report = Report(
        machine=Machine.here(),
        layout=options.layout,
        database=options.database,
        rounds=options.rounds,
        seconds=options.seconds,
    )
    with (
        inherited_cores({cores.harness}),
        _stage(options, cores) as (gateway, behind_port, (direct_port, direct_pid)),
    ):
        operator = Operator(gateway.port, gateway.admin_key)
        customer = operator.set_up(behind_port, by_library=options.library)
        sides = Sides(
            direct_port=direct_port,
            gateway_port=gateway.port,
            key=customer.key,
            frames=options.frames,
            interval_ms=options.interval_ms,
        )
        report.harness_us_per_request = _calibrate(sides, direct_pid, cores)
        report.sync_ms = sync_ms()
        cpu_before = gateway.tree.cpu_s()
        report.visits, loads = _measure(options, sides, gateway.tree, cores, console)
        _audit(
            report,
            operator=operator,
            customer=customer,
            gateway=gateway,
            behind_port=behind_port,
            loads=loads,
            cpu_before=cpu_before,
        )
        operator.close()
    assert gateway.exit_code is not None
    report.checks += [
        Check("exit code after SIGTERM", 0, gateway.exit_code),
        Check("processes left behind", 0, len(gateway.left_behind)),
    ]
    for point in POINTS:
        report.points[point.name] = lines(point, [v for v in report.visits if v.point == point.name])
    report.memory = memory_lines(report.visits)
    return report


def _audit(
    report: Report,
    *,
    operator: Operator,
    customer: Customer,
    gateway: Gateway,
    behind_port: int,
    loads: list[Figures],
    cpu_before: dict[str, float],
) -> None:
    """Wait for the books; take the CPU of the whole run before reading them costs more of it; reconcile."""
    report.catch_up_s = wait_for_ledger(operator, customer)
    served = upstream_count(behind_port)
    cpu_s = cpu_difference(cpu_before, gateway.tree.cpu_s())
    report.cpu_ms_per_request = {role: s * 1000 / max(1, served.requests) for role, s in cpu_s.items()}
    report.checks = reconcile(operator, customer, served, loads)


def main() -> int:
    """Run, show, write; the exit code."""
    console = Console() if sys.stdout.isatty() else Console(width=120)  # of a log file, not of a terminal
    if not sys.platform.startswith("linux"):
        console.print("The benchmark reads /proc and pins processes to cores: it runs on Linux only.")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    options = _options()
    report = _run(options, console)
    show(report, console)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    return 1 if report.differences else 0


if __name__ == "__main__":
    sys.exit(main())
