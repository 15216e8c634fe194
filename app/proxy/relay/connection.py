"""A connection to a vendor in the clear: HTTP/1.1, one exchange after the other. Parsing is llhttp's (`httptools`)."""

import asyncio
import math
from collections.abc import Callable

import httptools

from app.proxy.relay.bounds import (
    ANSWER_BYTES_MOST,
    ANSWER_TOO_LARGE,
    CHUNKS_MOST,
    ERROR_BYTES_MOST,
    HEADER_BYTES_MOST,
    HEADERS_MOST,
    HEADERS_TOO_LARGE,
)
from app.proxy.relay.upstream import UpstreamFault

__all__ = ["Connection", "Place"]

Place = tuple[str, int]  # a host and its port

# A stream that its reader is slow to take: beyond this its vendor waits.
_AHEAD_MOST = 256 * 1024
_PIECE = 16 * 1024
_CHUNK_COST = 64  # bytes of memory that a piece takes beside its own
_KEPT = frozenset({b"content-encoding", b"content-length", b"transfer-encoding", b"retry-after", b"retry-after-ms"})

_HEAD, _DATA, _END = range(3)


class _Broken(Exception):
    """Nothing more of an answer is parsed; what is wrong with it has been noted."""


class Connection(asyncio.Protocol):
    """`lost` is told once, when it is gone. `status` is 0 until the answer's head is there."""

    def __init__(self, place: Place, lost: "Callable[[Connection], None]") -> None:
        self.place = place
        self._loop = asyncio.get_running_loop()
        self._lost = lost
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0
        self._is_busy = False
        self._waiter: asyncio.Future[None] | None = None
        self._awaited = _HEAD
        self._chunks: list[bytes | bytearray] = []
        self.idle_since = 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def begin(self, request: bytes, due_at: float, idle_s: float | None = None) -> None:
        """Sends a whole request. Its answer fails as `timeout` where it is not complete at `due_at`, in the loop's
        time, or, once it has begun, where nothing more of it comes for `idle_s`."""
        assert self._transport is not None
        self._is_busy = True
        self._fault: str | None = None
        self._is_complete = self._is_fit = self._is_paused = False
        self._chunks = []
        self._ahead = self._size = 0
        self._beside_bytes = 0  # that came since the last of the body, or since the request: heads and trailers
        self._header_count = self._header_bytes = 0
        self._headers: dict[bytes, bytes] = {}
        self.status = 0
        self._due_at, self._idle_s, self._idle_at = due_at, idle_s, math.inf
        if self._timer is None or self._timer.when() > due_at:
            self._ring_at(due_at)
        self._transport.write(request)

    async def head(self) -> None:
        """Waits for the answer's head. Raises UpstreamFault."""
        if not self.status and self._fault is None:
            await self._until(_HEAD)
        if not self.status:
            raise UpstreamFault(self._fault or "network")

    async def whole(self) -> bytes:
        """The answer's body. Raises UpstreamFault, also where it is larger than `bounds` allow."""
        self._resume()
        if not self._is_complete and self._fault is None:
            await self._until(_END)
        if not self._is_complete:
            raise UpstreamFault(self._fault or "network")
        return bytes(self._chunks[0]) if len(self._chunks) == 1 else b"".join(self._chunks)

    async def read(self) -> bytes | None:
        """Some of the body, None at its end. Raises UpstreamFault, once all is read that came before it."""
        if not (self._chunks or self._is_complete) and self._fault is None:
            await self._until(_DATA)
        if self._chunks:
            return self._take()
        if not self._is_complete:
            raise UpstreamFault(self._fault or "network")
        return None

    def _take(self) -> bytes:
        """Not all of much: what a wallet can't pay for is held back as it was read, piece by piece."""
        size = count = 0
        while count < len(self._chunks) and size < _PIECE:
            size += len(self._chunks[count])
            count += 1
        data = bytes(self._chunks[0]) if count == 1 else b"".join(self._chunks[:count])
        del self._chunks[:count]
        self._ahead -= size + count * _CHUNK_COST
        if self._ahead < _PIECE:
            self._resume()
        return data

    def header(self, name: bytes) -> str | None:
        """Of the answer; only those that are kept."""
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")

    def end(self) -> bool:
        """Ends the exchange; whether there can be another. One that is not complete is broken off: the vendor sees it
        at once."""
        self._is_busy = False
        transport = self._transport
        if transport is not None and self._is_fit and self.is_open and not transport.get_write_buffer_size():
            self._chunks = []
            self._resume()
            return True
        self.abort()
        return False

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def _until(self, awaited: int) -> None:
        self._awaited = awaited
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _resume(self) -> None:
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()

    def _most(self) -> int:
        """How many bytes a plain answer may have."""
        return ANSWER_BYTES_MOST if self.status == 200 else ERROR_BYTES_MOST

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, kind: str) -> None:
        """What has gone wrong after the end of an answer is not its fault, but leaves the connection unfit."""
        self._is_fit = False
        if not self._is_complete and self._fault is None:
            self._fault = kind
            self._wake()
        self.abort()

    def _ring_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        """One timer serves many exchanges: it is set anew only when it has rung."""
        self._timer = None
        if not self._is_busy or self._is_complete:
            return
        at = min(self._due_at, self._idle_at)
        if self._loop.time() >= at:
            self._fail("timeout")
        else:
            self._ring_at(at)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if not self._is_busy:  # nobody asked
            self.abort()
            return
        self._beside_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail("network")
        if self._beside_bytes > HEADER_BYTES_MOST:  # also of a header that has not ended
            self._fail(HEADERS_TOO_LARGE)
        if self._idle_s is not None and self.status and not self._is_complete:
            self._idle_at = self._loop.time() + self._idle_s
            if self._timer is None or self._timer.when() > self._idle_at:
                self._ring_at(self._idle_at)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._transport = None
        if self._is_busy and not self._is_complete and self._fault is None:
            # Without a length the connection's end is the answer's.
            is_end = (
                exc is None and self.status and not self._headers.keys() & {b"content-length", b"transfer-encoding"}
            )
            if is_end:
                self._is_complete = True
            else:
                self._fault = "network"
            self._wake()
        self._lost(self)

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._is_complete:  # a second answer to one request
            self._fail("network")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_count += 1
        self._header_bytes += len(name) + len(value)
        if self._header_count > HEADERS_MOST or self._header_bytes > HEADER_BYTES_MOST:
            self._fail(HEADERS_TOO_LARGE)
            raise _Broken
        name = name.lower()
        if name in _KEPT and not self._is_complete:
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # "continue", "early hints": the answer itself is still to come
            self._headers = {}
        elif not self._is_complete:
            encoding = self._headers.get(b"content-encoding")
            if encoding is not None and status == 200 and encoding.strip().lower() not in {b"", b"identity"}:
                self._fail("compressed")  # though it was asked not to; of an error the status says enough
                raise _Broken
            self.status = status
            if self._awaited == _HEAD:
                self._wake()

    def on_body(self, data: bytes) -> None:
        if self._is_complete:
            return
        self._beside_bytes = 0
        self._size += len(data)
        chunks = self._chunks
        if self._awaited == _END:
            if self._size > self._most():
                self._fail(ANSWER_TOO_LARGE)
                raise _Broken
            if len(chunks) < CHUNKS_MOST:
                chunks.append(data)
            elif isinstance(chunks[-1], bytearray):
                chunks[-1] += data
            else:
                chunks.append(bytearray(data))
            return
        chunks.append(data)
        self._ahead += len(data) + _CHUNK_COST
        if self._ahead > _AHEAD_MOST and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        if self._awaited == _DATA:
            self._wake()

    def on_message_complete(self) -> None:
        if self.status and not self._is_complete:
            self._is_complete = True
            self._is_fit = self._parser.should_keep_alive()
            self._wake()
