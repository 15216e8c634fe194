"""How a vendor behaves: it answers, answers halfway, says something fixed, or says nothing."""

import asyncio
import json
import threading
from typing import Any, Literal

from tests.answers import Answer, Shape, body_of, frames_of, sse
from tests.upstreams import Behaviour, Exchange, Served

__all__ = ["Gate", "answers", "hangs", "says"]

Ending = Literal["hang", "reset", "close", "end", "error"]


class Gate:
    """Shut until a test opens it: holds an answer back at a known point, without sleeping."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    async def passed(self) -> None:
        while not self._open.is_set():
            await asyncio.sleep(0.005)


def answers(
    answer: Answer | None = None,
    shape: Shape | None = None,
    *,
    after: int | None = None,
    then: Ending | Gate = "end",
    **headers: str,
) -> Behaviour:
    """Answers, streamed when asked to.

    With `after`, only so many events are sent (0: headers alone; 1: the role, too) before `then` happens.
    `end` ends the HTTP body properly, `close` and `reset` break the connection, `hang` says no more, `error`
    sends an error event, a Gate holds the rest back until it opens.
    Not streamed, `after` cuts the body in half (0: before its first byte), and a Gate holds back all of it.
    """
    said, form = answer or Answer(), shape or Shape()

    async def behave(exchange: Exchange) -> None:
        request = exchange.request.json
        output_tokens = said.output_tokens(request.get("n") or 1)
        served = Served(request["model"], said.prompt_tokens, output_tokens)
        if request.get("stream"):
            await exchange.head(200, content_type="text/event-stream", transfer_encoding="chunked", **headers)
            await _stream(exchange, frames_of(said, form, request), form, after, then, served)
        else:
            await _body(exchange, body_of(said, request), after, then, served, headers)

    return behave


def says(status: int, body: Any = None, **headers: str) -> Behaviour:
    """A fixed answer: bytes as they are, anything else as JSON, None as an empty body."""
    raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()

    async def behave(exchange: Exchange) -> None:
        await exchange.whole(status, raw, **headers)

    return behave


def hangs() -> Behaviour:
    """Reads the request, then says nothing at all, not even headers."""

    async def behave(exchange: Exchange) -> None:
        await exchange.hang()

    return behave


async def _body(
    exchange: Exchange,
    body: dict[str, Any],
    after: int | None,
    then: Ending | Gate,
    served: Served,
    headers: dict[str, str],
) -> None:
    raw = json.dumps(body, ensure_ascii=False).encode()
    if isinstance(then, Gate):
        await then.passed()
    elif after is not None:
        await exchange.head(200, content_type="application/json", content_length=str(len(raw)), **headers)
        await exchange.send(raw[: len(raw) // 2 if after else 0])
        await _part(exchange, then)
        return
    exchange.vendor.served.append(served)
    await exchange.whole(200, raw, **headers)


async def _stream(
    exchange: Exchange, frames: list[bytes], shape: Shape, after: int | None, then: Ending | Gate, served: Served
) -> None:
    for i, frame in enumerate(frames):
        if i == after:
            if not isinstance(then, Gate):
                await _break_off(exchange, shape, then)
                return
            await then.passed()
        if i == len(frames) - 1:  # noted before the last byte: who has that may look at once
            exchange.vendor.served.append(served)
        await exchange.chunk(frame, shape.bytes_per_write)
    await exchange.end_chunks()


async def _break_off(exchange: Exchange, shape: Shape, how: Ending) -> None:
    if how == "error":
        fault = {"error": {"message": "The engine is overloaded", "type": "server_error"}}
        await exchange.chunk(sse(json.dumps(fault), shape))
    if how in ("error", "end"):
        await exchange.end_chunks()
    else:
        await _part(exchange, how)


async def _part(exchange: Exchange, how: Ending) -> None:
    match how:
        case "hang":
            await exchange.hang()
        case "reset":
            await asyncio.sleep(0.05)  # what is unread when the reset comes is lost with it
            exchange.reset()
        case _:
            exchange.close()
