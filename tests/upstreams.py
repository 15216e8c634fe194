"""Local vendors: real servers on loopback, of which each test opens as many as it needs.

A `Vendor` has a behaviour (see `behaviours`); those queued with `then()` are used up first, one a request.
It keeps every request it got and counts what it served, so that a test can hold the receipts against it.
What is sent is sent to the byte, and a connection can be refused, swallowed, left hanging, closed or reset.
"""

import asyncio
import json
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

__all__ = ["Behaviour", "Exchange", "Request", "Served", "Street", "Vendor"]

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """A request as the vendor read it."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body) if self.body else {}


@dataclass(frozen=True)
class Served:
    """An answer that was sent in full."""

    model: str
    prompt_tokens: int
    completion_tokens: int


@dataclass
class Exchange:
    """One request, and the connection to answer it on."""

    vendor: "Vendor"
    request: Request
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: int, **headers: str) -> None:
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join([f"HTTP/1.1 {status} Status", *lines, "", ""]).encode())

    async def whole(self, status: int, body: bytes, **headers: str) -> None:
        headers = {"content_type": "application/json"} | headers
        await self.head(status, content_length=str(len(body)), **headers)
        await self.send(body)

    async def chunk(self, data: bytes, bytes_per_write: int | None = None) -> None:
        """A piece of a chunked body. Written in small steps, each step is an HTTP chunk of its own."""
        step = bytes_per_write or len(data)
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            await self.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            if bytes_per_write:
                await asyncio.sleep(0)

    async def end_chunks(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def hang(self) -> None:
        """Says nothing until the gateway gives up on us."""
        await self.reader.read(1)
        self.close()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.close()


Behaviour = Callable[[Exchange], Awaitable[None]]


@dataclass
class Vendor:
    """One vendor on a port of its own."""

    behaviour: Behaviour
    port: int = 0
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    served: list[Served] = field(default_factory=list)
    connections: int = 0
    faults: list[Exception] = field(default_factory=list)  # the vendor's own: a test that has some is wrong
    _queue: deque[Behaviour] = field(default_factory=deque)
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def base_url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/v1"

    def then(self, *behaviours: Behaviour) -> Self:
        """The next requests are met with these, in this order; later ones with the behaviour that stands."""
        self._queue.extend(behaviours)
        return self

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self.connections += 1
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while not writer.is_closing():
                request = await _read(reader)
                self.requests.append(request)
                behaviour = self._queue.popleft() if self._queue else self.behaviour
                await behaviour(Exchange(self, request, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the gateway went away, or the test is over: nobody is left to tell
        except Exception as fault:
            self.faults.append(fault)
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    elif length := int(headers.get("content-length", 0)):
        body = await reader.readexactly(length)
    return Request(method, path, headers, body)


class Street:
    """Where the vendors live: one event loop in a thread, and sockets on which nobody answers."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vendors", daemon=True)
        self._sockets: list[socket.socket] = []
        self._thread.start()

    def open(self, behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> Vendor:
        vendor = Vendor(behaviour, tls=tls)
        self._run(vendor.start())
        return vendor

    def shut(self, vendor: Vendor) -> None:
        self._run(vendor.stop())

    def refusing(self, behaviour: Behaviour) -> Vendor:
        """A port that is taken, so that nobody else gets it, but refuses every connection."""
        return Vendor(behaviour, port=self._taken_port())

    def swallowing(self, behaviour: Behaviour) -> Vendor:
        """A port whose backlog is full: connections to it neither open nor fail."""
        port = self._taken_port()
        self._sockets[-1].listen(0)
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            self._sockets.append(filler)
        return Vendor(behaviour, port=port)

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    def _taken_port(self) -> int:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        self._sockets.append(sock)
        return int(sock.getsockname()[1])

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)
