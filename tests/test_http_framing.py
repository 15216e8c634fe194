"""Where a request ends, as bytes on a socket: what is sent, what is answered, and whether the connection goes on.

The rule of all of them: nothing after a request's own body is a request unless it is one, and a head that says in two
ways where its request ends is refused. The cases are those of RFC 9112, of the request smuggling literature (CL.TE,
TE.CL, TE.TE, CL.0, `Upgrade`, trailers, bare line ends) and of llhttp's own tests. Each is sent in one piece, byte by
byte, and in two pieces at every place near the end of its head.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest

from app.http_head import HEAD_BYTES_MOST
from tests.http_server import Connection, Door, served

HOST = b"host: x\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
NEXT = b"GET /next HTTP/1.1\r\nhost: x\r\n\r\n"
# A request inside of a body: it must never be answered.
HIDDEN = b"GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n"
SERVED_NEXT = "GET next "


def post(*headers: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"POST /a HTTP/%b\r\n%b\r\n%b" % (version, b"".join(headers), body)


def length(size: int) -> bytes:
    return b"content-length: %d\r\n" % size


class Case(msgspec.Struct, frozen=True):
    """`answers` are statuses, or the bodies of a 200; after the last of them the connection ends, or serves NEXT."""

    name: str
    sent: bytes
    answers: tuple[int | str, ...]
    ends: bool = True


def goes_on(name: str, sent: bytes, *answers: str) -> Case:
    return Case(name, sent, answers, ends=False)


def refused(name: str, sent: bytes, status: int = 400) -> Case:
    return Case(name, sent, (status,))


OFFER = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
IN_CHUNKS = b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"

CASES = [
    # Offers of another protocol
    goes_on("upgrade h2c with a length", post(HOST, OFFER, length(3), body=b"abc"), "POST a  abc"),
    goes_on("upgrade h2c in chunks", post(HOST, OFFER, CHUNKED, body=IN_CHUNKS), "POST a  abc"),
    goes_on("upgrade h2c without a body", b"GET /a HTTP/1.1\r\n" + HOST + OFFER + b"\r\n", "GET a  "),
    goes_on(
        "upgrade websocket",
        b"GET /a HTTP/1.1\r\nhost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nsec-websocket-version: 13\r\n\r\n",
        "GET a  ",
    ),
    goes_on(
        "upgrade hides a request in its body",
        post(HOST, b"connection: Upgrade\r\nupgrade: websocket\r\n", length(len(HIDDEN)), body=HIDDEN),
        "POST a  " + HIDDEN.decode(),
    ),
    goes_on(
        "upgrade hides a request in its chunks",
        post(HOST, OFFER, CHUNKED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
        "POST a  " + HIDDEN.decode(),
    ),
    goes_on("two offers in a row", post(HOST, OFFER, length(1), body=b"a") * 2, "POST a  a", "POST a  a"),
    goes_on(
        "upgrade in two headers", post(HOST, b"connection: keep-alive\r\n", OFFER, length(1), body=b"a"), "POST a  a"
    ),
    Case(
        "upgrade and close",
        post(HOST, b"connection: close, upgrade\r\nupgrade: h2c\r\n", length(1), body=b"a"),
        ("POST a  a",),
    ),
    goes_on("an offer without its header", post(HOST, b"connection: upgrade\r\n", length(1), body=b"a"), "POST a  a"),
    goes_on("a header without its offer", post(HOST, b"upgrade: h2c\r\n", length(1), body=b"a"), "POST a  a"),
    refused("upgrade with both lengths", post(HOST, OFFER, length(3), CHUNKED, body=IN_CHUNKS)),
    refused("upgrade with two lengths", post(HOST, OFFER, length(3), length(4), body=b"abcd")),
    refused("upgrade gzip, chunked", post(HOST, OFFER, b"transfer-encoding: gzip, chunked\r\n", body=IN_CHUNKS), 501),
    refused("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    refused("CONNECT", b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", 405),
    refused("CONNECT with a request behind it", b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n" + HIDDEN, 405),
    # Content-Length
    goes_on("a length", post(HOST, length(3), body=b"abc"), "POST a  abc"),
    goes_on("a length of nothing", post(HOST, length(0)), "POST a  "),
    goes_on("no length", post(HOST), "POST a  "),
    goes_on("a GET with a body", b"GET /a HTTP/1.1\r\n" + HOST + length(3) + b"\r\nabc", "GET a  abc"),
    goes_on(
        "a GET hides a request in its body (CL.0)",
        b"GET /a HTTP/1.1\r\n" + HOST + length(len(HIDDEN)) + b"\r\n" + HIDDEN,
        "GET a  " + HIDDEN.decode(),
    ),
    refused("two lengths", post(HOST, length(3), length(4), body=b"abcd")),
    refused("the same length twice", post(HOST, length(3), length(3), body=b"abc")),
    refused("a list of lengths", post(HOST, b"content-length: 3, 3\r\n", body=b"abc")),
    refused("a length with a sign", post(HOST, b"content-length: +3\r\n", body=b"abc")),
    refused("a negative length", post(HOST, b"content-length: -3\r\n", body=b"abc")),
    refused("a length in hex", post(HOST, b"content-length: 0x3\r\n", body=b"abc")),
    refused("a length with a fraction", post(HOST, b"content-length: 3.0\r\n", body=b"abc")),
    refused("an empty length", post(HOST, b"content-length: \r\n", body=b"abc")),
    refused("a length beyond 64 bits", post(HOST, b"content-length: 18446744073709551619\r\n", body=b"abc")),
    refused("a length in other digits", post(HOST, "content-length: ٣\r\n".encode(), body=b"abc")),
    refused("a length with an underscore", post(HOST, b"content-length: 1_0\r\n", body=b"abc")),
    refused("a length on two lines", post(HOST, b"content-length: 3\r\n 3\r\n", body=b"abc")),
    # Transfer-Encoding
    goes_on("chunks", post(HOST, CHUNKED, body=IN_CHUNKS), "POST a  abc"),
    goes_on("chunks, in capitals", post(HOST, b"Transfer-Encoding: CHUNKED\r\n", body=IN_CHUNKS), "POST a  abc"),
    goes_on("a chunk's extension", post(HOST, CHUNKED, body=b'3;a=b;c="d"\r\nabc\r\n0\r\n\r\n'), "POST a  abc"),
    goes_on(
        "a chunk's size in capitals and zeros",
        post(HOST, CHUNKED, body=b"00A\r\n0123456789\r\n0\r\n\r\n"),
        "POST a  0123456789",
    ),
    refused("CL.TE", post(HOST, length(6), CHUNKED, body=b"0\r\n\r\n" + HIDDEN)),
    refused("TE.CL", post(HOST, CHUNKED, length(4), body=b"5c\r\n" + HIDDEN)),
    refused("gzip, chunked", post(HOST, b"transfer-encoding: gzip, chunked\r\n", body=IN_CHUNKS), 501),
    refused("chunked, gzip", post(HOST, b"transfer-encoding: chunked, gzip\r\n", body=IN_CHUNKS)),
    refused("chunked twice", post(HOST, CHUNKED, CHUNKED, body=IN_CHUNKS)),
    refused("chunked, chunked", post(HOST, b"transfer-encoding: chunked, chunked\r\n", body=IN_CHUNKS)),
    refused("chunked and identity", post(HOST, CHUNKED, b"transfer-encoding: identity\r\n", body=IN_CHUNKS)),
    refused("xchunked", post(HOST, b"transfer-encoding: xchunked\r\n", body=IN_CHUNKS), 501),
    refused("a quoted encoding", post(HOST, b'transfer-encoding: "chunked"\r\n', body=IN_CHUNKS), 501),
    refused("chunks in HTTP/1.0", post(HOST, CHUNKED, body=IN_CHUNKS, version=b"1.0"), 501),
    refused("a space before the colon", post(HOST, b"transfer-encoding : chunked\r\n", body=IN_CHUNKS)),
    refused("a tab before the colon", post(HOST, b"transfer-encoding\t: chunked\r\n", body=IN_CHUNKS)),
    refused("an encoding on the next line", post(HOST, b"transfer-encoding:\r\n chunked\r\n", body=IN_CHUNKS)),
    refused("a line feed hides an encoding", post(HOST, b"x: a\ntransfer-encoding: chunked\r\n", body=IN_CHUNKS)),
    refused("a carriage return hides an encoding", post(HOST, b"x: a\rtransfer-encoding: chunked\r\n", body=IN_CHUNKS)),
    refused("a NUL in a value", post(HOST, b"x: a\0b\r\n")),
    refused("a vertical tab in an encoding", post(HOST, b"transfer-encoding: \x0bchunked\r\n", body=IN_CHUNKS)),
    # Chunks
    refused("a chunk's size with a sign", post(HOST, CHUNKED, body=b"+3\r\nabc\r\n0\r\n\r\n")),
    refused("a chunk's size with 0x", post(HOST, CHUNKED, body=b"0x3\r\nabc\r\n0\r\n\r\n")),
    refused("a chunk's size with a space", post(HOST, CHUNKED, body=b"3 \r\nabc\r\n0\r\n\r\n")),
    refused("no size of a chunk", post(HOST, CHUNKED, body=b"\r\nabc\r\n0\r\n\r\n")),
    refused("a chunk's size beyond 64 bits", post(HOST, CHUNKED, body=b"10000000000000003\r\nabc\r\n0\r\n\r\n")),
    refused("a chunk that is longer than it says", post(HOST, CHUNKED, body=b"2\r\nabc\r\n0\r\n\r\n")),
    refused("a chunk's line ends with a line feed", post(HOST, CHUNKED, body=b"3\nabc\r\n0\r\n\r\n")),
    refused("a chunk ends with a line feed", post(HOST, CHUNKED, body=b"3\r\nabc\n0\r\n\r\n")),
    refused("an extension with a line feed in it", post(HOST, CHUNKED, body=b"3;a\nb\r\nabc\r\n0\r\n\r\n")),
    # Trailers
    goes_on("a trailer", post(HOST, CHUNKED, body=b"1\r\na\r\n0\r\nx-late: 1\r\n\r\n"), "POST a  a"),
    goes_on(
        "a request in a trailer's value",
        post(HOST, CHUNKED, body=b"1\r\na\r\n0\r\nx-late: GET /hidden HTTP/1.1\r\n\r\n"),
        "POST a  a",
    ),
    # Host, version, line
    refused("no host", b"GET /a HTTP/1.1\r\n\r\n"),
    refused("two hosts", b"GET /a HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n"),
    Case("HTTP/1.0 without a host", b"GET /a HTTP/1.0\r\n\r\n", ("GET a  ",)),
    refused("HTTP/1.0 with two hosts", b"GET /a HTTP/1.0\r\nhost: x\r\nhost: y\r\n\r\n"),
    refused("HTTP/0.9", b"GET /a\r\n\r\n", 505),
    refused("HTTP/2.0", b"GET /a HTTP/2.0\r\nhost: x\r\n\r\n", 505),
    refused("HTTP/1.2", b"GET /a HTTP/1.2\r\nhost: x\r\n\r\n"),
    refused("HTTP/11", b"GET /a HTTP/11\r\nhost: x\r\n\r\n"),
    refused("http/1.1", b"GET /a http/1.1\r\nhost: x\r\n\r\n"),
    refused("a method of small letters", b"get /a HTTP/1.1\r\nhost: x\r\n\r\n"),
    goes_on("two spaces after the path", b"GET /a  HTTP/1.1\r\nhost: x\r\n\r\n", "GET a  "),
    refused("line feeds alone", b"GET /a HTTP/1.1\nhost: x\n\n"),
    refused("a header without a name", b"GET /a HTTP/1.1\r\nhost: x\r\n: a\r\n\r\n"),
    refused("a header without a colon", b"GET /a HTTP/1.1\r\nhost: x\r\nabc\r\n\r\n"),
    refused("a first header that begins with a space", b"GET /a HTTP/1.1\r\n x: y\r\nhost: x\r\n\r\n"),
    refused("a folded header", b"GET /a HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n"),
    goes_on("empty lines before a request", b"\r\n\r\nGET /a HTTP/1.1\r\nhost: x\r\n\r\n", "GET a  "),
    goes_on("a whole URL", b"GET http://other/a HTTP/1.1\r\nhost: x\r\n\r\n", "GET a  "),
    # One request after another
    goes_on(
        "two requests", post(HOST, length(1), body=b"a") + post(HOST, length(1), body=b"b"), "POST a  a", "POST a  b"
    ),
    goes_on(
        "chunks, then a length",
        post(HOST, CHUNKED, body=IN_CHUNKS) + post(HOST, length(1), body=b"b"),
        "POST a  abc",
        "POST a  b",
    ),
    Case(
        "a request after the last", post(HOST, b"connection: close\r\n", length(1), body=b"a") + HIDDEN, ("POST a  a",)
    ),
    Case("rubbish after a request", post(HOST, length(1), body=b"a") + b"\0\0\0", ("POST a  a",)),
    Case("more body than the length says", post(HOST, length(1), body=b"abc\r\n\r\n"), ("POST a  a",)),
    # Sizes
    refused("too many headers", b"GET /a HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 128 + b"\r\n", 431),
]


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    assert len({case.name for case in CASES}) == len(CASES)
    return {case.name: case for case in CASES}


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with served(keep_alive_s=30) as door:
        yield door


def pieces(sent: bytes) -> Iterator[list[bytes]]:
    yield [sent]
    yield [sent[at : at + 1] for at in range(len(sent))]
    end = sent.find(b"\r\n\r\n")
    for at in range(max(1, end - 2), min(len(sent), end + 8)):
        yield [sent[:at], sent[at:]]


async def answers(client: Connection, parts: list[bytes], case: Case) -> None:
    for part in parts:
        client.send(part)
        await asyncio.sleep(0)
    for expected in case.answers:
        status, headers, body = await client.answer()
        if isinstance(expected, str):
            assert (status, body.decode()) == (200, expected)
        else:
            assert (status, headers["connection"]) == (expected, "close")
            assert "message" in msgspec.json.decode(body)["error"]
    if case.ends:
        assert await client.ended()
    else:
        client.send(NEXT)
        assert (await client.answer())[::2] == (200, SERVED_NEXT.encode() + b" ")


@pytest.mark.parametrize("name", [case.name for case in CASES])
async def test_a_request_ends_where_it_says(door: Door, cases: dict[str, Case], name: str) -> None:
    for parts in pieces(cases[name].sent):
        async with door.connection() as client:
            await asyncio.wait_for(answers(client, parts, cases[name]), 20)
    assert not any("hidden" in path for path in door.app.paths)


@pytest.mark.parametrize("name", [b"authorization", b"x-forwarded-for", b"host", b"content-length"])
async def test_a_trailer_is_no_header(door: Door, name: bytes) -> None:
    async with door.connection() as client:
        client.send(post(HOST, CHUNKED, body=b"1\r\na\r\n0\r\n%b: 7\r\n\r\n" % name))
        await client.answer()
    assert (name, b"7") not in door.app.headers[-1]


@pytest.mark.parametrize("where", ["value", "name", "target", "many", "blank lines", "trailer", "extension"])
async def test_what_is_no_body_is_bounded(door: Door, where: str) -> None:
    """Whatever it is of that never ends, the connection does."""
    endless = {
        "value": (b"GET /a HTTP/1.1\r\nhost: x\r\na: ", b"b" * 1000),
        "name": (b"GET /a HTTP/1.1\r\nhost: x\r\n", b"a" * 1000),
        "target": (b"GET /", b"a" * 1000),
        "many": (b"GET /a HTTP/1.1\r\nhost: x\r\n", b"a: b\r\n" * 100),
        "blank lines": (b"", b"\r\n" * 500),
        "trailer": (post(HOST, CHUNKED, body=b"0\r\na: "), b"b" * 1000),
        "extension": (post(HOST, CHUNKED, body=b"3;a="), b"b" * 1000),
    }
    begin, more = endless[where]
    async with door.connection() as client:
        client.send(begin)
        sent = len(begin)
        answered = asyncio.create_task(client.answer())
        while not answered.done() and sent < 10 * HEAD_BYTES_MOST:
            client.send(more)
            sent += len(more)
            await asyncio.sleep(0.001)
        assert (await answered)[0] == 431
        assert await client.ended()
    assert sent < 8 * HEAD_BYTES_MOST


async def test_a_large_head_in_one_piece_is_refused_and_a_large_body_behind_a_small_one_is_not(door: Door) -> None:
    async with door.connection() as client:
        client.send(b"GET /a HTTP/1.1\r\nhost: x\r\na: %b\r\n\r\n" % (b"b" * (HEAD_BYTES_MOST + 1)))
        assert (await client.answer())[0] == 431
    async with door.connection() as client:
        client.send(post(HOST, length(200_000), body=b"y" * 200_000))
        assert (await client.answer())[0] == 200


@pytest.mark.parametrize(
    "begun", [b"GET /a HTTP/1.1\r\nhost", post(HOST, length(3), body=b"a"), post(HOST, CHUNKED, body=b"3\r\na")]
)
async def test_half_a_request_is_waited_for_for_a_while(begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.http._PATIENCE_S", {"request": 0.0, "head": 0.5, "body": 0.5})
    async with served(keep_alive_s=1) as door, door.connection() as client:
        client.send(begun)
        status, headers, _ = await asyncio.wait_for(client.answer(), 20)
        assert (status, headers["connection"], await client.ended()) == (408, "close", True)
