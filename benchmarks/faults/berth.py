"""The port of one upstream: open, shut, or with a full backlog; in plain HTTP or with TLS.

A socket that is bound and never listens keeps the port while it is shut: who connects is refused, and nobody else gets
it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterator

    Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_HOST = "127.0.0.1"
_BACKLOG = 512
_FILLERS = 4


class Berth:
    """`port` is known from the start. What runs on a connection when the berth is shut goes on to its end; connections
    that wait for another request are closed."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._keeper = _bound(0)
        self.port = int(self._keeper.getsockname()[1])
        self._server: asyncio.Server | None = None
        self._jam: list[socket.socket] = []
        self.term = 0  # of openings: a connection of an earlier one takes no further request
        self._idle: set[asyncio.StreamWriter] = set()

    async def open(self, context: ssl.SSLContext | None) -> None:
        self.shut()
        listening = _bound(self.port)
        self._server = await asyncio.start_server(self._serve, sock=listening, ssl=context, backlog=_BACKLOG)

    def jam(self) -> None:
        """Nobody takes connections any more, and the backlog is full."""
        self.shut()
        listening = _bound(self.port)
        listening.listen(0)
        self._jam.append(listening)
        for _ in range(_FILLERS):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex((_HOST, self.port))
            self._jam.append(filler)

    def shut(self) -> None:
        """Connections are refused."""
        self.term += 1
        if self._server is not None:
            self._server.close()
            self._server = None
        while self._jam:
            self._jam.pop().close()
        for writer in list(self._idle):
            writer.close()

    @contextlib.contextmanager
    def waiting(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        """While a connection waits for its next request."""
        self._idle.add(writer)
        try:
            yield
        finally:
            self._idle.discard(writer)


def _bound(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((_HOST, port))
    return sock
