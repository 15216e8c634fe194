"""Processes that are killed, paused and started again, each in the run's own directory.

A signal goes to a process through its pidfd, so that it never reaches another one that got the same number.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

from benchmarks.processes import Tree

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

START_S = 45.0
STOP_S = 20.0


class Grip:
    """A hold on running processes: what they are told reaches them, or nobody."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._fds: list[int] = []
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                self._fds.append(os.pidfd_open(pid))

    def tell(self, number: signal.Signals) -> int:
        """How many were reached."""
        reached = 0
        for fd in self._fds:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, number)
                reached += 1
        return reached

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())


async def paused(pids: Iterable[int], seconds: float) -> int:
    """Stops processes for a while; how many."""
    grip = Grip(pids)
    try:
        reached = grip.tell(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        return reached
    finally:
        grip.tell(signal.SIGCONT)
        grip.close()


def strike(pids: Iterable[int], number: signal.Signals = signal.SIGKILL) -> int:
    """Sends a signal to processes; how many there were."""
    grip = Grip(pids)
    reached = grip.tell(number)
    grip.close()
    return reached


class Victim:
    """A server that this run started, and its descendants."""

    def __init__(self, command: list[str], directory: Path, name: str, **options: Any) -> None:
        self._command, self._options = command, options
        self._directory = directory
        self._log = directory / f"{name}.log"
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **self._options
            )

    async def start(self) -> None:
        """Until it answers; one that ends before is started again. Raises TimeoutError."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            self.spawn()
            while self.alive and time.monotonic() < deadline:
                if await self.answers():
                    return
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.2)
        raise TimeoutError(f"{self.name} does not answer; its log is {self._log}")

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def family(self) -> list[int]:
        """Its own pid and those of its descendants."""
        if not self.alive:
            return []
        assert self.process is not None
        return Tree({self.process.pid}, self._directory / "nobody-works-here").pids()

    async def stop(self, number: signal.Signals, seconds: float = STOP_S) -> int | None:
        """Its exit code; None where it had to be killed after `seconds`."""
        if self.process is None:
            return None
        if self.alive:
            strike([self.process.pid], number)
        deadline = time.monotonic() + seconds
        while self.alive and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        if self.alive:
            strike(self.family())
            self.process.wait()
            return None
        return self.process.returncode

    async def kill(self) -> None:
        await self.stop(signal.SIGKILL)

    def end(self) -> None:
        """At once, whatever state it is in."""
        if self.process is not None:
            strike(self.family())
            self.process.wait()

    async def answers(self) -> bool:
        raise NotImplementedError
