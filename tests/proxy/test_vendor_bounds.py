"""What a vendor sends is bounded, whatever it sends and however: beyond a bound it is cut off, its connection is not
used again, and the fault is its own."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from app.base.clock import now_ms
from app.base.errors import NoChannel
from app.catalog.records import Timeouts
from app.proxy.dispatch.verdict import judge
from app.proxy.records import Delivered, Order
from app.proxy.relay import Relay, RelayFailed, StreamCut, bounds
from app.proxy.relay.bounds import (
    ANSWER_BYTES_MOST,
    CHUNKS_MOST,
    ERROR_BYTES_MOST,
    EVENT_BYTES_MOST,
    HEADER_BYTES_MOST,
    HEADERS_MOST,
    HELD_BYTES_MOST,
)
from app.proxy.relay.connection import Connection
from app.proxy.relay.dialects.openai_chat import read_order
from app.proxy.relay.library import LibraryTransport
from app.proxy.relay.sandbox import SandboxTransport
from app.proxy.relay.upstream import Call, Reach, Route, Transport, UpstreamFault
from app.proxy.relay.vendors import VendorTransport
from tests.answers import Answer
from tests.behaviours import answers, says
from tests.proxy.hostile_vendors import MIB, Flood, bomb, chunked, gzipped, with_length, without_length
from tests.proxy.makers import body
from tests.proxy.plans import ListedPlan, channel_to
from tests.upstreams import Behaviour, Street, Vendor

PATIENCE_S = 20
# What the kernel's buffers and one read hold of what nobody has asked for.
UNDER_WAY = 24 * MIB
PATIENT = Timeouts(connect_ms=1_000, first_token_ms=20_000, idle_ms=20_000, total_ms=40_000)
ROLE = b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}\n\n'
WORD = b'data: {"choices": [{"index": 0, "delta": {"content": "word"}}]}\n\n'
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
ENDLESS = b'data: {"choices": [{"delta": {"content": "'

# Names of errors, and a way of keeping bytes.
NO_BOUNDS = {"ANSWER_TOO_LARGE", "HEADERS_TOO_LARGE", "CHUNKS_MOST"}


class Bench:
    """Vendors, and two ways to ask them: over a transport alone, and through a relay that fails over."""

    def __init__(self, street: Street, transport: Transport) -> None:
        self.transport = transport
        self.relay = Relay(transport, SandboxTransport())
        self.vendors: list[Vendor] = []
        self._street = street

    def open(self, behaviour: Behaviour) -> Vendor:
        self.vendors.append(self._street.open(behaviour))
        return self.vendors[-1]

    def call(self, behaviour: Behaviour, timeouts: Timeouts = PATIENT) -> Call:
        url = f"{self.open(behaviour).base_url}/chat/completions"
        return Call(Route(url, {"content-type": "application/json"}, timeouts, Reach(1_000)), b'{"model": "small"}')

    async def fault(self, behaviour: Behaviour) -> str:
        """Of a plain call; and the vendor's next call gets a connection of its own."""
        call = self.call(behaviour)
        self.vendors[-1].then(behaviour, says(200, {}))
        with pytest.raises(UpstreamFault) as caught:
            await self.transport.fetch(call)
        assert (await self.transport.fetch(call)).body == b"{}"
        assert self.vendors[-1].connections == 2
        return caught.value.kind

    def plan(self, *behaviours: Behaviour) -> ListedPlan:
        vendors = [self.open(behaviour) for behaviour in behaviours]
        return ListedPlan(*(channel_to(vendor, number, PATIENT) for number, vendor in enumerate(vendors, 1)))

    async def ask(self, plan: ListedPlan, stream: bool) -> Delivered:
        """To the answer's end. Raises RelayFailed or StreamCut."""
        order = new_order(stream)
        if not stream:
            return (await self.relay.fetch(order, plan))[0]
        live = await self.relay.open(order, plan)
        try:
            while await live.next() is not None:
                live.sent()
            return live.delivered("finished")
        except StreamCut as cut:
            live.delivered("cut", str(cut))
            raise
        finally:
            await live.close()

    async def close(self) -> None:
        await self.relay.close()
        for vendor in self.vendors:
            self._street.shut(vendor)
            assert not vendor.faults, vendor.faults


def new_order(stream: bool) -> Order:
    return read_order(body(stream=stream), "req_1", now_ms())


@pytest.fixture(autouse=True)
def authorities(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The library wants some certificates, though nothing here speaks TLS."""
    monkeypatch.delenv("SSL_CERT_DIR")
    yield


@pytest.fixture(params=["in the clear", "by the library"])
async def bench(request: pytest.FixtureRequest, street: Street) -> AsyncIterator[Bench]:
    bench = Bench(street, VendorTransport() if request.param == "in the clear" else LibraryTransport())
    yield bench
    await bench.close()


@pytest.fixture
async def clear(street: Street) -> AsyncIterator[Bench]:
    bench = Bench(street, VendorTransport())
    yield bench
    await bench.close()


@pytest.fixture
async def library(street: Street) -> AsyncIterator[Bench]:
    bench = Bench(street, LibraryTransport())
    yield bench
    await bench.close()


async def cut_off(flood: Flood, most: int) -> None:
    """It was hung up on, having sent little more than it may."""
    assert await asyncio.to_thread(flood.cut_off.wait, PATIENCE_S)
    assert flood.sent < most + UNDER_WAY


@pytest.mark.parametrize("framing", [with_length, chunked, without_length])
@pytest.mark.parametrize(("status", "most"), [(200, ANSWER_BYTES_MOST), (500, ERROR_BYTES_MOST)])
async def test_an_answer_without_end_is_cut_off(
    bench: Bench, framing: Callable[[int, bytes], Flood], status: int, most: int
) -> None:
    flood = framing(status, b"x" * 8000)
    assert await bench.fault(flood) == "answer too large"
    await cut_off(flood, most)


async def test_the_largest_answer_passes(bench: Bench) -> None:
    for status, most in ((200, ANSWER_BYTES_MOST), (400, ERROR_BYTES_MOST)):
        large = b"x" * most
        assert (await bench.transport.fetch(bench.call(says(status, large)))).body == large
        with pytest.raises(UpstreamFault, match="answer too large"):
            await bench.transport.fetch(bench.call(says(status, large + b"x")))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("status", [200, 400, 500])
async def test_another_channel_answers_in_its_place(bench: Bench, status: int, stream: bool) -> None:
    """The fault is the channel's: it counts for its health, whatever the status. Of a stream's 500 nothing is read."""
    flood = chunked(status, b"x" * 8000)
    plan = bench.plan(flood, answers(Answer(pieces=("well",))))
    delivered = await bench.ask(plan, stream)
    assert delivered.output == "well"
    error = (
        "status" if stream and status == 500 else "event too large" if stream and status == 200 else "answer too large"
    )
    assert [each.error for each in delivered.tries] == [error, None]
    assert judge(plan.outcomes["chn_1"]) == "failed"
    await cut_off(flood, ANSWER_BYTES_MOST)


async def test_an_answer_of_too_many_parts_is_not_read(bench: Bench) -> None:
    """Two bytes on the wire, eighty in memory."""
    parts = b'{"choices":[' + b"{}," * (10 * MIB) + b"{}]}"
    plan = bench.plan(says(200, parts), answers(Answer(pieces=("well",))))
    delivered = await bench.ask(plan, False)
    assert [each.error for each in delivered.tries] == ["answer too large", None]
    events = EVENTS + b"data: " + parts + b"\n\n"
    plan = bench.plan(Flood(events, b": \n\n", 0), answers(Answer(pieces=("well",))))
    delivered = await bench.ask(plan, True)
    assert [each.error for each in delivered.tries] == ["event too large", None]


@pytest.mark.parametrize("piece", [b"a", b"\\n", b"a" * 5000], ids=["bytes", "escapes", "large"])
async def test_an_event_without_end_before_content(bench: Bench, piece: bytes) -> None:
    """Another channel answers."""
    flood = Flood(EVENTS + ROLE + ENDLESS, piece)
    plan = bench.plan(flood, answers(Answer(pieces=("well",))))
    delivered = await bench.ask(plan, True)
    assert [each.error for each in delivered.tries] == ["event too large", None]
    assert judge(plan.outcomes["chn_1"]) == "failed"
    await cut_off(flood, EVENT_BYTES_MOST)


async def test_an_event_without_end_after_content(bench: Bench) -> None:
    """The stream ends as any that breaks off, and its channel is judged by it."""
    flood = Flood(EVENTS + ROLE + WORD + ENDLESS, b"a" * 100)
    plan = bench.plan(flood, answers())
    with pytest.raises(StreamCut, match="event too large"):
        await bench.ask(plan, True)
    assert plan.errors == {"chn_1": "event too large"}
    assert judge(plan.outcomes["chn_1"]) == "failed"
    await cut_off(flood, EVENT_BYTES_MOST)


async def test_events_before_content_are_not_kept_without_end(bench: Bench) -> None:
    """They are held back until the answer has begun: a vendor that says its role for ever would fill the memory."""
    flood = Flood(EVENTS, ROLE)
    plan = bench.plan(flood, answers(Answer(pieces=("well",))))
    delivered = await bench.ask(plan, True)
    assert [each.error for each in delivered.tries] == ["answer too large", None]
    await cut_off(flood, HELD_BYTES_MOST)


@pytest.mark.parametrize(("bound", "most"), [("STREAM_BYTES_MOST", 4 * MIB), ("STREAM_LETTERS_MOST", 100_000)])
async def test_a_stream_without_end_is_cut(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    """Its text is kept until it is settled."""
    monkeypatch.setattr(f"app.proxy.relay.stream.{bound}", most)
    flood = Flood(EVENTS, WORD)
    with pytest.raises(StreamCut, match="answer too large"):
        await bench.ask(bench.plan(flood), True)
    await cut_off(flood, 4 * MIB)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"x-more: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nx-more: ", b"y" * 1000),
        (b"HTTP/1.1 200 OK\r\n", b"y" * 1000),
    ],
    ids=["many", "long value", "long name"],
)
async def test_headers_without_end_are_cut_off(bench: Bench, head: bytes, piece: bytes, stream: bool) -> None:
    flood = Flood(head, piece)
    plan = bench.plan(flood, answers(Answer(pieces=("well",))))
    delivered = await bench.ask(plan, stream)
    assert [each.error for each in delivered.tries] == ["headers too large", None]
    assert judge(plan.outcomes["chn_1"]) == "failed"
    await cut_off(flood, HEADER_BYTES_MOST)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * HEADERS_MOST + b"content-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * HEADER_BYTES_MOST + b"\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + (b"x: " + b"y" * 4000 + b"\r\n") * 17 + b"content-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" + b"x: y\r\n" * 201 + b"\r\n",
        b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * 5000 + b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;" + b"x" * 600_000 + b"\r\n{}\r\n0\r\n\r\n",
    ],
    ids=["201 headers", "a long one", "all together", "trailers", "hints", "chunk extensions"],
)
async def test_headers_of_an_answer_in_the_clear(clear: Bench, raw: bytes) -> None:
    """Wherever they stand; also where all of it comes at once."""
    assert await clear.fault(Flood(raw, b" ", 0)) == "headers too large"


async def test_as_many_headers_as_there_may_be(clear: Bench) -> None:
    many = b"x: y\r\n" * (HEADERS_MOST - 2) + b"y: " + b"z" * (HEADER_BYTES_MOST - 4096) + b"\r\n"
    raw = b"HTTP/1.1 200 OK\r\n" + many + b"content-length: 2\r\n\r\n{}"
    assert (await clear.transport.fetch(clear.call(Flood(raw, b" ", 0)))).body == b"{}"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_small_answer_that_unpacks_to_a_large_one(library: Bench, stream: bool) -> None:
    """A thousand times as large. What is decompressed is measured, and no more of it than may come."""
    begins = b": ping\n\n" + ENDLESS if stream else b'{"choices": ['
    bombs = bomb(200, begins, b"a", EVENT_BYTES_MOST + 4 * MIB)
    plan = library.plan(bombs, answers(Answer(pieces=("well",))))
    delivered = await library.ask(plan, stream)
    assert [each.error for each in delivered.tries] == ["event too large" if stream else "answer too large", None]
    error = bomb(400, b'{"error": {"message": "', b"a", 8 * MIB)
    with pytest.raises(RelayFailed) as failed:
        await library.ask(library.plan(error), stream)
    assert isinstance(failed.value.error, NoChannel)
    assert [each.error for each in failed.value.tries] == ["answer too large"]


async def test_what_compresses_is_understood_over_tls(library: Bench) -> None:
    """By the library; but for zstd, whose decoder may be told to keep 128 MiB."""
    answer = json.dumps({"said": "abc" * 1000}).encode()
    call = library.call(says(200, gzipped(answer, b" ", MIB), content_encoding="gzip"))
    assert (await library.transport.fetch(call)).body.strip() == answer
    (request,) = library.vendors[-1].requests
    assert set(request.headers["accept-encoding"].split(",")) == {"gzip", "deflate", "br"}


@pytest.mark.parametrize("headers", [{}, {"accept-encoding": "gzip"}])
async def test_a_vendor_in_the_clear_is_asked_not_to_compress(clear: Bench, headers: dict[str, str]) -> None:
    """Whatever headers an operator has set for its channel."""
    url = f"{clear.open(says(200, {})).base_url}/chat/completions"
    await clear.transport.fetch(Call(Route(url, headers, PATIENT, Reach(1_000)), b"{}"))
    assert clear.vendors[-1].requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_vendor_in_the_clear_that_compresses_all_the_same(clear: Bench, stream: bool) -> None:
    """The receipt says so. Of an error the status says enough."""
    packed = gzipped(b"{}", b" ", 0)
    plan = clear.plan(says(200, packed, content_encoding="gzip"), answers(Answer(pieces=("well",))))
    delivered = await clear.ask(plan, stream)
    assert [each.error for each in delivered.tries] == ["compressed", None]
    plan = clear.plan(says(429, packed, content_encoding="gzip", retry_after="3"), answers())
    await clear.ask(plan, stream)
    assert plan.outcomes["chn_1"].retry_after_ms == 3_000
    plain = says(200, {}, content_encoding="identity")
    assert (await clear.transport.fetch(clear.call(plain))).body == b"{}"


async def test_a_body_in_tiny_chunks_is_kept_in_few_pieces() -> None:
    """Each piece costs forty bytes beside its own."""
    loop, size = asyncio.get_running_loop(), 200_000

    async def listen(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None: ...

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        place = ("127.0.0.1", server.sockets[0].getsockname()[1])
        wire, connection = await loop.create_connection(lambda: Connection(place, lambda _: None), *place)
        connection.begin(b"GET / HTTP/1.1\r\n\r\n", loop.time() + 60)
        whole = asyncio.create_task(connection.whole())
        await asyncio.sleep(0)
        connection.data_received(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(0, size, 200):
            connection.data_received(b"2\r\nxy\r\n" * 100)
        assert len(connection._chunks) <= CHUNKS_MOST + 1
        connection.data_received(b"0\r\n\r\n")
        assert await whole == b"xy" * (size // 2)
        wire.abort()


@pytest.mark.parametrize("name", sorted({name for name in bounds.__all__ if name.isupper()} - NO_BOUNDS))
def test_each_bound_is_in_the_documents(name: str) -> None:
    """As operators read it: in MiB or KiB where it is of bytes."""
    most = getattr(bounds, name)
    told = f"{most:,}" if "BYTES" not in name else f"{most // MIB} MiB" if most >= MIB else f"{most // 1024} KiB"
    page = Path("docs/security.md").read_text()
    assert f" {told}" in page.partition("## What a vendor may send")[2].partition("\n## ")[0]
