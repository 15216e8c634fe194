"""`python -m benchmarks.chaos`: faults under load, then the books.

Exits 0 when every count agrees, 1 when any does not, 2 when the run could not be made.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import uvloop
from rich.console import Console

from benchmarks.chaos.plan import Kind, draw, kinds
from benchmarks.chaos.play import CALM_S, Result, play
from benchmarks.chaos.report import figures, show
from benchmarks.chaos.servers import HERE
from benchmarks.chaos.stage import Setting, stage

_START_MOST_S = 90.0
_REPAIR_MOST_S = 60.0  # what one fault may take beyond its time
_SHORT_SEED = 2
_SHORT_FAULTS = 11


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The command line."""

    setting: Setting
    faults: int
    minutes: float
    short: bool
    among: list[Kind]
    json: Path | None
    keep: Path | None


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="of the faults and the load; drawn, and printed, unless given")
    parser.add_argument("--faults", type=int, help="60 unless --short")
    parser.add_argument("--minutes", type=float, help="of faults; 5 unless --short")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="postgres")
    parser.add_argument("--cluster", action="store_true", help="Redis is a cluster of three nodes")
    short = f"{_SHORT_FAULTS} faults in half a minute, seed {_SHORT_SEED}"
    parser.add_argument("--short", action="store_true", help=short)
    parser.add_argument("--only", default="", metavar="TEXT", help="faults whose name has this text, such as 'Redis'")
    parser.add_argument("--emptied", action="store_true", help="also empty Redis at any moment")
    parser.add_argument("--lease", type=int, default=5, help="seconds that a hold outlives its worker")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--checkout", type=Path, default=HERE, help="whose gateway to break; its own .venv is used")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="an empty directory for logs and data, left there")
    given = parser.parse_args()
    drawn = _SHORT_SEED if given.short else time.time_ns() // 1000 % 1_000_000
    setting = Setting(
        seed=drawn if given.seed is None else given.seed,
        checkout=given.checkout.resolve(),
        database=given.database,
        cluster=given.cluster,
        lease_s=max(2, min(given.lease, 60)),
        workers=max(1, min(given.workers, 8)),
        clients=max(8, min(given.clients, 200)),
        top_up_every_s=1.0,
    )
    possible = kinds(setting.database, setting.lease_s, emptied=given.emptied, cluster=setting.cluster)
    among = [kind for kind in possible if given.only in kind.name]
    if not among:
        parser.error(f"no fault has {given.only!r} in its name")
    return Options(
        setting=setting,
        faults=max(1, min(given.faults or (_SHORT_FAULTS if given.short else 60), 1000)),
        minutes=max(0.1, min(given.minutes or (0.5 if given.short else 5.0), 120.0)),
        short=given.short,
        among=among,
        json=given.json,
        keep=given.keep,
    )


async def _run(options: Options, directory: Path, console: Console) -> Result:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)  # type: ignore[union-attr]
    setting = options.setting
    plan = draw(setting.seed, options.faults, options.minutes * 60, options.among, short=options.short)
    most_s = _START_MOST_S + options.minutes * 90 + options.faults * _REPAIR_MOST_S + 3 * CALM_S
    started = time.monotonic()

    def say(text: str) -> None:
        console.print(f"{time.monotonic() - started:6.1f} s  {text}", style="dim", highlight=False)

    async with asyncio.timeout(most_s), stage(setting, directory, say) as on:
        return await play(on, plan)


def _clear(directory: Path, options: Options) -> None:
    if options.keep is None:
        shutil.rmtree(directory, ignore_errors=True)


def main() -> int:
    """Run, show, write; the exit code."""
    console = Console() if sys.stdout.isatty() else Console(width=120)  # of a log file, not of a terminal
    if not sys.platform.startswith("linux"):
        console.print("The fault test reads /proc and signals through pidfds: it runs on Linux only.")
        return 2
    options = _options()
    setting = options.setting
    title = f"Tollgate, {options.faults} faults in {options.minutes} min, {setting.database}, seed {setting.seed}"
    console.print(title)
    directory = (options.keep or Path(tempfile.mkdtemp(prefix="tollgate-chaos-"))).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(_run(options, directory, console))
    except (KeyboardInterrupt, asyncio.CancelledError):
        _clear(directory, options)
        return 130
    except Exception:
        console.print_exception(max_frames=6)
        console.print(f"logs and data: {directory}")
        return 2
    show(result, title, console)
    if options.json:
        report = {
            "title": title,
            "setting": setting,
            "figures": figures(result),
            "by_kind": result.by_kind,
            "findings": result.findings,
        }
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report, enc_hook=str)))
    differs = any(finding.difference for finding in result.findings)
    if differs or options.keep:
        (directory / "run.json").write_bytes(msgspec.json.encode(result))
        console.print(f"logs, data and every request: {directory}")
    else:
        _clear(directory, options)
    return 1 if differs else 0


if __name__ == "__main__":
    sys.exit(main())
