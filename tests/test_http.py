"""The HTTP side of a worker, as clients meet it on the wire: what uvicorn promises holds with the lean protocol too."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.base.addresses import read_network
from app.http_places import Places
from tests.http_server import POST, Door, served


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with served(keep_alive_s=30) as door:
        yield door


async def test_a_connection_serves_one_request_after_another(door: Door) -> None:
    """Bodies with a length and in chunks, in one piece and byte by byte; a path's escapes are read."""
    async with door.connection() as client:
        client.send(POST % (b"a%20b?q=1", 3, b"one"))
        assert (await client.answer())[::2] == (200, b"POST a b q=1 one")
        for byte in POST % (b"b", 3, b"two"):
            client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.answer())[2] == b"POST b  two"
        client.send(
            b"POST /c HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nth\r\n3\r\nree\r\n0\r\n\r\n"
        )
        status, headers, body = await client.answer()
        assert (status, body) == (200, b"POST c  three")
        assert "date" in headers
        assert "connection" not in headers
    assert not door.server.server_state.tasks, "a request that has ended is not waited for"


async def test_requests_sent_ahead_are_answered_in_order(door: Door) -> None:
    async with door.connection() as client:
        client.send(b"".join(POST % (path, 1, b"%d" % i) for i, path in enumerate((b"slow", b"b", b"slow", b"d"))))
        bodies = [(await client.answer())[2] for _ in range(4)]
        assert bodies == [b"POST slow  0", b"POST b  1", b"POST slow  2", b"POST d  3"]


async def test_a_large_body_arrives_whole(door: Door) -> None:
    async with door.connection() as client:
        client.send(POST % (b"a", 3_000_000, b"y" * 3_000_000))
        assert len((await client.answer())[2]) == 3_000_000 + len("POST a  ")


async def test_a_client_that_asks_before_it_sends_is_told_to_go_on(door: Door) -> None:
    async with door.connection() as client:
        client.send(b"POST /a HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"ok")
        assert (await client.answer())[2] == b"POST a  ok"


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /a HTTP/1.0\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"GET /close HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
)
async def test_a_connection_that_is_not_kept_is_closed(door: Door, request_: bytes) -> None:
    """By either side's wish; the answer says so, once."""
    async with door.connection() as client:
        client.send(request_)
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await client.ended()


async def test_a_head_request_has_no_body(door: Door) -> None:
    async with door.connection() as client:
        client.send(b"HEAD /a HTTP/1.1\r\nhost: x\r\n\r\n" + POST % (b"b", 0, b""))
        assert (await client.answer(has_body=False))[1]["content-length"] == str(len("HEAD a  "))
        assert (await client.answer())[2] == b"POST b  "


async def test_a_header_cannot_carry_another(door: Door) -> None:
    """A line break in a value would let it add headers: nothing of it is sent."""
    async with door.connection() as client:
        client.send(POST % (b"split", 0, b""))
        status, headers, _ = await client.answer()
        assert status == 500
        assert "set-cookie" not in headers


async def test_a_fault_of_the_application_is_a_500(door: Door) -> None:
    async with door.connection() as client:
        client.send(POST % (b"fail", 0, b""))
        assert (await client.answer())[0] == 500
        assert await client.ended()


async def test_rubbish_is_a_400(door: Door) -> None:
    async with door.connection() as client:
        client.send(b"NOT HTTP AT ALL\r\n\r\n")
        assert (await client.answer())[0] == 400
        assert await client.ended()


async def test_a_stream_waits_for_a_client_that_reads_slowly(door: Door) -> None:
    """The server holds no more than its buffers of what the client has not taken."""
    async with door.connection() as client:
        client.send(POST % (b"stream", 0, b""))
        await client.reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.3)
        assert not door.app.seen
        left = b""
        while not left.endswith(b"\r\n0\r\n\r\n"):
            left = left[-10:] + await client.reader.read(1_000_000)
        assert door.app.seen == ["streamed"]
        client.send(POST % (b"a", 2, b"ok"))
        assert (await client.answer())[2] == b"POST a  ok"


async def test_a_client_that_leaves_is_noticed(door: Door) -> None:
    async with door.connection() as client:
        client.send(POST % (b"gone", 0, b""))
        await client.writer.drain()
    while not door.app.seen:
        await asyncio.sleep(0.01)
    assert door.app.seen == ["http.disconnect"]


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not() -> None:
    """The time counts from the last answer."""
    async with served(keep_alive_s=1) as door, door.connection() as client:
        for _ in range(8):  # longer than the time, and never idle for it
            client.send(POST % (b"slow", 0, b""))
            assert (await client.answer())[0] == 200
        assert await client.ended()


async def test_a_request_under_way_is_answered_before_the_server_stops(door: Door) -> None:
    async with door.connection() as client, door.connection() as idle:
        idle.send(POST % (b"a", 0, b""))
        await idle.answer()
        client.send(POST % (b"slow", 2, b"ok"))
        await asyncio.sleep(0.05)
        door.server.should_exit = True
        status, headers, body = await client.answer()
        assert (status, headers.get("connection"), body) == (200, "close", b"POST slow  ok")
        assert await client.ended()
        assert await idle.ended()


async def test_an_address_has_so_many_connections_and_its_places_come_back() -> None:
    async with served(keep_alive_s=30, connections_most=2) as door:
        for _ in range(3):
            async with door.connection() as one, door.connection() as two:
                for client in (one, two):
                    client.send(POST % (b"a", 0, b""))
                    assert (await client.answer())[0] == 200
                async with door.connection() as three:
                    status, headers, _ = await three.answer()
                    assert (status, headers["connection"], await three.ended()) == (503, "close", True)
            while door.server.server_state.connections:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("address", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
    ],
)
def test_a_place_is_what_one_customer_has(address: str, other: str, is_same: bool) -> None:
    places = Places(most=1, exempt=[read_network("10.0.0.0/8")])
    assert places.enter(address)[0]
    assert places.enter(other)[0] is not is_same
    assert all(places.enter("10.0.0.1")[0] for _ in range(5))
