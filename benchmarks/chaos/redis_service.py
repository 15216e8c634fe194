"""The Redis of a run that is no cluster: one server at a time, at an address that stays when another one takes over.

The address is a symbolic link to the socket of the server, and is replaced in one step. It stands for the name or the
virtual address that a real installation moves to a promoted replica.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from benchmarks.chaos.servers import Redis, Stream
from benchmarks.chaos.victims import START_S, STOP_S, Victim
from benchmarks.ports import free_port

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator
    from pathlib import Path


class RedisService(Victim):
    """What befalls it befalls `server`, which the gateway is served by. `server` is another one after a promotion."""

    def __init__(self, directory: Path) -> None:
        super().__init__([], directory, "redis")
        self._address = directory / "redis.sock"
        self.url = f"unix://{self._address}"
        self._started: list[Redis] = []
        self.server = self._new_server()
        self._show_address()

    async def start(self) -> None:
        await self.server.start()

    async def stop(self, number: signal.Signals, seconds: float = STOP_S) -> int | None:
        return await self.server.stop(number, seconds)

    async def answers(self) -> bool:
        return await self.server.answers()

    def family(self) -> list[int]:
        return self.server.family()

    def ask(self, command: bytes) -> bytes:
        """One command; empty where the server does not answer."""
        return self.server.ask(command)

    def streams(self) -> dict[str, Stream]:
        """The streams of receipts that have had an entry, by shard."""
        return self.server.streams()

    def end(self) -> None:
        for server in self._started:
            server.end()

    @contextlib.contextmanager
    def no_address(self) -> Iterator[None]:
        """Nobody finds a server at the address until the end; connections that are open stay open."""
        self._address.unlink()
        try:
            yield
        finally:
            self._show_address()

    async def new_replica(self) -> Redis:
        """A second server that has followed this one up to now, with all of it on its disk. Raises TimeoutError."""
        replica = self._new_server()
        await replica.start()
        # Only by a command: with an option it would follow again after each restart.
        replica.order(b"REPLICAOF 127.0.0.1 %d" % self.server.port)
        async with asyncio.timeout(START_S):
            while not _follows(replica):
                await asyncio.sleep(0.05)
        return replica

    def _new_server(self) -> Redis:
        server = Redis(self._directory, f"redis-{len(self._started) + 1}", free_port())
        self._started.append(server)
        return server

    def _show_address(self) -> None:
        """Points the address to the server's socket, in one step."""
        made = self._address.with_suffix(".new")
        made.symlink_to(self.server.socket)
        made.replace(self._address)


def _follows(replica: Redis) -> bool:
    """Whether its copy is whole. A file that it has written since is: until then a crash would leave it empty."""
    link, disk = replica.info(b"replication"), replica.info(b"persistence")
    return (
        link.get("master_link_status") == "up"
        and disk.get("aof_rewrite_scheduled") == "0"
        and disk.get("aof_rewrite_in_progress") == "0"
        and disk.get("aof_last_bgrewrite_status") == "ok"
    )
