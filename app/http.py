"""The HTTP side of a worker: uvicorn's protocol on httptools, doing less for each request.

What it leaves out: a timer and a callback for every request, two regular expressions for every header of an answer, a
system call for every head, an access log that nobody reads. Parsing, bodies, flow control, pipelining, closing and
draining are uvicorn's own.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Literal
from urllib.parse import unquote

import httptools
import msgspec
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from app.http_head import HEAD_BYTES_MOST, HeadTooLarge, RefusedHead, check_head, check_size, without_offer
from app.http_places import Place, Places

__all__ = ["HttpProtocol"]

Stage = Literal["request", "head", "body"]

_LOOK_EVERY_S = 5.0
_LINGER_S = 2.0
# What a client may take. A request that has not begun is waited for as long as a connection may be idle.
_PATIENCE_S: dict[Stage, float] = {"request": 0.0, "head": 20.0, "body": 300.0}

_encode = msgspec.json.Encoder().encode


class HttpProtocol(HttpToolsProtocol):
    """One connection; `places` are for all of this process.

    One timer watches it for all that its client owes: a request, the rest of a head, a body. What the parser reads is
    checked once more (`http_head`). Where a request is refused nothing after it is read: those before it are answered,
    and the connection ends.
    """

    places = Places()

    _place: Place | None = None
    _stage: Stage = "request"  # what of a request is read next
    _is_offer = False  # the head that is being read offers another protocol
    _is_deaf = False  # nothing is read any more
    _idle_bytes = 0  # since anything was complete: a head, or a piece of a body
    _refusal: RefusedHead | None = None
    _heads = 0  # of requests, so far
    _watched: tuple[Stage | None, int] = (None, 0)
    _watched_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.parser = httptools.HttpRequestParser(self)  # without uvicorn's leniency
        self._look_every_s = min(_LOOK_EVERY_S, self.timeout_keep_alive / 4)
        self._set_timer(self._look_every_s, self._look)
        is_let_in, self._place = self.places.enter(self.client[0] if self.client else "")
        if not is_let_in:
            self._refuse(RefusedHead(503, "There are too many connections from your address."))

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        if self._idle_bytes > HEAD_BYTES_MOST:
            self._refuse(HeadTooLarge())
            return
        self._idle_bytes += len(data)
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                data = self._without_offer() + data[offer.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                continue
            except httptools.HttpParserError:
                self._refuse(self._refusal or RefusedHead(400, "This is no HTTP request."))
            return

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._stage = "head"
        self._is_offer = False
        self._heads += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._stage != "head":
            return  # what comes after a body in chunks is no header: it may say whose the request is
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """As uvicorn's, but for web sockets and a limit of connections, which are not used here."""
        parser, scope = self.parser, self.scope
        http_version, method = parser.get_http_version(), parser.get_method()
        try:
            check_head(method, http_version, self.headers)
            if self._idle_bytes > HEAD_BYTES_MOST:  # with a body, perhaps
                check_size(self.url, self.headers)
        except RefusedHead as refusal:
            self._refusal = refusal
            raise
        if parser.should_upgrade():
            self._is_offer = True
            return
        self._stage = "body"
        self._idle_bytes = 0
        scope["method"] = method.decode("ascii")
        if http_version != "1.1":
            scope["http_version"] = http_version
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = url.path
        scope["query_string"] = url.query or b""
        before = self.cycle
        self.cycle = _Cycle(self, http_version != "1.0" and parser.should_keep_alive())
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self._is_offer:
            return
        self._stage = "request"
        self._idle_bytes = 0
        if not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()

    def _without_offer(self) -> bytes:
        return without_offer(self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers)

    def _refuse(self, refusal: RefusedHead) -> None:
        """Requests that came whole before it are answered; then the connection ends."""
        self._is_deaf = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                cycle.keep_alive = False
                return
            if self.pipeline:  # its body will never be whole, and those before it are
                self.pipeline.popleft()
                return
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
        self.transport.write(_refusal_of(refusal))
        self.end()

    def end(self) -> None:
        """After the last answer. Closed at once, the connection would be reset by what its client still sends, and the
        answer might be lost with it (RFC 9112, section 9.6)."""
        self._is_deaf = True
        if not self.transport.is_closing():
            self.flow.resume_reading()  # of a body that nobody wants: its client may read only once it has sent it
            self.transport.write_eof()
            self._set_timer(_LINGER_S, self.transport.close)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        cycle.task = self.loop.create_task(cycle.run_asgi(app))
        self.tasks.add(cycle.task)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._is_deaf:
            self.end()

    def _unset_keepalive_if_required(self) -> None:
        """The timer goes on for as long as the connection does."""

    def _look(self) -> None:
        """Ends a connection whose client owes the same thing for too long."""
        watched = (self._owed(), self._heads)
        self._watched_s = self._watched_s + self._look_every_s if watched == self._watched else 0.0
        self._watched = watched
        owed = watched[0]
        if owed is None or self._watched_s < (_PATIENCE_S[owed] or self.timeout_keep_alive):
            self._set_timer(self._look_every_s, self._look)
        elif owed == "request":
            self.transport.close()
        else:
            self._refuse(RefusedHead(408, "The request did not come in time."))

    def _owed(self) -> Stage | None:
        """What the client has to send now; None while it waits for us."""
        is_busy = self.cycle is not None and not self.cycle.response_complete
        return None if is_busy and self._stage != "body" else self._stage

    def _set_timer(self, seconds: float, call: Callable[[], None]) -> None:
        """In place of the one that is set."""
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        self.timeout_keep_alive_task = self.loop.call_later(seconds, call)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._place is not None:
            self.places.leave(self._place)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None


def _refusal_of(refusal: RefusedHead) -> bytes:
    """The answer to what is no request, as OpenAI's clients read it."""
    error = {"message": refusal.message, "type": "invalid_request_error", "param": None, "code": "bad_request"}
    body = _encode({"error": error})
    head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
    return STATUS_LINE[refusal.status] + head + body


# Headers of nearly every answer that say nothing of where it ends: they need no closer look.
_NOT_OF_FRAMES = frozenset(
    {
        *(b"date", b"server", b"content-type", b"x-request-id", b"x-tollgate-cost"),
        *(
            b"x-ratelimit-%b-%b" % (figure, kind)
            for figure in (b"limit", b"remaining", b"reset")
            for kind in (b"requests", b"tokens")
        ),
    }
)


class _Cycle(RequestResponseCycle):
    """One request and its answer. What every request starts with is the class's own."""

    access_log = False
    disconnected = False
    more_body = True
    response_started = False
    response_complete = False
    chunked_encoding: bool | None = None
    expected_content_length = 0
    _head = b""
    task: asyncio.Task[None] | None = None

    def __init__(self, protocol: HttpProtocol, keep_alive: bool) -> None:
        self.scope = protocol.scope
        self.transport = protocol.transport
        self.flow = protocol.flow
        self.logger = protocol.logger
        self.default_headers = protocol.server_state.default_headers
        self.message_event = asyncio.Event()
        self.on_response = protocol.on_response_complete
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = protocol.expect_100_continue
        self.body = bytearray()
        self._protocol = protocol
        self._tasks = protocol.tasks

    async def run_asgi(self, app: Any) -> None:
        try:
            await super().run_asgi(app)
        finally:
            self._tasks.discard(self.task)

    async def send(self, message: Any) -> None:
        """As uvicorn's, but that the head of an answer leaves with the first of its body: a write is a system call."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        expected = "http.response.body" if self.response_started else "http.response.start"
        if self.response_complete or message["type"] != expected:
            raise RuntimeError(f"{message['type']} is out of turn")
        if not self.response_started:
            self._head = self._start(message["status"], message.get("headers", ()))
            self.response_started = True
            self.waiting_for_100_continue = False
            return
        is_last = not message.get("more_body", False)
        data = self._head + self._frame(message.get("body", b""), is_last)
        self._head = b""
        if data:
            self.transport.write(data)
        if is_last:
            self._complete()

    async def send_whole(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        """Both messages of an answer that is whole, `content-length` among its headers, in one."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if self.response_started:
            raise RuntimeError("http.response.start is out of turn")
        self.response_started = True
        self.waiting_for_100_continue = False
        head = self._start(status, headers)
        self.transport.write(head + self._frame(body, is_last=True))
        self._complete()

    def _complete(self) -> None:
        self.response_complete = True
        self.message_event.set()
        if self.keep_alive:
            self.on_response()
        else:
            self._protocol.end()

    def _start(self, status: int, sent: Iterable[tuple[bytes, bytes]]) -> bytes:
        if self.more_body:  # its client may send the rest, or not where it asked before
            self.keep_alive = False
        headers = [*self.default_headers, *sent]
        parts = [STATUS_LINE[status]]
        says_close = False
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
            if name in _NOT_OF_FRAMES:
                continue
            match name.lower():
                case b"content-length":
                    self.expected_content_length, self.chunked_encoding = int(value), False
                case b"transfer-encoding":
                    self.chunked_encoding = value.lower() == b"chunked"
                case b"connection" if b"close" in value.lower():
                    self.keep_alive, says_close = False, True
        head = b"".join(parts)
        if head.count(b"\n") != 1 + len(headers) or head.count(b"\r") != 1 + len(headers):
            raise RuntimeError("a header of an answer has a line break in it")
        if not (self.keep_alive or says_close):
            head += b"connection: close\r\n"
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in (204, 304):
            self.chunked_encoding = True
            head += b"transfer-encoding: chunked\r\n"
        return head + b"\r\n"

    def _frame(self, body: bytes, is_last: bool) -> bytes:
        if self.scope["method"] == "HEAD":
            return b""
        if self.chunked_encoding:
            framed = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return framed + b"0\r\n\r\n" if is_last else framed
        self.expected_content_length -= len(body)
        if self.expected_content_length < 0 or (is_last and self.expected_content_length):
            raise RuntimeError("the body of an answer is not as long as its head says")
        return body
