"""Customers who do not wait for each other: so many requests a second, whatever becomes of the earlier ones."""

from __future__ import annotations

import asyncio
import random
import re
import time

import msgspec

from benchmarks.faults.marks import MODEL, Sent, prompt, read_said
from benchmarks.responses import MalformedResponseError, ResponseReader

PATIENCE_S = 30.0
IN_FLIGHT_MOST = 4_000
_REQUEST_ID = re.compile(rb"\r\nx-request-id:[ \t]*(\S+)", re.IGNORECASE)
_DONE, _CONTENT = b"data: [DONE]", b'"#'
_CODE = re.compile(rb'"code"\s*:\s*"([a-z_]+)"')
_Link = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Delta(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = _Delta()
    message: _Delta = _Delta()


class _Body(msgspec.Struct):
    choices: list[_Choice] = []


_body = msgspec.json.Decoder(_Body)


class Load:
    """`key` is the customer's. Half of the requests are streamed; connections are used again."""

    def __init__(self, port: int, key: str, rng: random.Random) -> None:
        self._port, self._key, self._rng = port, key, rng
        self._idle: list[_Link] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.sent: list[Sent] = []

    async def run(self, rate: float, started_s: float, load_s: float) -> list[Sent]:
        """From `started_s` of CLOCK_MONOTONIC on; what is under way at the end is waited for. What was sent."""
        first = len(self.sent)
        for number in range(round(rate * load_s)):
            due_s = started_s + (number + self._rng.random()) / rate
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            if len(self._tasks) >= IN_FLIGHT_MOST:
                raise RuntimeError(f"{IN_FLIGHT_MOST} requests are under way: the gateway does not keep up")
            sent = Sent(
                serial=len(self.sent) + 1, stream=self._rng.random() < 0.5, at_s=round(time.monotonic() - started_s, 3)
            )
            self.sent.append(sent)
            task = asyncio.create_task(self._ask(sent))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._tasks:
            await asyncio.wait(set(self._tasks))
        return self.sent[first:]

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        while self._idle:
            self._idle.pop()[1].transport.abort()

    async def _ask(self, sent: Sent) -> None:
        started = time.monotonic()
        link: _Link | None = None
        try:
            async with asyncio.timeout(PATIENCE_S):
                link = await self._link()
                link[1].write(self._request(sent))
                whole = await _read(sent, link[0], started)
        except (TimeoutError, OSError):
            whole = False
        except (MalformedResponseError, ValueError):
            sent.outcome, whole = "malformed", False
        sent.took_ms = (time.monotonic() - started) * 1000
        if link is not None and whole:
            self._idle.append(link)
        elif link is not None:
            link[1].transport.abort()

    async def _link(self) -> _Link:
        while self._idle:
            link = self._idle.pop()
            if not link[0].at_eof():
                return link
        return await asyncio.open_connection("127.0.0.1", self._port)

    def _request(self, sent: Sent) -> bytes:
        body: dict[str, object] = {
            "model": MODEL,
            "max_tokens": 100,
            "messages": [{"role": "user", "content": prompt(sent.serial)}],
        }
        if sent.stream:
            body["stream"] = True
        text = msgspec.json.encode(body)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {self._key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
        )
        return head.encode() + text


async def _read(sent: Sent, reader: asyncio.StreamReader, started: float) -> bool:
    """Whether the answer came to the end of its HTTP body."""
    response, head, parts = ResponseReader(), b"", []
    while True:
        data = await reader.read(1 << 16)
        if not data:
            sent.outcome = "broken"
            break
        if not response.status:
            head += data
        whole = response.feed(data)
        parts.append(response.body)
        if not sent.first_ms and _CONTENT in response.body:
            sent.first_ms = (time.monotonic() - started) * 1000
        if whole:
            break
    if found := _REQUEST_ID.search(head):
        sent.request_id = found[1].decode()
    body = b"".join(parts)
    if response.status != 200:
        sent.outcome = str(response.status or "broken")
        if found := _CODE.search(body):
            sent.code = found[1].decode()
        return bool(data)
    _judge(sent, body, ended=bool(data))
    return bool(data)


def _judge(sent: Sent, body: bytes, *, ended: bool) -> None:
    if sent.stream:
        events = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: {")]
        pieces = [choice.delta.content or "" for event in events for choice in _body.decode(event).choices]
        says_done = _DONE in body
    else:
        pieces = [choice.message.content or "" for choice in _body.decode(body).choices] if ended else []
        says_done = ended
    sent.said = read_said("".join(pieces), sent.serial)
    sent.outcome = "whole" if says_done else "broken"
