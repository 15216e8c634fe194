"""A calibrated upstream: the OpenAI chat dialect over hand-written HTTP/1.1, a few microseconds of CPU a
request.

It answers every POST to `…/chat/completions` with a constant completion, or, when the body says `"stream":
true`, with a paced SSE stream whose content frames carry a sequence number and the monotonic time they were
written at. It keeps its own count of what it served in full, which the benchmark holds against the gateway's
receipts: `GET /count`.

It refuses whatever it was not built for: other paths (404), chunked request bodies (411), bodies above 1 MiB
(413), clients that are not on this machine (it listens on 127.0.0.1 alone). It parses no JSON and checks no
key.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import re
import time
from typing import TYPE_CHECKING, cast

import msgspec
import uvloop

if TYPE_CHECKING:
    from collections.abc import Callable

PROMPT_TOKENS = 23
COMPLETION_TOKENS = 17  # of the constant answer; a stream counts one completion token a frame
BODY_BYTES_MAX = 1 << 20
HEAD_BYTES_MAX = 1 << 16

_IS_STREAM = re.compile(rb'"stream"\s*:\s*true')
_WANTS_USAGE = re.compile(rb'"include_usage"\s*:\s*true')
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)


def _answer(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (
        status,
        len(body),
    )
    return head + body


def _chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def _event(choices: bytes, extra: bytes = b"") -> bytes:
    return (
        b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,'
        b'"model":"bench-upstream","choices":[%b]%b}\n\n' % (choices, extra)
    )


def _usage(completion_tokens: int) -> bytes:
    total = PROMPT_TOKENS + completion_tokens
    counts = (PROMPT_TOKENS, completion_tokens, total)
    return b'"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}' % counts


_COMPLETION = _answer(
    b"200 OK",
    b'{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"bench-upstream",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"The toll is paid."},'
    b'"finish_reason":"stop"}],' + _usage(COMPLETION_TOKENS) + b"}",
)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_FINISH = _chunk(_event(b'{"index":0,"delta":{},"finish_reason":"stop"}'))
_END = _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Count(msgspec.Struct):
    """What was served in full: a request counts once its last byte went to a connection still open."""

    requests: int = 0
    streams: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    frames: int = 0


class Upstream(asyncio.Protocol):
    """One keep-alive connection. Requests are answered in order; a stream holds back the next one."""

    __slots__ = ("_buffer", "_count", "_frames", "_interval_s", "_later", "_streaming", "_transport")

    def __init__(self, count: Count, frames: int, interval_ms: float) -> None:
        self._count = count
        self._frames = frames
        self._interval_s = interval_ms / 1000
        self._buffer = b""
        self._streaming = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._later: Callable[..., object] = asyncio.get_running_loop().call_at

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        while self._buffer and not self._streaming and self._take_request():
            pass

    def _take_request(self) -> bool:
        """Answer the first whole request of the buffer; False when it is not all there yet."""
        buffer = self._buffer
        body_at = buffer.find(b"\r\n\r\n") + 4
        if body_at < 4:
            return self._refuse(b"431 Too Large") if len(buffer) > HEAD_BYTES_MAX else False
        length = _LENGTH.search(buffer, 0, body_at)
        if length is None and _CHUNKED.search(buffer, 0, body_at):
            return self._refuse(b"411 Length Required")
        end = body_at + (int(length[1]) if length else 0)
        if end - body_at > BODY_BYTES_MAX:
            return self._refuse(b"413 Content Too Large")
        if len(buffer) < end:
            return False
        self._buffer = buffer[end:]
        method, path, _ = buffer[: buffer.find(b"\r")].split(b" ", 2)
        if method == b"POST" and path.endswith(b"/chat/completions"):
            if _IS_STREAM.search(buffer, body_at, end):
                self._start_stream(_WANTS_USAGE.search(buffer, body_at, end) is not None)
            else:
                self._complete()
        elif path == b"/count":
            self._transport.write(_answer(b"200 OK", msgspec.json.encode(self._count)))
        else:
            self._transport.write(_answer(b"404 Not Found", b'{"error":{"message":"no such path"}}'))
        return True

    def _complete(self) -> None:
        self._transport.write(_COMPLETION)
        if not self._transport.is_closing():
            count = self._count
            count.requests += 1
            count.prompt_tokens += PROMPT_TOKENS
            count.completion_tokens += COMPLETION_TOKENS

    def _start_stream(self, wants_usage: bool) -> None:
        self._streaming = True
        self._transport.write(_STREAM_HEAD)
        self._send_frame(0, asyncio.get_running_loop().time(), wants_usage)

    def _send_frame(self, number: int, started: float, wants_usage: bool) -> None:
        if self._transport.is_closing():
            return
        if number == self._frames:
            self._end_stream(wants_usage)
            return
        role = b'"role":"assistant",' if number == 0 else b""
        delta = b'{"index":0,"delta":{%b"content":"#%d@%d "},"finish_reason":null}'
        self._transport.write(_chunk(_event(delta % (role, number, time.monotonic_ns()))))
        # Due times count from the start of the stream, so that a late frame does not delay the others.
        due = started + (number + 1) * self._interval_s
        self._later(due, self._send_frame, number + 1, started, wants_usage)

    def _end_stream(self, wants_usage: bool) -> None:
        usage = _chunk(_event(b"", b"," + _usage(self._frames))) if wants_usage else b""
        self._transport.write(_FINISH + usage + _END)
        count = self._count
        count.requests += 1
        count.streams += 1
        count.prompt_tokens += PROMPT_TOKENS
        count.completion_tokens += self._frames
        count.frames += self._frames
        self._streaming = False
        self.data_received(b"")

    def _refuse(self, status: bytes) -> bool:
        self._transport.write(_answer(status, b'{"error":{"message":"refused"}}'))
        self._transport.close()
        self._buffer = b""
        return False


async def serve(port: int, frames: int, interval_ms: float) -> None:
    """Listen on 127.0.0.1 until cancelled; the port is printed once connections are accepted."""
    count = Count()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(count, frames, interval_ms), "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    gc.freeze()
    await server.serve_forever()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.upstream", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one; the port is printed on start")
    parser.add_argument("--frames", type=int, default=30, help="content frames a stream")
    parser.add_argument("--interval-ms", type=float, default=15.0, help="time between two frames")
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.port, arguments.frames, arguments.interval_ms))


if __name__ == "__main__":
    main()
