"""Vendors at `http://`, such as engines that the operator runs: over connections of our own.

A call takes a third of the library's CPU, and one that is abandoned is closed at once, at any moment: its engine stops
working for nobody. What it leaves to the library is in `serves`.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Coroutine, Mapping, Sequence
from time import monotonic
from typing import Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies
from weakref import WeakKeyDictionary

import msgspec

from app.catalog.records import Timeouts
from app.proxy.relay.connection import Connection, Place
from app.proxy.relay.resolver import Resolver
from app.proxy.relay.upstream import USER_AGENT, Call, Opened, Plain, Route, UpstreamFault

__all__ = ["CleartextTransport", "serves"]

_IDLE_S = 60.0
_SWEEP_S = 15.0
# A host's addresses are tried in turn, each but the last for so long.
_ADDRESS_S = 0.25
_TARGET = re.compile(r"/[!-~]*")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[ -~\t]*")
# Said here, or not at all. Nothing is decompressed here.
_OURS = frozenset({"accept-encoding", "connection", "content-length", "transfer-encoding"})


class _Form(msgspec.Struct, frozen=True):
    """A request but for its body, made once for all calls of a route; `head` ends where the body's length follows."""

    place: Place
    addresses: tuple[str, ...]  # where the host is one itself
    head: bytes
    timeouts: Timeouts


def serves(route: Route) -> bool:
    """Whether a route is for this transport: plain HTTP/1.1 to the vendor itself."""
    reach = route.reach
    if not route.url.startswith("http://") or not route.url.isascii() or reach.proxy is not None or reach.http2:
        return False
    if "@" in route.url.split("/")[2]:
        return False
    return not getproxies().keys() & {"http", "all"}  # the library knows which hosts these are for


class CleartextTransport:
    """Connections that are idle wait for the next call to their host and port, for a minute."""

    def __init__(self) -> None:
        self._forms: WeakKeyDictionary[Route, _Form] = WeakKeyDictionary()  # gone with their routes
        self._idle: dict[Place, list[Connection]] = {}
        self._connections: set[Connection] = set()
        self._resolver = Resolver()
        self._sweeper: asyncio.TimerHandle | None = None

    async def fetch(self, call: Call) -> Plain:
        timeouts = call.route.timeouts
        idle_s = timeouts.idle_ms / 1000
        if timeouts.first_token_ms is None:
            connection = await self._begin(call, idle_s)
        else:
            try:
                async with asyncio.timeout(timeouts.first_token_ms / 1000):
                    connection = await self._headed(call, idle_s)
            except TimeoutError:
                raise UpstreamFault("timeout") from None
        try:
            body = await connection.whole()
            status = connection.status
            if status == 200:
                return Plain(200, body)
            return Plain(status, body, connection.header(b"retry-after"), connection.header(b"retry-after-ms"))
        finally:
            self.give_back(connection)

    async def open(self, call: Call) -> Opened:
        return _Answer(self, await self._headed(call))

    async def close(self) -> None:
        for connection in [*self._connections]:
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()

    async def _headed(self, call: Call, idle_s: float | None = None) -> Connection:
        connection = await self._begin(call, idle_s)
        try:
            await connection.head()
        except BaseException:
            self.give_back(connection)
            raise
        return connection

    async def _begin(self, call: Call, idle_s: float | None) -> Connection:
        form = self._form(call.route)
        due_at = monotonic() + form.timeouts.total_ms / 1000  # which is the loop's time, without a system call
        connection = self._take(form.place) or await self._connect(form, due_at)
        connection.begin(b"%b%d\r\n\r\n%b" % (form.head, len(call.body), call.body), due_at, idle_s)
        return connection

    def _take(self, place: Place) -> Connection | None:
        """The one used last, of those that wait."""
        waiting = self._idle.get(place)
        while waiting:
            connection = waiting.pop()
            if connection.is_open:
                return connection
        return None

    def give_back(self, connection: Connection) -> None:
        """Its exchange is over, or not wanted any more: then it is closed."""
        if not connection.end():
            return
        connection.idle_since = monotonic()
        waiting = self._idle.get(connection.place)
        if waiting is None:
            waiting = self._idle[connection.place] = []
        waiting.append(connection)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        now = monotonic()
        for waiting in self._idle.values():
            for connection in waiting:
                if now - connection.idle_since >= _IDLE_S:
                    connection.abort()
        self._idle = {place: waiting for place, waiting in self._idle.items() if waiting}
        if self._idle:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def _lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        waiting = self._idle.get(connection.place, ())
        if connection in waiting:
            self._idle[connection.place].remove(connection)

    async def _connect(self, form: _Form, due_at: float) -> Connection:
        """Raises UpstreamFault."""
        loop = asyncio.get_running_loop()
        by = min(due_at, loop.time() + form.timeouts.connect_ms / 1000)
        try:
            async with asyncio.timeout_at(by):
                addresses = form.addresses or await self._resolver.find(form.place[0])
                connection = await self._reach(addresses, form.place)
        except TimeoutError:
            raise UpstreamFault("timeout" if by == due_at else "connect_timeout") from None
        except socket.gaierror:
            raise UpstreamFault("dns") from None
        except OSError:
            raise UpstreamFault("connect") from None
        if not connection.is_open:
            raise UpstreamFault("network")
        self._connections.add(connection)
        return connection

    async def _reach(self, addresses: Sequence[str], place: Place) -> Connection:
        """Raises OSError or TimeoutError."""
        loop = asyncio.get_running_loop()

        def connect(address: str) -> Coroutine[Any, Any, tuple[object, Connection]]:
            return loop.create_connection(lambda: Connection(place, self._lost), address, place[1])

        for address in addresses[:-1]:
            try:
                async with asyncio.timeout(_ADDRESS_S):
                    return (await connect(address))[1]
            except OSError:  # TimeoutError is one
                continue
        return (await connect(addresses[-1]))[1]

    def _form(self, route: Route) -> _Form:
        form = self._forms.get(route)
        if form is None:
            form = self._forms[route] = _make_form(route)
        return form


class _Answer:
    """An exchange whose body is still coming. Once closed, its connection may be another's."""

    def __init__(self, transport: CleartextTransport, connection: Connection) -> None:
        self._transport = transport
        self._connection: Connection | None = connection
        self.status = connection.status
        self.retry_after = connection.header(b"retry-after")
        self.retry_after_ms = connection.header(b"retry-after-ms")

    async def read(self) -> bytes | None:
        return None if self._connection is None else await self._connection.read()

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._transport.give_back(connection)


def _make_form(route: Route) -> _Form:
    """Raises UpstreamFault where an operator's setting is none that a connection can be made with."""
    try:
        url = urlsplit(route.url)
        host, port = url.hostname or "", url.port or 80
        head = _head(url, route.headers)
    except ValueError:
        raise UpstreamFault("connect") from None
    return _Form((host, port), _literal(host), head, route.timeouts)


def _head(url: SplitResult, headers: Mapping[str, str]) -> bytes:
    """Raises ValueError."""
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    lines = {"host": url.netloc, "user-agent": USER_AGENT, "accept": "*/*", "accept-encoding": "identity"}
    lines |= {name: value for name, value in headers.items() if name not in _OURS}
    sound = all(_NAME.fullmatch(name) and _VALUE.fullmatch(value) for name, value in lines.items())
    if not url.hostname or not sound or _TARGET.fullmatch(target) is None:
        raise ValueError("no request can be made of this")
    said = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {target} HTTP/1.1\r\n{said}content-length: ".encode()


def _literal(host: str) -> tuple[str, ...]:
    try:
        return (str(ipaddress.ip_address(host)),)
    except ValueError:
        return ()
