"""The gateway of a run: `serve` with its documented environment, and its processes by what they are.

What was started for it is known by its environment (it names this run's data directory), so that children whose
supervisor was killed are found too, and nobody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
from pathlib import Path

import httpx

from benchmarks.chaos.victims import Grip, Victim, strike
from benchmarks.ports import free_port
from benchmarks.processes import PROC, Tree

DRAIN_S = 5
_GONE_S = 15.0


def python_of(checkout: Path) -> str:
    """The interpreter that a checkout is served by: its own, or this one."""
    own = checkout / ".venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable


class House(Victim):
    """`unplanned` counts ends that nobody ordered, `kept_out` starts that an earlier one's processes prevented,
    `exits` are the codes after SIGTERM."""

    def __init__(
        self, checkout: Path, directory: Path, database_url: str | None, redis_url: str, lease_s: int, workers: int
    ) -> None:
        data = directory / "data"
        data.mkdir()
        self.port = free_port()
        self.admin_key = secrets.token_urlsafe(32)
        self.url = f"http://127.0.0.1:{self.port}"
        self.unplanned = self.kept_out = 0
        self.exits: list[int | None] = []
        self.database_file = data / "tollgate.db"  # where no URL is given
        self._spool = data / "spool"
        self._mark = b"TOLLGATE_DATA_DIR=" + bytes(data)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TOLLGATE_")}
        environment |= {
            "TOLLGATE_HOST": "127.0.0.1",
            "TOLLGATE_PORT": str(self.port),
            "TOLLGATE_DATA_DIR": str(data),
            "TOLLGATE_REDIS_URL": redis_url,
            "TOLLGATE_WORKERS": str(workers),
            "TOLLGATE_ADMIN_KEY": self.admin_key,
            "TOLLGATE_LEASE_SECONDS": str(lease_s),
            "TOLLGATE_DRAIN_SECONDS": str(DRAIN_S),
            "TOLLGATE_LOG_LEVEL": "info",
        }
        if database_url:
            environment["TOLLGATE_DATABASE_URL"] = database_url
        self._words = [python_of(checkout), "-m", "app.cli"]
        self._root = checkout
        self._environment = environment
        super().__init__([*self._words, "serve"], directory, "gateway", cwd=checkout, env=environment)

    async def start(self) -> None:
        """As ever; where processes of an earlier start are in the way for good, they are ended. Raises TimeoutError."""
        try:
            await super().start()
        except TimeoutError:
            self.kept_out += 1
            self.end_all()
            await super().start()

    async def answers(self) -> bool:
        """Whether a worker of the running supervisor answers: one that is left over says nothing of this start."""
        if not self.pids("worker"):
            return False
        with contextlib.suppress(httpx.TransportError):
            async with httpx.AsyncClient(timeout=2.0, trust_env=False) as http:
                return (await http.get(f"{self.url}/health/live")).is_success
        return False

    def pids(self, role: str) -> list[int]:
        """Of the supervisor's own children that are `worker` or `bookkeeper`."""
        if not self.alive:
            return []
        assert self.process is not None
        roles = Tree({self.process.pid}, self._directory / "nobody-works-here").roles()
        return sorted(pid for pid, found in roles.items() if found == role)

    async def drain(self) -> None:
        """SIGTERM, as a user would, to its end."""
        self.exits.append(await self.stop(signal.SIGTERM, DRAIN_S + _GONE_S))

    async def mend(self) -> None:
        """Starts it again where it ended without an order."""
        if not self.alive:
            self.unplanned += 1
            await self.start()

    def second_bookkeeper(self) -> Victim:
        """Another one, beside the supervisor's; not started yet."""
        options = {"cwd": self._root, "env": self._environment}
        return Victim([*self._words, "bookkeeper"], self._directory, "second-bookkeeper", **options)

    async def verify(self) -> int:
        """The exit code of `verify` at the command line."""
        process = await asyncio.create_subprocess_exec(
            *self._words,
            "verify",
            cwd=self._root,
            env=self._environment,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            return await asyncio.wait_for(process.wait(), 60)
        except TimeoutError:
            process.kill()
            return -1

    def marked(self) -> list[int]:
        """All processes of this gateway that live, whoever their parent is now."""
        found = []
        for entry in PROC.iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if self._mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return found

    async def left_behind(self) -> int:
        """How many outlive the supervisor: those of one that was killed may still be on their way out."""
        for _ in range(int(_GONE_S * 10)):
            if not self.marked():
                return 0
            await asyncio.sleep(0.1)
        return len(self.marked())

    def spooled(self) -> int:
        """Settlements on the disk that Redis has not got; 0 for a gateway that keeps none."""
        return sum(1 for path in self._spool.glob("*") if path.suffix != ".lock")

    def end_all(self) -> None:
        """Whatever is left, at once."""
        left = self.marked()
        Grip(left).tell(signal.SIGCONT)
        strike(left)
        if self.process is not None:
            self.process.wait()
