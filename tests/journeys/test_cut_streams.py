"""A stream that breaks after content: an error event, no [DONE], and a receipt of what was delivered."""

import pytest

from tests.answers import Answer, Shape
from tests.behaviours import answers
from tests.operator_api import Json
from tests.shop import IMPATIENT, Shop
from tests.sse import Told, read
from tests.upstreams import Behaviour


def broken(shop: Shop, behaviour: Behaviour) -> tuple[Told, Json]:
    """A stream that breaks after content, with another channel standing by in vain; and its receipt."""
    spare = shop.vendor()
    model = shop.model(shop.vendor(behaviour), spare, timeouts=IMPATIENT)
    customer = shop.customer()

    with customer.stream(model) as response:
        told = read(response)

    assert response.status_code == 200
    assert not spare.requests, "no spliced answers"
    receipt = shop.assert_paid_once(customer, response.headers["x-request-id"])
    assert len(receipt["attempts"]) == 1
    assert receipt["attempts"][0]["error"]
    return told, receipt


@pytest.mark.parametrize("how", ["close", "reset", "end", "hang", "error"])
def test_a_cut_after_the_first_byte_is_an_error_event_and_no_done(shop: Shop, how: str) -> None:
    """What came is passed on, then one error event ends the stream; the receipt is of what was delivered."""
    told, receipt = broken(shop, answers(after=4, then=how))  # type: ignore[arg-type]

    assert told.text == "".join(Answer().pieces[:3])
    assert not told.done
    assert len(told.errors) == 1
    assert told.errors[0]["type"] == "server_error"
    assert {"message", "type", "code", "param"} <= set(told.errors[0])
    assert "127.0.0.1" not in told.errors[0]["message"]
    assert told.last_is_error
    assert (receipt["status"], receipt["usage_source"]) == ("failed", "estimated")
    assert 0 < receipt["usage"]["output_tokens"] <= 8
    assert receipt["usage"]["input_tokens"] > 0


def test_a_cut_after_usage_in_every_chunk_is_charged_by_the_last_of_it(shop: Shop) -> None:
    """The vendor's own count up to the cut is better than an estimate, unless the text alone comes to more."""
    said = Answer(pieces=("Hi",) * 7)
    told, receipt = broken(shop, answers(said, Shape(usage="every"), after=4, then="reset"))

    assert (told.done, len(told.errors)) == (False, 1)
    assert receipt["usage_source"] == "upstream"
    assert (receipt["usage"]["input_tokens"], receipt["usage"]["output_tokens"]) == (11, 4)


@pytest.mark.parametrize("how", ["close", "end", "error"])
def test_a_cut_after_usage_of_one_in_every_chunk_is_charged_by_the_text(shop: Shop, how: str) -> None:
    """A usage in a content chunk is not the last word: 300 words are not one token, nor is the prompt."""
    said = Answer(pieces=("word ",) * 300)
    told, receipt = broken(shop, answers(said, Shape(usage="ones"), after=301, then=how))  # type: ignore[arg-type]

    assert told.text == said.text
    assert receipt["usage_source"] == "estimated"
    assert receipt["usage"]["output_tokens"] >= 300
    assert receipt["usage"]["input_tokens"] > 1


def test_a_stream_that_runs_past_its_total_time_is_ended(shop: Shop) -> None:
    """`total_ms` bounds the whole attempt, however lively the stream."""
    vendor = shop.vendor(answers(Answer(pieces=("word ",) * 3_000), Shape(bytes_per_write=4)))
    model = shop.model()
    shop.channel(
        vendor,
        model,
        timeouts=IMPATIENT | {"first_token_ms": 1500, "total_ms": 1500},
    )
    customer = shop.customer()

    with customer.stream(model, max_tokens=5_000) as response:
        told = read(response)

    assert (told.done, len(told.errors)) == (False, 1)
    assert shop.assert_paid_once(customer, response.headers["x-request-id"])["status"] == "failed"
