"""`python -m benchmarks.faults`: ten upstreams with seeded faults under load.

Exits 0 when every count holds, 1 when any does not, 2 when the run could not be made. Speeds are shown, not judged.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import uvloop
from rich.console import Console

from benchmarks.faults.play import Lengths, Result, play
from benchmarks.faults.report import show
from benchmarks.faults.stage import Setting, stage

_FULL, _SHORT = Lengths(30.0, 150.0, 15.0), Lengths(8.0, 20.0, 10.0)
_SLACK_S = 240.0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the spells and the load")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second, half of them streamed")
    parser.add_argument("--short", action="store_true", help="about 40 s instead of more than three minutes")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--routing", type=msgspec.json.decode, default={}, help="the model's, as JSON")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found there too")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="an empty directory for logs and data, left there")
    return parser.parse_args()


async def _run(given: argparse.Namespace, directory: Path, console: Console) -> Result:
    lengths = _SHORT if given.short else _FULL
    setting = Setting(seed=given.seed, workers=given.workers, routing=given.routing)
    started = time.monotonic()

    def say(text: str) -> None:
        console.print(f"{time.monotonic() - started:6.1f} s  {text}", style="dim", highlight=False)

    most_s = lengths.calm_s + lengths.spells_s + lengths.after_s + _SLACK_S
    async with asyncio.timeout(most_s), stage(setting, directory) as on:
        return await play(on, given.rate, lengths, say)


def main() -> int:
    """Run, show, write; the exit code."""
    console = Console() if sys.stdout.isatty() else Console(width=150)  # of a log file, not of a terminal
    if not sys.platform.startswith("linux"):
        console.print("The fleet relies on how Linux treats sockets, and on namespaces: it runs on Linux only.")
        return 2
    given = _options()
    title = f"Tollgate, {given.rate:.0f} requests/s, {given.workers} workers, seed {given.seed}"
    directory = (given.keep or Path(tempfile.mkdtemp(prefix="tollgate-faults-"))).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(_run(given, directory, console))
    except KeyboardInterrupt:
        return 130
    except Exception:
        console.print_exception(max_frames=6)
        console.print(f"logs and data: {directory}")
        return 2
    show(result, title, console)
    wrong = any(finding.is_wrong for finding in result.findings)
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(result)))
    if wrong or given.keep:
        (directory / "run.json").write_bytes(msgspec.json.encode(result))
        console.print(f"logs, data and every request: {directory}")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
