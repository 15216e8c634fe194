"""One pipelined connection to Redis for the hot path: every command of a loop tick leaves in one system call (uvloop
gathers them), and replies are matched in order. It takes 7 us of CPU a call where redis-py takes 58, and does nothing
else: pub/sub, streams read with BLOCK and everything rare goes through redis-py.

A call that was not answered before its deadline, or whose connection broke, fails as OutcomeUnknown: it may have run.
A call that never left fails as ServiceUnavailable.
"""

import asyncio
import contextlib
import hashlib
import logging
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
from redis.asyncio.connection import SSLConnection, parse_url

from app.base.errors import OutcomeUnknown, ServiceUnavailable

__all__ = ["Reply", "Script", "StoreError", "Wire"]

log = logging.getLogger("tollgate.redis")

Argument = bytes | str | int
Reply = Any  # what RESP2 carries: int, bytes, None, or a list of these

# hiredis's own annotation knows tuples of one.
_pack: Callable[[tuple[Argument, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]

_BACKOFF_FIRST_S = 0.01
_BACKOFF_MOST_S = 0.5
_CONNECT_TIMEOUT_S = 2.0
_HEADS_MOST = 10_000


class StoreError(Exception):
    """Redis answered with an error: a fault in a script of ours, or in Redis's set-up."""


class Script:
    """A Lua script, called by its SHA-1; sent in full only when Redis says that it does not know it."""

    def __init__(self, source: str) -> None:
        self.source = source.encode()
        self.sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()
        self._heads: dict[tuple[bytes, ...], bytes] = {}

    def pack(self, keys: tuple[bytes, ...], arguments: tuple[Argument, ...]) -> bytes:
        """A call by SHA-1. A customer's calls have their keys in common, so those are packed once."""
        head = self._heads.get(keys)
        if head is None:
            if len(self._heads) >= _HEADS_MOST:
                self._heads.clear()
            head = self._heads[keys] = _items(_pack((b"EVALSHA", self.sha, len(keys), *keys)))
        return b"*%d\r\n%b%b" % (3 + len(keys) + len(arguments), head, _items(_pack(arguments)))


def _items(packed: bytes) -> bytes:
    """A packed command without its first line, which counts its items."""
    return packed[packed.index(b"\n") + 1 :]


class _Link(asyncio.Protocol):
    """One live connection. Replies come in the order of the commands, so a queue of futures is all the state."""

    def __init__(self, deadline_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline_s = deadline_s
        self._reader = hiredis.Reader()
        self._waiting: deque[tuple[float, asyncio.Future[Reply]]] = deque()
        self._transport: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None
        self.lost: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def send(self, packed: bytes) -> asyncio.Future[Reply]:
        if self.lost.done():
            raise ServiceUnavailable
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._waiting.append((self._loop.time(), future))
        assert self._transport is not None
        self._transport.write(packed)
        if self._watch is None:
            self._watch = self._loop.call_later(self._deadline_s, self._check_deadline)
        return future

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


class Wire:
    """The reconnecting client. `deadline_s` bounds each call, the wait for a connection included."""

    def __init__(self, url: str, deadline_s: float = 2.0) -> None:
        self._options: dict[str, Any] = dict(parse_url(url))
        self._deadline_s = deadline_s
        self._link: _Link | None = None
        self._up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Starts connecting; returns at once. Calls wait for the connection, up to their deadline."""
        self._keeper = asyncio.create_task(self._keep_connected(), name="redis wire")

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._link is not None:
            self._link.close()

    async def call(self, *command: Argument) -> Reply:
        """One command. Raises StoreError, OutcomeUnknown or ServiceUnavailable."""
        link = self._link
        if link is None:
            link = await self._wait_up()
        return await link.send(_pack(command))

    async def run(self, script: Script, keys: tuple[bytes, ...], *arguments: Argument) -> Reply:
        """One call of a script: atomic, in the slot that all `keys` share."""
        link = self._link
        if link is None:
            link = await self._wait_up()
        try:
            return await link.send(script.pack(keys, arguments))
        except StoreError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
        return await self.call(b"EVAL", script.source, len(keys), *keys, *arguments)

    async def _wait_up(self) -> _Link:
        try:
            async with asyncio.timeout(self._deadline_s):
                while self._link is None:
                    await self._up.wait()
        except TimeoutError:
            raise ServiceUnavailable from None
        return self._link

    async def _keep_connected(self) -> None:
        pause_s = _BACKOFF_FIRST_S
        while True:
            try:
                link = await self._connect()
            except (OSError, TimeoutError, StoreError, ServiceUnavailable) as error:
                log.warning("Redis can't be reached: %s", str(error) or type(error).__name__)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _BACKOFF_MOST_S)
                continue
            pause_s = _BACKOFF_FIRST_S
            self._link = link
            self._up.set()
            await link.lost
            self._link = None
            self._up.clear()

    async def _connect(self) -> _Link:
        options = self._options
        loop = asyncio.get_running_loop()

        def factory() -> _Link:
            return _Link(self._deadline_s)

        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            if path := options.get("path"):
                _, link = await loop.create_unix_connection(factory, path)
            else:
                _, link = await loop.create_connection(
                    factory, options.get("host", "localhost"), options.get("port", 6379), ssl=_tls(options)
                )
            try:
                if password := options.get("password"):
                    user = options.get("username")
                    await link.send(_pack(("AUTH", *([user] if user else []), password)))
                if database := options.get("db"):
                    await link.send(_pack(("SELECT", database)))
                await link.send(_pack(("PING",)))  # -LOADING, -NOAUTH: not up yet
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
