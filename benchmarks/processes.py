"""What Linux says of the processes under test: who they are, the CPU and memory they took, the cores they may
use.

A process belongs to the run when it descends from one of the roots, or works inside the run's own directory
(a server that turned itself into a daemon has left the tree, but not its directory). Signals go to those
processes only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
# The first name found in a process's title or command line is its role.
_ROLES = ("bookkeeper", "redis-server", "postgres", "worker", "supervisor")
_STAT_PPID, _STAT_UTIME, _STAT_CSTIME = 1, 11, 14  # fields after the command's closing bracket


@contextlib.contextmanager
def inherited_cores(cores: set[int]) -> Iterator[None]:
    """Processes started inside the block, and all their descendants, run on `cores`."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


def pin(pid: int, cores: set[int]) -> None:
    """Move a running process with all its threads; a thread that has ended meanwhile is no error."""
    for task in _entries(PROC / str(pid) / "task"):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(task, cores)


def _entries(directory: Path) -> list[int]:
    try:
        return [int(entry.name) for entry in directory.iterdir() if entry.name.isdigit()]
    except OSError:
        return []


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on; empty when the process is gone or dead."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
    return [] if fields[0] in "ZX" else fields


def _title(pid: int) -> str:
    try:
        title = (PROC / str(pid) / "comm").read_text() + (PROC / str(pid) / "cmdline").read_bytes().decode(
            errors="replace"
        )
    except OSError:
        return ""
    return title.replace("\0", " ")


class Tree:
    """The processes of one run: the descendants of `roots` and whoever works inside `directory`."""

    def __init__(self, roots: Iterable[int], directory: Path) -> None:
        self._roots = set(roots)
        self._directory = str(directory.resolve())

    def pids(self) -> list[int]:
        """All of them that live now."""
        parents = {pid: int(stat[_STAT_PPID]) for pid in _entries(PROC) if (stat := _stat(pid))}
        own = {pid for pid in parents if pid in self._roots or self._works_inside(pid)} - {os.getpid()}
        grown = True
        while grown:
            children = {pid for pid, parent in parents.items() if parent in own} - own
            own |= children
            grown = bool(children)
        return sorted(own)

    def _works_inside(self, pid: int) -> bool:
        try:
            return str((PROC / str(pid) / "cwd").readlink()).startswith(self._directory)
        except OSError:
            return False

    def roles(self) -> dict[int, str]:
        """Each process's role by what it calls itself; a root that says nothing is the supervisor."""
        roles = {}
        for pid in self.pids():
            title = _title(pid)
            found = next((role for role in _ROLES if role in title), None)
            roles[pid] = found or ("supervisor" if pid in self._roots else "other")
        return roles

    def cpu_s(self) -> dict[str, float]:
        """User and system seconds by role so far, with those of children that ended and were waited for."""
        sums: dict[str, float] = {}
        for pid, role in self.roles().items():
            if stat := _stat(pid):
                ticks = sum(map(int, stat[_STAT_UTIME : _STAT_CSTIME + 1]))
                sums[role] = sums.get(role, 0.0) + ticks / _TICKS_PER_S
        return sums

    def memory_mb(self) -> dict[str, float]:
        """Memory by role in MB: PSS where readable, so that shared pages count once; else RSS."""
        sums: dict[str, float] = {}
        for pid, role in self.roles().items():
            sums[role] = sums.get(role, 0.0) + _memory_mb(pid)
        return sums

    def stop(self, pids: Iterable[int], wait_s: float) -> None:
        """SIGTERM to these members of the run, SIGKILL to those that live on after `wait_s`."""
        mine = set(pids) & set(self.pids())
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in mine:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            deadline = time.monotonic() + wait_s
            while (mine := mine & set(self.pids())) and time.monotonic() < deadline:
                time.sleep(0.05)
            if not mine:
                return


def _memory_mb(pid: int) -> float:
    for name, field in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        try:
            lines = (PROC / str(pid) / name).read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith(field):
                return int(line.split()[1]) / 1024
    return 0.0


def core_busy_s(core: int) -> float:
    """Seconds that a core was busy since boot, whoever used it, stolen time included."""
    for line in (PROC / "stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
            return (user + nice + system + irq + softirq + steal) / _TICKS_PER_S
    return 0.0
