"""Thousands of streams that say nothing: what each costs a worker in memory, and whether a change drops any.

`python -m benchmarks.idle` opens `--streams` on one worker, through an upstream that sends first content and then
nothing but a comment now and then. Half of the silence in, an operator changes the channel, the model with its prices
and a price book. In the end the upstream finishes every answer, and each must have come to its customer whole.

Exits 0 when all did and the worker took less than `--most-kb` a stream, else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.chaos.office import Office
from benchmarks.gateway import Cores, Gateway
from benchmarks.money import CREDIT_USD, PRICE_INPUT_USD, PRICE_OUTPUT_USD
from benchmarks.processes import PROC

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MODEL, UPSTREAM_MODEL = "idle", "idle-upstream"
WARM_UP = 100
OPENED_A_SECOND = 250
WAIT_MOST_S = 60.0
_USUAL_FILES = 1024  # the limit that most systems start a process with
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)


def _event(content: str | None, finish: str | None = None, usage: dict[str, int] | None = None) -> bytes:
    delta = {} if content is None else {"content": content}
    body: dict[str, object] = {
        "id": "chatcmpl-idle",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": UPSTREAM_MODEL,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    if usage is not None:
        body["usage"] = usage
    return _chunk(b"data: " + msgspec.json.encode(body) + b"\n\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_FIRST = _HEAD + _event("first ")
_COMMENT = _chunk(b": still here\n\n")
_LAST = (
    _event("last")
    + _event(None, "stop", {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13})
    + _chunk(b"data: [DONE]\n\n")
    + b"0\r\n\r\n"
)


class Upstream(asyncio.Protocol):
    """One connection to the upstream; those with an answer under way are in `open`."""

    open: set[Upstream]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        body_at = self._buffer.find(b"\r\n\r\n") + 4
        length = _LENGTH.search(self._buffer)
        if body_at >= 4 and length and len(self._buffer) >= body_at + int(length[1]):
            self._buffer = b""
            self._transport.write(_FIRST)
            self.open.add(self)

    def say(self, data: bytes) -> None:
        self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open.discard(self)


class Customer(asyncio.Protocol):
    """One stream, as its customer has it."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._body = bytearray()
        self.has_begun = asyncio.Event()
        self.has_ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._body += data
        if b"first " in self._body:
            self.has_begun.set()
        if self._body.endswith(b"0\r\n\r\n"):
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        self.has_begun.set()
        self.has_ended.set()

    @property
    def is_whole(self) -> bool:
        body = bytes(self._body)
        return body.startswith(b"HTTP/1.1 200") and b'"last"' in body and b"data: [DONE]" in body


class Figures(msgspec.Struct, kw_only=True):
    """Memory of the worker is RSS in kB."""

    streams: int
    before_kb: int = 0
    idle_kb: int = 0
    changed_kb: int = 0
    after_kb: int = 0
    begun: int = 0
    cut_by_changes: int = 0
    whole: int = 0
    receipts_ok: int = 0

    @property
    def a_stream_kb(self) -> float:
        return (max(self.idle_kb, self.changed_kb) - self.before_kb) / self.streams


def rss_kb(pid: int) -> int:
    """Raises LookupError where the process has none."""
    for line in (PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise LookupError(f"process {pid} has no memory")


async def play(
    gateway: Gateway, office: Office, streams: int, silence_s: float, comment_s: float, prompt_kb: int
) -> Figures:
    """One run. Raises RuntimeError when it can't be made."""
    Upstream.open = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", 0, backlog=4096)
    account_id, channel_id, request = await _set_up(gateway, office, server.sockets[0].getsockname()[1], prompt_kb)
    worker = next(pid for pid, role in gateway.tree.roles().items() if role == "worker")
    figures = Figures(streams=streams)
    warm = await _begin(gateway.port, request, WARM_UP)
    await _finish(warm)
    await asyncio.sleep(1.0)
    figures.before_kb = rss_kb(worker)
    customers = await _begin(gateway.port, request, streams)
    figures.begun = sum(not customer.has_ended.is_set() for customer in customers)
    async with _comments(comment_s):
        await asyncio.sleep(silence_s / 2)
        figures.idle_kb = rss_kb(worker)
        await _change(office, channel_id)
        await asyncio.sleep(silence_s / 2)
    figures.changed_kb = rss_kb(worker)
    figures.cut_by_changes = figures.begun - sum(not customer.has_ended.is_set() for customer in customers)
    await _finish(customers)
    figures.whole = sum(customer.is_whole for customer in customers)
    await asyncio.sleep(2.0)
    figures.after_kb = rss_kb(worker)
    figures.receipts_ok = await _receipts(office, account_id, WARM_UP + streams) - WARM_UP
    server.close()
    return figures


async def _set_up(gateway: Gateway, office: Office, upstream_port: int, prompt_kb: int) -> tuple[str, str, bytes]:
    channel = {
        "name": "idle",
        "provider": "openai",
        "base_url": f"http://127.0.0.1:{upstream_port}/v1",
        "credentials": ["not-a-secret"],
        "models": {MODEL: UPSTREAM_MODEL},
    }
    channel_id = (await office.send("POST", "/channels", channel))["id"]
    await office.send("PUT", f"/models/{MODEL}", {"prices": {"input": PRICE_INPUT_USD, "output": PRICE_OUTPUT_USD}})
    account_id = await office.new_account("idle")
    await office.credit(account_id, CREDIT_USD, "idle")
    _, key = await office.new_key(account_id, "idle", {})
    text = "Take your time. " * max(1, prompt_kb * 1024 // 16)
    body = msgspec.json.encode(
        {"model": MODEL, "stream": True, "max_tokens": 50, "messages": [{"role": "user", "content": text}]}
    )
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return account_id, channel_id, head.encode() + body


async def _begin(port: int, request: bytes, number: int) -> list[Customer]:
    """So many streams whose first content is there."""
    loop = asyncio.get_running_loop()
    customers = []
    started = time.monotonic()
    for count in range(number):
        await asyncio.sleep(max(0.0, started + count / OPENED_A_SECOND - time.monotonic()))
        _, customer = await loop.create_connection(lambda: Customer(request), "127.0.0.1", port)
        customers.append(customer)
    async with asyncio.timeout(WAIT_MOST_S):
        for customer in customers:
            await customer.has_begun.wait()
    return customers


async def _finish(customers: list[Customer]) -> None:
    for upstream in list(Upstream.open):
        upstream.say(_LAST)
        Upstream.open.discard(upstream)
    async with asyncio.timeout(WAIT_MOST_S):
        for customer in customers:
            await customer.has_ended.wait()
    for customer in customers:
        customer.transport.close()


@contextlib.asynccontextmanager
async def _comments(every_s: float) -> AsyncIterator[None]:
    """A comment on every stream, now and then."""

    async def comment() -> None:
        while True:
            await asyncio.sleep(every_s)
            for upstream in Upstream.open:
                upstream.say(_COMMENT)

    task = asyncio.create_task(comment())
    try:
        yield
    finally:
        task.cancel()


async def _change(office: Office, channel_id: str) -> None:
    """What an operator may change while streams run, and what each change makes the workers read anew."""
    await office.send("PATCH", f"/channels/{channel_id}", {"weight": 7, "timeouts": {"connect_ms": 4_000}})
    await office.send("PATCH", f"/channels/{channel_id}", {"credentials": ["another-one"]})
    prices = {"input": "3.00", "output": "11.00"}
    await office.send("PUT", f"/models/{MODEL}", {"description": "Slower than ever.", "prices": prices})
    await office.send("PUT", "/books/idle", {"multiplier": "1.5"})


async def _receipts(office: Office, account_id: str, expected: int) -> int:
    """How many say that their answer was finished, once all are there."""
    for _ in range(60):
        found = [receipt async for receipt in office.receipts(account_id)]
        if len(found) >= expected:
            break
        await asyncio.sleep(0.5)
    return sum(receipt.status == "ok" for receipt in found)


def show(figures: Figures, most_kb: float, console: Console) -> bool:
    """Whether all is as it must be."""
    table = Table(title=f"{figures.streams:,} idle streams on one worker", title_justify="left")
    table.add_column("what")
    table.add_column("found", justify="right")
    rows: tuple[tuple[str, str], ...] = (
        ("streams with first content", f"{figures.begun:,}"),
        ("dropped by changes of channel, credential, model, prices, book", f"{figures.cut_by_changes:,}"),
        ("finished whole, with [DONE]", f"{figures.whole:,}"),
        ("receipts that say ok", f"{figures.receipts_ok:,}"),
        ("worker's memory before / idle / after the changes / after the end, MB", _memory(figures)),
        (f"memory a stream, kB (under {most_kb:.0f})", f"{figures.a_stream_kb:.1f}"),
    )
    for what, found in rows:
        table.add_row(what, found)
    console.print(table)
    counts = (figures.begun, figures.whole, figures.receipts_ok)
    good = all(count == figures.streams for count in counts) and figures.a_stream_kb < most_kb
    console.print("[bold green]as it must be" if good else "[bold red]not as it must be")
    return good


def _memory(figures: Figures) -> str:
    measured = (figures.before_kb, figures.idle_kb, figures.changed_kb, figures.after_kb)
    return " / ".join(f"{kb / 1024:.0f}" for kb in measured)


async def _run(given: argparse.Namespace, directory: Path) -> Figures:
    limited = ["sh", "-c", f'ulimit -S -n {_USUAL_FILES} && exec "$@"', "sh"]
    gateway = Gateway(directory, Cores.of("one-core"), through=limited)
    office = Office(f"http://127.0.0.1:{gateway.port}", gateway.admin_key)
    try:
        await asyncio.to_thread(gateway.wait_ready)
        return await play(gateway, office, given.streams, given.silence_s, given.comment_s, given.prompt_kb)
    finally:
        await office.close()
        await asyncio.to_thread(gateway.stop)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle", description=__doc__)
    parser.add_argument("--streams", type=int, default=2_000)
    parser.add_argument("--silence-s", type=float, default=40.0)
    parser.add_argument("--comment-s", type=float, default=15.0, help="between two comments of the upstream")
    parser.add_argument("--prompt-kb", type=int, default=0, help="the size of each prompt, if not a few words")
    parser.add_argument("--most-kb", type=float, default=60.0)
    given = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with (
        tempfile.TemporaryDirectory(prefix="tollgate-idle-") as name,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        figures = runner.run(_run(given, Path(name)))
    return 0 if show(figures, given.most_kb, Console(width=110)) else 1


if __name__ == "__main__":
    sys.exit(main())
