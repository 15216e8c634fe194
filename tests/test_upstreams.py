"""The local vendors do as they are told; a journey's verdict rests on that."""

import socket
from collections.abc import Iterator

import httpx
import pytest

from tests.answers import Answer, Shape, ToolCall
from tests.behaviours import Gate, answers, hangs, says
from tests.sse import Told, parse
from tests.upstreams import Behaviour, Street, Vendor
from tests.waiting import until

SAID = Answer(prompt_tokens=5, tool_calls=(ToolCall("f", ('{"a"', ": 1}")),))
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STREAM = ASK | {"stream": True, "stream_options": {"include_usage": True}}


class Visit:
    """Opens vendors and asks them directly."""

    def __init__(self, street: Street) -> None:
        self.street = street
        self.vendors: list[Vendor] = []

    def vendor(self, behaviour: Behaviour) -> Vendor:
        self.vendors.append(self.street.open(behaviour))
        return self.vendors[-1]

    def ask(self, behaviour: Behaviour, request: dict[str, object] = STREAM) -> tuple[Vendor, httpx.Response]:
        vendor = self.vendor(behaviour)
        return vendor, httpx.post(f"{vendor.base_url}/chat/completions", json=request, timeout=5)

    def partly(self, behaviour: Behaviour) -> tuple[bytes, type[Exception] | None]:
        """What came before the stream broke, and how it broke."""
        vendor, seen = self.vendor(behaviour), b""
        url = f"{vendor.base_url}/chat/completions"
        try:
            with httpx.stream("POST", url, json=STREAM, timeout=0.5) as response:
                for piece in response.iter_bytes():
                    seen += piece
        except httpx.TransportError as error:
            return seen, type(error)
        return seen, None


@pytest.fixture
def visit(street: Street) -> Iterator[Visit]:
    visit = Visit(street)
    yield visit
    for vendor in visit.vendors:
        street.shut(vendor)
        assert not vendor.faults


def test_an_answer_is_counted_and_kept(visit: Visit) -> None:
    """What the vendor says it served is what it sent."""
    vendor, answer = visit.ask(answers(SAID), ASK | {"n": 2})

    body = answer.json()
    assert [choice["message"]["content"] for choice in body["choices"]] == [SAID.text_of(0), SAID.text_of(1)]
    assert body["usage"]["completion_tokens"] == vendor.served[0].completion_tokens == 15
    assert vendor.requests[0].json["messages"] == ASK["messages"]
    assert vendor.requests[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("step", [None, 1, 3])
@pytest.mark.parametrize("trim", [{}, {"comments": True, "space": False}, {"multiline": True}])
def test_every_framing_carries_the_same_answer(
    visit: Visit, newline: str, step: int | None, trim: dict[str, bool]
) -> None:
    """Line ends, comments and cuts change the bytes, not the events."""
    shape = Shape(newline=newline, bytes_per_write=step, **trim)

    vendor, answer = visit.ask(answers(SAID, shape))

    told = parse(answer.content)
    assert (told.text, told.done) == (SAID.text, True)
    assert told.usages == [SAID.usage()]
    assert len(vendor.served) == 1


@pytest.mark.parametrize(
    ("usage", "expected"), [("every", 12), ("with_finish", 1), ("zeros", 1), ("none", 0), ("asked", 1)]
)
def test_usage_comes_as_told(visit: Visit, usage: str, expected: int) -> None:
    """Once, in every chunk, or not at all."""
    _, answer = visit.ask(answers(SAID, Shape(usage=usage)))  # type: ignore[arg-type]

    assert len(parse(answer.content).usages) == expected


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("close", httpx.RemoteProtocolError),
        ("reset", httpx.ReadError),
        ("hang", httpx.ReadTimeout),
        ("end", None),
        ("error", None),
    ],
)
def test_a_stream_breaks_where_it_should(visit: Visit, how: str, error: type[Exception] | None) -> None:
    """After so many events, and in the way it was told to."""
    seen, broke = visit.partly(answers(SAID, after=3, then=how))  # type: ignore[arg-type]

    told: Told = parse(seen)
    assert broke is error
    assert told.text == "".join(SAID.pieces[:2])
    assert len(told.errors) == (how == "error")
    assert not visit.vendors[0].served


def test_a_gate_holds_the_rest_back(visit: Visit) -> None:
    """Nothing passes a gate until it opens; then all of it does."""
    gate = Gate()
    vendor, seen = visit.vendor(answers(SAID, after=3, then=gate)), b""
    url = f"{vendor.base_url}/chat/completions"
    with httpx.stream("POST", url, json=STREAM, timeout=5) as response:
        for piece in response.iter_bytes():
            seen += piece
            if parse(seen[: seen.rfind(b"\n\n") + 2]).text == "".join(SAID.pieces[:2]):
                assert not vendor.served
                gate.open()

    assert parse(seen).text == SAID.text


def test_queued_behaviours_come_first(visit: Visit) -> None:
    """One a request, in their order; then the one that stands."""
    vendor = visit.vendor(answers()).then(says(500, {"error": {}}), says(429))

    statuses = [httpx.post(f"{vendor.base_url}/chat/completions", json=ASK).status_code for _ in range(3)]

    assert statuses == [500, 429, 200]


def test_sockets_refuse_and_swallow(street: Street) -> None:
    """One port refuses at once; another neither opens nor fails."""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", street.refusing(answers()).port), timeout=1)
    with pytest.raises(TimeoutError):
        socket.create_connection(("127.0.0.1", street.swallowing(answers()).port), timeout=0.3)


def test_a_vendor_that_hangs_says_nothing(visit: Visit) -> None:
    """Not even headers; it lets go when the caller does."""
    assert visit.partly(hangs()) == (b"", httpx.ReadTimeout)
    until(lambda: not visit.vendors[0]._tasks, "the vendor noticed")
