"""The HTTP side of a worker: uvicorn's protocol on httptools, doing less for each request.

What it leaves out: a timer and a callback for every request, two regular expressions for every header of an answer, a
system call for every head, an access log that nobody reads. Parsing, bodies, flow control, pipelining, closing and
draining are uvicorn's own.
"""

import asyncio
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

__all__ = ["HttpProtocol"]


class HttpProtocol(HttpToolsProtocol):
    """One connection. It is watched for idleness by one timer, that is set again only when it has rung."""

    _idle_since: float | None = None

    def on_headers_complete(self) -> None:
        """As uvicorn's, but for web sockets and a limit of connections, which are not used here."""
        parser, scope = self.parser, self.scope
        http_version = parser.get_http_version()
        scope["method"] = parser.get_method().decode("ascii")
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
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self._check_idle)

    def _unset_keepalive_if_required(self) -> None:
        """Bytes have come."""
        self._idle_since = None

    def _check_idle(self) -> None:
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return  # busy: the timer is set again when it is not
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left_s, self._check_idle)
        else:
            self.timeout_keep_alive_handler()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None


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
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()

    def _start(self, status: int, sent: Iterable[tuple[bytes, bytes]]) -> bytes:
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
