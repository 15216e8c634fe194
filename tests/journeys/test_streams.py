"""Streams: the vendor's framing is read whatever it is, and the customer gets clean events as they come."""

from decimal import Decimal
from typing import Any

import pytest

from tests.answers import Answer, Shape
from tests.behaviours import Gate, answers
from tests.operator_api import Json
from tests.shop import MESSAGES, PRICES, Shop
from tests.sse import Told, parse, read

SHAPES = {
    "plain": Shape(),
    "crlf": Shape(newline="\r\n"),
    "cr": Shape(newline="\r"),
    "no_space_after_data": Shape(space=False),
    "data_over_many_lines": Shape(multiline=True),
    "comments_and_pings": Shape(comments=True),
    "comments_and_pings_crlf": Shape(comments=True, newline="\r\n"),
    "byte_by_byte": Shape(bytes_per_write=1),
    "byte_by_byte_crlf": Shape(bytes_per_write=1, newline="\r\n", comments=True),
    "three_bytes_at_a_time": Shape(bytes_per_write=3),
    "usage_in_every_chunk": Shape(usage="every"),
    "content_finish_and_usage_in_one": Shape(usage="with_finish"),
    "no_done": Shape(done=False),
}
ASKED = {"stream_options": {"include_usage": True}}
SAID = Answer(prompt_tokens=17)


def tell(shop: Shop, shape: Shape, said: Answer = SAID, **fields: Any) -> tuple[Told, Json, str]:
    """A stream in that shape as the customer saw it, its receipt, and the model's public name."""
    model = shop.model(shop.vendor(answers(said, shape)))
    customer = shop.customer()
    with customer.stream(model, **fields) as response:
        assert response.headers["content-type"].split(";")[0] == "text/event-stream"
        told = read(response)
    return told, shop.assert_paid_once(customer, response.headers["x-request-id"]), model


@pytest.mark.parametrize("shape", SHAPES)
def test_any_framing_is_read_and_told_on_cleanly(shop: Shop, shape: str) -> None:
    """Text, finish and [DONE] arrive; usage goes on the books, and to the client only when it asked."""
    for asked in (False, True):
        told, receipt, model = tell(shop, SHAPES[shape], **(ASKED if asked else {}))

        assert told.text == SAID.text
        assert (told.done, told.errors) == (True, [])
        assert [reason for reason in told.finish_reasons if reason] == ["stop"]
        assert {chunk["model"] for chunk in told.chunks} == {model}
        if asked:
            assert (told.usages[-1]["prompt_tokens"], told.usages[-1]["completion_tokens"]) == (17, 7)
        else:
            assert told.usages == []
            assert all(chunk["choices"] for chunk in told.chunks), "a chunk with no choices was not asked for"
        assert (receipt["status"], receipt["finish_reason"]) == ("ok", "stop")
        usage = receipt["usage"]
        assert (receipt["usage_source"], usage["input_tokens"], usage["output_tokens"]) == ("upstream", 17, 7)


def test_the_usage_chunk_that_was_asked_for_has_no_choices(shop: Shop) -> None:
    """It is the last chunk, its `choices` stay empty, and every chunk before says `usage: null`."""
    told, _, _ = tell(shop, Shape(), **ASKED)

    assert told.chunks[-1]["choices"] == []
    assert told.usages == [told.chunks[-1]["usage"]]
    assert all("usage" in chunk for chunk in told.chunks)


def test_a_null_finish_reason_is_sent(shop: Shop) -> None:
    """`finish_reason: null` is part of a chunk, not left out."""
    told, _, _ = tell(shop, Shape())

    assert all("finish_reason" in choice for chunk in told.chunks for choice in chunk["choices"])


def test_chunks_with_nothing_but_a_delta_are_enough(shop: Shop) -> None:
    """Some vendors send an id and a delta, no more: the text arrives, and the tokens are counted here."""
    told, receipt, _ = tell(shop, Shape(minimal=True, usage="none"))

    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in told.chunks) == SAID.text
    assert (told.done, told.errors) == (True, [])
    assert (receipt["status"], receipt["usage_source"]) == ("ok", "estimated")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_usage_that_never_comes_is_estimated(shop: Shop, stream: bool) -> None:
    """No usage from the vendor: prompt and answer are counted offline, and the receipt says `estimated`."""
    said = Answer(pieces=("The quick brown fox", " jumps over", " the lazy dog."), usage_in_body=False)
    model = shop.model(shop.vendor(answers(said, Shape(usage="none"))))
    customer = shop.customer()

    answer = customer.chat(model, stream=stream)

    receipt = shop.assert_paid_once(customer, answer.headers["x-request-id"])
    assert receipt["usage_source"] == "estimated"
    assert 8 <= receipt["usage"]["output_tokens"] <= 14
    assert 3 <= receipt["usage"]["input_tokens"] <= 20
    assert Decimal(receipt["amount"]) > 0


def test_zeros_from_the_vendor_are_zeros(shop: Shop) -> None:
    """An explicit zero is a count like any other: it is not replaced by an estimate."""
    told, receipt, _ = tell(shop, Shape(usage="zeros"), **ASKED)

    assert told.usages == [{"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}]
    assert (receipt["usage_source"], Decimal(receipt["amount"])) == ("upstream", 0)


def test_a_stream_that_ends_without_a_finish_or_a_done_is_broken(shop: Shop) -> None:
    """A proper end of the HTTP body does not make an answer whole."""
    told, receipt, _ = tell(shop, Shape(finish=False, done=False, usage="none"))

    assert (told.done, len(told.errors)) == (False, 1)
    assert receipt["status"] == "failed"


def test_the_official_client_reads_what_a_noisy_vendor_sends(shop: Shop) -> None:
    """Comments, ids and pings of the vendor do not trip the customer's parser."""
    model = shop.model(shop.vendor(answers(SAID, Shape(comments=True, newline="\r\n"))))

    chunks = list(shop.customer().openai().chat.completions.create(model=model, messages=MESSAGES, stream=True))

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == SAID.text


def test_a_very_large_event_passes(shop: Shop) -> None:
    """A megabyte in one event is one event, whatever its vendor counts in it. The limit has room for its text: one that
    is far beyond the limit is ended (test_beyond_bounds.py)."""
    said = Answer(pieces=("x" * 2**20, "y"), completion_tokens=9)

    told, receipt, _ = tell(shop, Shape(), said, max_tokens=2**18)

    assert (told.text == said.text, told.done) == (True, True)
    assert (receipt["usage"]["output_tokens"], receipt["vendor_excess"]) == (9, False)


def test_a_chunk_leaves_when_it_came(shop: Shop) -> None:
    """Content reaches the customer while the vendor is still at it: nothing waits for more."""
    gate = Gate()
    model = shop.model(shop.vendor(answers(SAID, after=3, then=gate)))
    customer = shop.customer()

    seen = b""
    with customer.stream(model) as response:
        for piece in response.iter_bytes():
            seen += piece
            if parse_so_far(seen).text == "".join(SAID.pieces[:2]):
                gate.open()  # were it buffered, neither side would ever go on

    assert parse(seen).text == SAID.text


def parse_so_far(raw: bytes) -> Told:
    return parse(raw[: raw.rfind(b"\n\n") + 2])


def test_a_hold_is_seen_while_the_stream_runs_and_gone_after(shop: Shop) -> None:
    """Held: the body's bytes at the input price and the output limit at the output price."""
    gate = Gate()
    model = shop.model(shop.vendor(answers(SAID, after=2, then=gate)))
    customer = shop.customer()

    with customer.stream(model, max_tokens=1000) as response:
        account = shop.operator.account(customer.account_id)
        size = int(response.request.headers["content-length"])
        gate.open()
        read(response)

    assert Decimal(account["balance"]) == customer.credit
    million = Decimal(1_000_000)
    expected = size * Decimal(PRICES["input"]) / million + 1000 * Decimal(PRICES["output"]) / million
    assert Decimal(account["held"]) == expected
    shop.assert_paid_once(customer, response.headers["x-request-id"])
