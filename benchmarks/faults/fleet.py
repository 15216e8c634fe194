"""Ten upstreams in one process, each with the spells that it was given: `python -m benchmarks.faults.fleet`.

Reads its orders as one line of JSON, prints its ports, waits for the time at which the load starts (a line with
CLOCK_MONOTONIC in seconds, which processes of one machine share), and serves until standard input ends; then it writes
down every request that it saw. It listens on loopback alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import uvloop

from benchmarks.faults.answers import Exchange, answer
from benchmarks.faults.berth import Berth
from benchmarks.faults.certificates import STRANGER, TRUSTED, server_context
from benchmarks.faults.marks import Visit, read_serial
from benchmarks.faults.plan import CHANNELS, NAMED_CHANNEL, REQUEST_KINDS, TLS_CHANNEL, Spell, fault_at
from benchmarks.faults.resolver import SLOW_S, name_of, start_resolver

if TYPE_CHECKING:
    from benchmarks.faults.berth import Serve

BODY_BYTES_MAX = 1 << 20
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_GONE = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError)
_STREAMED = re.compile(rb'"stream":\s*true')


class Orders(msgspec.Struct, frozen=True):
    """`directory` holds the certificates; the visits are written to `visits`. `resolver` is where names are asked for,
    if anywhere."""

    spells: tuple[Spell, ...]
    directory: str
    visits: str
    resolver: str | None


class Fleet:
    """The upstreams, and what came to them."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._directory = Path(orders.directory)
        self._trusted = server_context(self._directory, TRUSTED)
        self._stranger = server_context(self._directory, STRANGER)
        self._started_s: float | None = None
        self.visits: list[Visit] = []
        self.berths = [Berth(self._server_of(channel)) for channel in range(CHANNELS)]

    async def open(self) -> None:
        for channel, berth in enumerate(self.berths):
            await berth.open(self._context(channel))
        if self._orders.resolver is not None:
            await start_resolver(self._orders.resolver, self._delay_s)

    async def follow(self, started_s: float) -> None:
        """Carry the spells out that change a port; the others are looked up as requests come."""
        self._started_s = started_s
        turns = [
            (at_s, channel)
            for spell in self._orders.spells
            if spell.kind not in REQUEST_KINDS
            for at_s, channel in ((spell.start_s, spell.channel), (spell.end_s, spell.channel))
        ]
        for at_s, channel in sorted(turns):
            await asyncio.sleep(max(0.0, at_s - self._now_s()))
            await self._turn(channel, fault_at(self._orders.spells, channel, at_s))

    async def _turn(self, channel: int, fault: str) -> None:
        berth = self.berths[channel]
        match fault:
            case "refuse":
                berth.shut()
            case "no handshake":
                berth.jam()
            case "tls: plain":
                await berth.open(None)
            case "tls: stranger":
                await berth.open(self._stranger)
            case _:  # well again; or a name that can't be found: those who know the address get through
                await berth.open(self._context(channel))

    def _context(self, channel: int) -> ssl.SSLContext | None:
        return self._trusted if channel == TLS_CHANNEL else None

    def _now_s(self) -> float:
        """Before the load starts no spell has begun."""
        return -1.0 if self._started_s is None else time.monotonic() - self._started_s

    def _delay_s(self, name: str) -> float | None:
        if name != name_of(NAMED_CHANNEL):
            return 0.0
        return {"dns: slow": SLOW_S, "dns: silent": None}.get(self._fault(NAMED_CHANNEL), 0.0)

    def _fault(self, channel: int) -> str:
        return fault_at(self._orders.spells, channel, self._now_s())

    def _server_of(self, channel: int) -> Serve:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            berth = self.berths[channel]
            term = berth.term
            with contextlib.suppress(*_GONE):
                while berth.term == term and not writer.is_closing():
                    with berth.waiting(writer):
                        head = await reader.readuntil(b"\r\n\r\n")
                    length = _LENGTH.search(head)
                    body = await reader.readexactly(min(int(length[1]), BODY_BYTES_MAX) if length else 0)
                    await self._meet(channel, body, reader, writer)
                    await writer.drain()
            writer.close()

        return serve

    async def _meet(
        self, channel: int, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        serial, fault, at_s = read_serial(body), self._fault(channel), self._now_s()
        exchange = Exchange(channel, serial, _STREAMED.search(body) is not None, reader, writer)
        whole = False
        try:
            whole = await answer(exchange, fault)
        finally:
            if serial:
                self.visits.append(Visit(channel=channel, serial=serial, at_s=at_s, fault=fault, whole=whole))


async def run() -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    orders = msgspec.json.decode(await lines.readline(), type=Orders)
    fleet = Fleet(orders)
    await fleet.open()
    print(msgspec.json.encode([berth.port for berth in fleet.berths]).decode(), flush=True)
    following = asyncio.create_task(fleet.follow(float(await lines.readline())))
    await lines.read()
    following.cancel()
    Path(orders.visits).write_bytes(msgspec.json.encode(fleet.visits))


if __name__ == "__main__":
    uvloop.run(run())
