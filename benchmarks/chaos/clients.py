"""Customers: each with a key of its own, one request at a time, plain or streamed; some hang up before the end.

A key of its own and one request at a time are what lets a receipt that names nobody (its worker was killed) be told
apart: it is the one request that this key had under way when it was made.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from typing import TYPE_CHECKING

import msgspec

from benchmarks.chaos.errand import FIRST_SERIAL, MODEL, Errand, Sent
from benchmarks.chaos.faults import now_ms
from benchmarks.responses import MalformedResponseError, ResponseReader

if TYPE_CHECKING:
    from benchmarks.chaos.errand import Ending

PATIENCE_S = 45.0
_HEAD_MAX = 1 << 14
_REQUEST_ID = re.compile(rb"\r\nx-request-id:[ \t]*(\S+)", re.IGNORECASE)
_COST = re.compile(rb"\r\nx-tollgate-cost:[ \t]*(\S+)", re.IGNORECASE)
_FRAME = re.compile(rb'"#(\d+) "')
_CODE = re.compile(rb'"code"\s*:\s*"([a-z_]+)"')
_DONE, _ERROR = b"data: [DONE]", b'data: {"error"'


class Caller(msgspec.Struct, frozen=True):
    """Who asks."""

    account_id: str
    key_id: str
    key: str


class Book:
    """Every request of the run, and the next serial. `most` bounds them."""

    def __init__(self, most: int) -> None:
        self.sent: list[Sent] = []
        self._most = most

    @property
    def full(self) -> bool:
        return len(self.sent) >= self._most

    def open(self, caller: Caller, errand: Errand) -> Sent:
        sent = Sent(errand=errand, account_id=caller.account_id, key_id=caller.key_id, sent_ms=now_ms())
        self.sent.append(sent)
        return sent

    @property
    def serial(self) -> int:
        return FIRST_SERIAL + len(self.sent)


def draw_errand(rng: random.Random, serial: int) -> Errand:
    """Half plain, half streamed; one in five hangs up early, one in twelve meets a vendor that fails."""
    stream, fate, leave = rng.random() < 0.5, rng.random(), rng.random() < 0.2
    ending: Ending = "whole"
    if fate < 0.04:
        ending = "refused"
    elif stream and fate < 0.08:
        ending = "cut"
    frames = rng.randint(5, 40) if stream else 0
    return Errand(
        serial=serial,
        stream=stream,
        wait_ms=rng.randint(5, 60) if stream else rng.choice((5, 20, 80, 300, 900)),
        frames=frames,
        gap_ms=rng.choice((5, 20, 50)) if stream else 0,
        ending=ending,
        leave_after=rng.randint(0, frames if stream else 9) if leave else None,
    )


class Client:
    """One customer's connection, opened again when it is lost."""

    def __init__(self, port: int, caller: Caller, book: Book, rng: random.Random) -> None:
        self._port, self._caller, self._book, self._rng = port, caller, book, rng
        self._link: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Until `stopping`, or the book is full; what is under way then is waited for."""
        try:
            while not stopping.is_set() and not self._book.full:
                sent = await self.ask(draw_errand(self._rng, self._book.serial))
                calm = sent.outcome in ("answered", "vanished")
                await asyncio.sleep(self._rng.uniform(0.0, 0.1) if calm else self._rng.uniform(0.2, 0.6))
        finally:
            self.hang_up()

    async def ask(self, errand: Errand) -> Sent:
        """One request to its end, whatever that is."""
        sent = self._book.open(self._caller, errand)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._converse(sent)
        except TimeoutError:
            sent.outcome = "gave up"
        except (OSError, MalformedResponseError, ValueError):
            sent.outcome = "broken"
        sent.ended_ms = now_ms()
        if sent.outcome not in ("answered", "refused", "unavailable", "failed"):
            self.hang_up()
        return sent

    def hang_up(self) -> None:
        if self._link is not None:
            self._link[1].transport.abort()
            self._link = None

    async def _converse(self, sent: Sent) -> None:
        if self._link is None:
            try:
                self._link = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                sent.outcome = "unreachable"
                return
        reader, writer = self._link
        sent.sent_ms = now_ms()
        writer.write(self._request(sent.errand))
        leave = sent.errand.leave_after
        if leave is not None and not sent.errand.stream:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(sent.errand.wait_ms * leave / 10_000 + 0.002):
                    await self._read(sent, reader)
                    return
            sent.outcome = "vanished"
        else:
            await self._read(sent, reader)

    def _request(self, errand: Errand) -> bytes:
        body: dict[str, object] = {
            "model": MODEL,
            "max_tokens": errand.serial,
            "messages": [{"role": "user", "content": msgspec.json.encode(errand).decode()}],
        }
        if errand.stream:
            body["stream"] = True
        text = msgspec.json.encode(body)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {self._caller.key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
        )
        return head.encode() + text

    async def _read(self, sent: Sent, reader: asyncio.StreamReader) -> None:
        response, head, body = ResponseReader(), b"", b""
        started = time.monotonic()
        while True:
            data = await reader.read(1 << 16)
            if not data:
                sent.outcome = "broken"
                return
            if not sent.status and len(head) < _HEAD_MAX:
                head += data
            whole = response.feed(data)
            if response.status and not sent.status:
                _read_head(sent, response.status, head.partition(b"\r\n\r\n")[0] + b"\r\n")
                sent.first_ms = round((time.monotonic() - started) * 1000)
            body += response.body
            if sent.errand.stream:
                _count(sent, body)
                if sent.errand.leave_after is not None and sent.frames >= sent.errand.leave_after and not whole:
                    sent.outcome = "vanished"
                    return
            if whole:
                _end(sent, body)
                return


def _read_head(sent: Sent, status: int, head: bytes) -> None:
    sent.status = status
    if found := _REQUEST_ID.search(head):
        sent.request_id = found[1].decode()
    if found := _COST.search(head):
        sent.cost = found[1].decode()


def _count(sent: Sent, body: bytes) -> None:
    numbers = [int(number) for number in _FRAME.findall(body)]
    sent.frames = len(numbers)
    sent.in_order = numbers == list(range(len(numbers)))


def _end(sent: Sent, body: bytes) -> None:
    if sent.status == 200:
        sent.outcome = "answered" if not sent.errand.stream or _DONE in body else "cut" if _ERROR in body else "broken"
    else:
        sent.outcome = {429: "refused", 503: "unavailable"}.get(sent.status, "failed")  # type: ignore[assignment]
    if sent.outcome != "answered" and (found := _CODE.search(body)):
        sent.code = found[1].decode()
