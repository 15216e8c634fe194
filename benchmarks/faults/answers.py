"""How a request is met: served, or with one of the faults of `plan.REQUEST_KINDS`."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

import msgspec

from benchmarks.faults.marks import PIECES, PROMPT_TOKENS, mark

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FIRST_S, GAP_S = 0.030, 0.010
_SLOW_GAP_S = 0.4
_GARBAGE = bytes(range(128, 256)) * 8
_ERROR = {"error": {"message": "The engine is overloaded", "type": "server_error", "code": None}}


class Exchange(msgspec.Struct):
    """A request that has been read, and the connection to answer it on."""

    channel: int
    serial: int
    stream: bool
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        if self.writer.is_closing():
            raise ConnectionResetError
        self.writer.write(data)

    def head(self, status: str, kind: str, length: int | None, more: str = "") -> None:
        framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
        self.send(f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{more}{framing}\r\n\r\n".encode())

    def whole(self, status: str, body: object, more: str = "") -> None:
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
        self.head(status, "application/json", len(raw), more)
        self.send(raw)

    def event(self, data: bytes) -> None:
        self.chunk(b"data: " + data + b"\n\n")

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def end_chunks(self) -> None:
        self.send(b"0\r\n\r\n")

    async def silence(self) -> None:
        """Until the other side has gone."""
        await self.reader.read(1)
        self.writer.close()

    def reset(self) -> None:
        if self.writer.is_closing():
            raise ConnectionResetError
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


async def answer(exchange: Exchange, fault: str) -> bool:
    """Whether the answer was whole, and its last byte went to a connection that was still open."""
    if fault in _FAULTS:
        await _FAULTS[fault](exchange)
        return False
    gap_s = _SLOW_GAP_S if fault == "slow tokens" else GAP_S
    await asyncio.sleep(FIRST_S)
    if exchange.stream:
        exchange.head("200 OK", "text/event-stream", None)
        await _pieces(exchange, range(PIECES), gap_s)
        exchange.event(msgspec.json.encode(_piece(exchange, "", "stop") | {"usage": _usage()}))
        exchange.event(b"[DONE]")
        exchange.end_chunks()
    else:
        await asyncio.sleep(gap_s * (PIECES - 1))
        exchange.whole("200 OK", _completion(exchange))
    return not exchange.writer.is_closing()


async def _pieces(exchange: Exchange, numbers: range, gap_s: float) -> None:
    for number in numbers:
        if number:
            await asyncio.sleep(gap_s)
        exchange.event(msgspec.json.encode(_piece(exchange, mark(exchange.channel, exchange.serial, number))))


async def _silent(exchange: Exchange) -> None:
    await exchange.silence()


async def _silent_after_head(exchange: Exchange) -> None:
    exchange.head("200 OK", "text/event-stream" if exchange.stream else "application/json", None)
    await exchange.silence()


async def _cut(exchange: Exchange) -> None:
    await asyncio.sleep(FIRST_S)
    if exchange.stream:
        exchange.head("200 OK", "text/event-stream", None)
        await _pieces(exchange, range(PIECES // 2), GAP_S)
    else:
        raw = msgspec.json.encode(_completion(exchange))
        exchange.head("200 OK", "application/json", len(raw))
        exchange.send(raw[: len(raw) // 2])
    await asyncio.sleep(GAP_S)  # a reset overtakes what was written right before it
    exchange.reset()


async def _garbage(exchange: Exchange) -> None:
    if exchange.stream:
        exchange.head("200 OK", "text/event-stream", None)
        exchange.event(_GARBAGE)
        exchange.end_chunks()
    else:
        exchange.whole("200 OK", _GARBAGE)


async def _empty(exchange: Exchange) -> None:
    exchange.head("200 OK", "text/event-stream" if exchange.stream else "application/json", 0)


async def _error_in_200(exchange: Exchange) -> None:
    if exchange.stream:
        exchange.head("200 OK", "text/event-stream", None)
        exchange.event(msgspec.json.encode(_ERROR))
        exchange.end_chunks()
    else:
        exchange.whole("200 OK", _ERROR)


def _status(status: str, more: str = "") -> Callable[[Exchange], Awaitable[None]]:
    async def refuse(exchange: Exchange) -> None:
        exchange.whole(status, _ERROR, more)

    return refuse


_FAULTS: dict[str, Callable[[Exchange], Awaitable[None]]] = {
    "silent": _silent,
    "silent after head": _silent_after_head,
    "cut": _cut,
    "garbage": _garbage,
    "empty 200": _empty,
    "error in 200": _error_in_200,
    "429": _status("429 Too Many Requests"),
    "429, wait 2 s": _status("429 Too Many Requests", "retry-after: 2\r\n"),
    "401": _status("401 Unauthorized"),
    "500": _status("500 Internal Server Error"),
}


def _usage() -> dict[str, int]:
    return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": PIECES, "total_tokens": PROMPT_TOKENS + PIECES}


def _piece(exchange: Exchange, text: str, finish: str | None = None) -> dict[str, object]:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return {
        "id": f"chatcmpl-{exchange.serial}",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "fleet-upstream",
        "choices": [choice],
    }


def _completion(exchange: Exchange) -> dict[str, object]:
    text = "".join(mark(exchange.channel, exchange.serial, number) for number in range(PIECES))
    message = {"role": "assistant", "content": text}
    return {
        "id": f"chatcmpl-{exchange.serial}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "fleet-upstream",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": _usage(),
    }
