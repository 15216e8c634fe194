"""Vendors that send without end, through the whole gateway: the customer is served by another channel or told of the
break, pays once, and the receipt says which bound was passed."""

import pytest

from tests.answers import Answer
from tests.behaviours import answers, says
from tests.proxy.hostile_vendors import MIB, Flood, chunked
from tests.shop import Shop
from tests.sse import read
from tests.upstreams import Behaviour

GOOD = Answer(prompt_tokens=12, pieces=("from", " the", " second"))
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
WORD = b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "word"}}]}\n\n'
HOSTILE: dict[str, tuple[bool, Behaviour, str]] = {
    "answer": (False, chunked(200, b" " * 8000), "answer too large"),
    "error": (False, says(400, b" " * (2 * MIB)), "answer too large"),
    "headers": (False, Flood(b"HTTP/1.1 200 OK\r\n", b"x-more: y\r\n"), "headers too large"),
    "event": (True, Flood(EVENTS + b"data: ", b"a"), "event too large"),
    "headers of a stream": (True, Flood(b"HTTP/1.1 200 OK\r\n", b"x-more: y\r\n"), "headers too large"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_another_channel_answers_in_place_of_one_that_sends_without_end(shop: Shop, what: str) -> None:
    stream, behaviour, error = HOSTILE[what]
    model = shop.model(shop.vendor(behaviour), shop.vendor(answers(GOOD)))
    customer = shop.customer()
    if stream:
        with customer.stream(model) as response:
            text = read(response).text
    else:
        response = customer.chat(model)
        text = response.json()["choices"][0]["message"]["content"]
    assert (response.status_code, text) == (200, "from the second")
    receipt = shop.assert_paid_once(customer, response.headers["x-request-id"])
    assert [each["error"] for each in receipt["attempts"]] == [error, None]


def test_a_stream_that_has_begun_ends_with_an_error(shop: Shop) -> None:
    """As any that breaks off: what came is passed on and paid for, and nobody else is asked."""
    spare = shop.vendor()
    model = shop.model(shop.vendor(Flood(EVENTS + WORD + b"data: ", b"a")), spare)
    customer = shop.customer()
    with customer.stream(model) as response:
        told = read(response)
    assert (told.text, told.done, len(told.errors), told.last_is_error) == ("word", False, 1, True)
    assert not spare.requests
    receipt = shop.assert_paid_once(customer, response.headers["x-request-id"])
    assert (receipt["status"], [each["error"] for each in receipt["attempts"]]) == ("failed", ["event too large"])
