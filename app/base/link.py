"""A connection to one Redis server that comes back: while others wait for their replies, all commands of a loop tick
leave in one system call, and Redis writes them to its disk together; replies are matched in order."""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import hiredis
from redis.asyncio.connection import SSLConnection

from app.base.errors import OutcomeUnknown, ServiceUnavailable
from app.base.tasks import end_all

__all__ = ["Argument", "Link", "Node", "Reply", "StoreError", "pack"]

log = logging.getLogger("tollgate.redis")

Argument = bytes | str | int
Reply = Any  # what RESP2 carries: int, bytes, None, or a list of these

# hiredis's own annotation knows tuples of one.
pack: Callable[[tuple[Argument, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]

_BACKOFF_FIRST_S = 0.01
_BACKOFF_MOST_S = 0.5
_CONNECT_TIMEOUT_S = 2.0
_GREET_TIMEOUT_S = 60.0  # of a server with many keys that is new to us; each command has its own deadline


class StoreError(Exception):
    """Redis answered with an error: a fault in a script of ours, or in Redis's set-up."""


class Link(asyncio.Protocol):
    """One live connection. Replies come in the order of the commands, so a queue of futures is all the state."""

    def __init__(self, deadline_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline_s = deadline_s
        self._reader = hiredis.Reader()
        self._waiting: deque[tuple[float, asyncio.Future[Reply]]] = deque()
        self._unsent: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None
        self.lost: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def send(self, packed: bytes) -> asyncio.Future[Reply]:
        if self.lost.done():
            raise ServiceUnavailable
        future: asyncio.Future[Reply] = self._loop.create_future()
        if self._unsent:
            self._unsent.append(packed)
        elif self._waiting:
            self._unsent.append(packed)
            self._loop.call_soon(self._flush)
        else:
            assert self._transport is not None
            self._transport.write(packed)
        self._waiting.append((self._loop.time(), future))
        if self._watch is None:
            self._watch = self._loop.call_later(self._deadline_s, self._check_deadline)
        return future

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is not None and not self.lost.done():
            self._transport.write(b"".join(unsent))

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                _, future = self._waiting.popleft()
                if future.done():  # its caller has gone
                    continue
                if isinstance(reply, hiredis.ReplyError):
                    future.set_exception(StoreError(str(reply)))
                else:
                    future.set_result(reply)
        except (hiredis.ProtocolError, IndexError):
            self.abort("Redis broke its protocol")

    def _check_deadline(self) -> None:
        """The oldest call bounds all that follow it, so one timer a connection is enough."""
        self._watch = None
        if not self._waiting:
            return
        left_s = self._waiting[0][0] + self._deadline_s - self._loop.time()
        if left_s <= 0:
            self.abort("Redis did not answer in time")
        else:
            self._watch = self._loop.call_later(left_s, self._check_deadline)

    def abort(self, why: str) -> None:
        log.warning("%s; the connection is dropped", why)
        if self._transport is not None:
            self._transport.abort()
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        waiting, self._waiting = self._waiting, deque()
        for _, future in waiting:
            if not future.done():
                future.set_exception(OutcomeUnknown())
        if not self.lost.done():
            self.lost.set_result(None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Node:
    """One server, and the connection to it, kept up for as long as it is open. `greet` is what is asked of each new
    connection before it is used; `missed` is told of each try that failed."""

    def __init__(
        self,
        options: dict[str, Any],
        deadline_s: float,
        greet: "Callable[[Node, Link], Awaitable[None]]",
        missed: Callable[[], None],
    ) -> None:
        self.address = (str(options.get("host", "localhost")), int(options.get("port", 6379)))
        self.link: Link | None = None
        self._options = options
        self._deadline_s = deadline_s
        self._greet = greet
        self._missed = missed
        self._up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Starts connecting; returns at once."""
        self._keeper = asyncio.create_task(self._keep_connected(), name="redis wire")

    async def close(self) -> None:
        if self._keeper is not None:
            await end_all(self._keeper)
        if self.link is not None:
            self.link.close()

    async def wait_up(self) -> Link:
        """Raises ServiceUnavailable after the deadline."""
        try:
            async with asyncio.timeout(self._deadline_s):
                while self.link is None:
                    await self._up.wait()
        except TimeoutError:
            raise ServiceUnavailable from None
        return self.link

    async def call(self, packed: bytes) -> Reply:
        return await (self.link or await self.wait_up()).send(packed)

    async def _keep_connected(self) -> None:
        pause_s = _BACKOFF_FIRST_S
        while True:
            try:
                link = await self._connect()
            except (OSError, TimeoutError, StoreError, ServiceUnavailable) as error:
                log.warning("Redis can't be reached: %s", str(error) or type(error).__name__)
                self._missed()
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _BACKOFF_MOST_S)
                continue
            pause_s = _BACKOFF_FIRST_S
            self.link = link
            self._up.set()
            await link.lost
            self.link = None
            self._up.clear()

    async def _connect(self) -> Link:
        options = self._options
        loop = asyncio.get_running_loop()

        def factory() -> Link:
            return Link(self._deadline_s)

        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            if path := options.get("path"):
                _, link = await loop.create_unix_connection(factory, path)
            else:
                _, link = await loop.create_connection(factory, *self.address, ssl=_tls(options))
            try:
                if password := options.get("password"):
                    user = options.get("username")
                    await link.send(pack(("AUTH", *([user] if user else []), password)))
                if database := options.get("db"):
                    await link.send(pack(("SELECT", database)))
                await link.send(pack(("PING",)))  # -LOADING, -NOAUTH: not up yet
            except BaseException:
                link.close()
                raise
        try:
            async with asyncio.timeout(_GREET_TIMEOUT_S):
                await self._greet(self, link)
        except BaseException:
            link.close()
            raise
        return link


def _tls(options: dict[str, Any]) -> ssl.SSLContext | None:
    """TLS as redis-py reads it from a `rediss://` URL."""
    if options.get("connection_class") is not SSLConnection:
        return None
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    if options.get("ssl_cert_reqs") in ("none", ssl.CERT_NONE):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options.get("ssl_certfile"):
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    return context
