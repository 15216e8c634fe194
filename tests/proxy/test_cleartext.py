"""Connections of our own to vendors in the clear: answers to the byte however they come, never another's, and a vendor
that nobody waits for is told at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.catalog.records import Timeouts
from app.proxy.relay.cleartext import CleartextTransport, serves
from app.proxy.relay.connection import Connection
from app.proxy.relay.upstream import Call, Reach, Route, UpstreamFault

BODY = b'{"model": "small"}'
ANSWER = b'{"said": "' + b"abc" * 40 + b'"}'
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(
    b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (ANSWER[:7], ANSWER[7:50], ANSWER[50:])
)
HINTED = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + LENGTH

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def transport() -> AsyncIterator[CleartextTransport]:
    transport = CleartextTransport()
    yield transport
    await transport.close()


class Engine:
    """`connections` were made to it, and `gone` counts those that the gateway has closed."""

    def __init__(self) -> None:
        self.connections = 0
        self.gone = asyncio.Semaphore(0)
        self.url = ""


@asynccontextmanager
async def engine(*talks: Talk) -> AsyncIterator[Engine]:
    """One that meets the first request of each connection with the first talk, the second with the second."""
    self = Engine()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            for talk in talks:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(len(BODY))
                await talk(reader, writer)
            await reader.read(1)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.gone.release()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat/completions"
        yield self


def says(*parts: bytes, then_closes: bool = False) -> Talk:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        if then_closes:
            writer.close()

    return talk


async def waits(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


def call(url: str, **timeouts: int) -> Call:
    within = Timeouts(**timeouts)
    return Call(Route(url, {"content-type": "application/json"}, within, Reach(within.connect_ms)), BODY)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.sampled_from([LENGTH, CHUNKED + b"0\r\n\r\n", HINTED]), cuts=st.lists(st.integers(1, 260), max_size=6))
async def test_an_answer_is_the_same_wherever_its_bytes_are_split(
    transport: CleartextTransport, raw: bytes, cuts: list[int]
) -> None:
    at = [0, *sorted({cut for cut in cuts if cut < len(raw)}), len(raw)]
    parts = [raw[start:end] for start, end in pairwise(at)]
    async with engine(says(*parts), says(*parts)) as vendor:
        assert (await transport.fetch(call(vendor.url))).body == ANSWER
        opened = await transport.open(call(vendor.url))
        came = b""
        while (chunk := await opened.read()) is not None:
            came += chunk
        await opened.close()
        assert (opened.status, came, vendor.connections) == (200, ANSWER, 1)


async def test_without_a_length_the_end_of_the_connection_is_the_end(transport: CleartextTransport) -> None:
    async with engine(says(b"HTTP/1.1 200 OK\r\n\r\n", ANSWER, then_closes=True)) as vendor:
        for _ in range(2):
            assert (await transport.fetch(call(vendor.url))).body == ANSWER
        assert vendor.connections == 2


@pytest.mark.parametrize(
    "cut",
    [b"", b"HTTP/1.1 200 O", LENGTH[:-1], CHUNKED, b"SMTP 220 hello\r\n\r\n", b"HTTP/1.1 101 Up\r\nupgrade: x\r\n\r\n"],
)
async def test_half_an_answer_is_a_fault(transport: CleartextTransport, cut: bytes) -> None:
    async with engine(says(cut, then_closes=True)) as vendor:
        with pytest.raises(UpstreamFault, match="network"):
            await transport.fetch(call(vendor.url))


async def test_what_came_before_a_fault_is_read(transport: CleartextTransport) -> None:
    async with engine(says(CHUNKED, then_closes=True)) as vendor:
        opened = await transport.open(call(vendor.url))
        came = b""
        with pytest.raises(UpstreamFault, match="network"):
            while True:
                came += await opened.read() or b""
        assert came == ANSWER
        await opened.close()


async def test_a_head_without_end_is_not_listened_to(transport: CleartextTransport) -> None:
    async def ramble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while not writer.is_closing():
            writer.write(b"x-more: " + b"y" * 8000 + b"\r\n")
            await writer.drain()

    async with engine(ramble) as vendor:
        with pytest.raises(UpstreamFault, match="headers too large"):
            await transport.fetch(call(vendor.url))


@pytest.mark.parametrize("more", [LENGTH, b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", b"garbage"])
async def test_what_nobody_asked_for_is_nobodys_answer(transport: CleartextTransport, more: bytes) -> None:
    """A second answer behind the first, or on a connection that waits: the next request gets its own."""
    second = LENGTH.replace(b"abc", b"xyz")
    for at_once in (True, False):
        talk = says(LENGTH + more) if at_once else says(LENGTH, more)
        async with engine(talk, says(second)) as vendor:
            first = call(vendor.url)
            assert (await transport.fetch(first)).body == ANSWER
            await asyncio.wait_for(vendor.gone.acquire(), 5)
            assert (await transport.fetch(first)).body == ANSWER
            assert vendor.connections == 2


async def test_a_connection_that_the_engine_has_closed_is_not_used_again(transport: CleartextTransport) -> None:
    async with engine(says(LENGTH, then_closes=True)) as vendor:
        for made in (1, 2, 3):
            assert (await transport.fetch(call(vendor.url))).body == ANSWER
            await asyncio.wait_for(vendor.gone.acquire(), 5)
            assert vendor.connections == made


@pytest.mark.parametrize("talk", [waits, says(LENGTH[:-1]), says(CHUNKED)])
@pytest.mark.parametrize("way", ["fetch", "open"])
async def test_an_engine_that_nobody_waits_for_is_told_at_once(
    transport: CleartextTransport, talk: Talk, way: str
) -> None:
    async with engine(talk) as vendor:

        async def ask() -> None:
            if way == "fetch":
                await transport.fetch(call(vendor.url))
            opened = await transport.open(call(vendor.url))
            try:
                while await opened.read() is not None:
                    pass
            finally:
                await opened.close()

        asking = asyncio.create_task(ask())
        while not vendor.connections:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)  # wherever it has got to
        asking.cancel()
        await asyncio.wait_for(vendor.gone.acquire(), 5)
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_all_of_it_has_its_time(transport: CleartextTransport) -> None:
    """Its head, its body, and the second exchange of a connection whose first had longer."""
    async with engine(says(LENGTH), says(LENGTH[:-1])) as vendor:
        await transport.fetch(call(vendor.url, total_ms=60_000))
        with pytest.raises(UpstreamFault, match="timeout"):
            await transport.fetch(call(vendor.url, total_ms=80))
        assert vendor.connections == 1
    for part in (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", LENGTH[:-1], CHUNKED):
        async with engine(says(part)) as vendor:  # it begins, and says no more
            with pytest.raises(UpstreamFault, match="timeout"):
                await asyncio.wait_for(transport.fetch(call(vendor.url, idle_ms=80)), 5)
            with pytest.raises(UpstreamFault, match="timeout"):
                await asyncio.wait_for(transport.fetch(call(vendor.url, idle_ms=80, first_token_ms=4_000)), 5)
    async with engine(waits) as vendor:
        with pytest.raises(UpstreamFault, match="timeout"):
            await transport.open(call(vendor.url, total_ms=80))
        with pytest.raises(UpstreamFault, match="timeout"):
            await transport.fetch(call(vendor.url, first_token_ms=80))


async def test_a_reader_who_is_slow_holds_the_engine_back(transport: CleartextTransport) -> None:
    """What is not read does not fill the memory; and all of it comes in the end."""
    sent = 0

    async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 64000000\r\n\r\n")
        for _ in range(640):
            writer.write(b"x" * 100_000)
            await writer.drain()
            sent += 100_000

    async with engine(flood) as vendor:
        opened = await transport.open(call(vendor.url))
        before = -1
        while sent != before:  # until it stands still
            before = sent
            await asyncio.sleep(0.1)
        assert sent < 64_000_000
        size = 0
        while (chunk := await opened.read()) is not None:
            size += len(chunk)
        await opened.close()
        assert size == 64_000_000


async def test_a_connection_that_was_held_back_is_handed_on_reading(transport: CleartextTransport) -> None:
    """A large answer came whole, and its reader left: the next one is not kept waiting for ever."""
    large = b"x" * 300_000
    async with engine(waits) as vendor:
        loop = asyncio.get_running_loop()
        port = int(vendor.url.split(":")[2].split("/")[0])
        place = ("127.0.0.1", port)
        wire, connection = await loop.create_connection(lambda: Connection(place, lambda _: None), *place)
        connection.begin(b"GET / HTTP/1.1\r\n\r\n", loop.time() + 60)
        connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(large), large))
        await connection.head()
        assert not wire.is_reading()
        assert connection.end()
        assert wire.is_reading()
        wire.abort()


async def test_a_connection_that_nobody_uses_is_closed(
    transport: CleartextTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.proxy.relay.cleartext._IDLE_S", 0.05)
    monkeypatch.setattr("app.proxy.relay.cleartext._SWEEP_S", 0.02)
    async with engine(says(LENGTH)) as vendor:
        await transport.fetch(call(vendor.url))
        await asyncio.wait_for(vendor.gone.acquire(), 5)


async def test_a_name_is_looked_up(transport: CleartextTransport) -> None:
    async with engine(says(LENGTH)) as vendor:
        by_name = vendor.url.replace("127.0.0.1", "localhost")
        assert (await transport.fetch(call(by_name))).body == ANSWER


def test_what_is_left_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://engine:8000/v1"
    assert serves(call(url).route)
    for other in ("https://engine/v1", "http://user:password@engine/v1", "http://ängine/v1"):
        assert not serves(call(other).route)
    for reach in (Reach(1000, proxy="http://proxy:3128"), Reach(1000, http2=True)):
        assert not serves(Route(url, {}, Timeouts(), reach))
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    assert not serves(call(url).route)


@pytest.mark.parametrize("headers", [{"x-team": "a\r\nx-admin: 1"}, {"x team": "a"}, {"x-team": "größer"}])
async def test_a_header_that_is_none_fails_its_channel_alone(
    transport: CleartextTransport, headers: dict[str, str]
) -> None:
    async with engine(says(LENGTH)) as vendor:
        route = Route(vendor.url, headers, Timeouts(), Reach(1000))
        with pytest.raises(UpstreamFault, match="connect"):
            await transport.fetch(Call(route, BODY))
        assert not vendor.connections
