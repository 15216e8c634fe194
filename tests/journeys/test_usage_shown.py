"""The usage that a customer sees is the receipt's, to the token, whatever shape the vendor's has."""

import json
from typing import Any

import pytest

from tests.answers import Answer, Shape
from tests.behaviours import answers, says
from tests.operator_api import Json
from tests.shop import Shop
from tests.sse import Told, read

ASKED = {"stream_options": {"include_usage": True}}
COUNTS = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}

USAGES: dict[str, Json | None] = {
    "plain": COUNTS,
    "none": None,
    "no completion": {"prompt_tokens": 20},
    "completion is null beside a total": COUNTS | {"completion_tokens": None},
    "strings": {name: str(tokens) for name, tokens in COUNTS.items()},
    "fractions of zero": {name: float(tokens) for name, tokens in COUNTS.items()},
    "details are a list": COUNTS | {"prompt_tokens_details": [], "completion_tokens_details": []},
    "cached by another name": COUNTS | {"num_cached_tokens": 6},
    "reasoning outside": COUNTS | {"total_tokens": 70, "completion_tokens_details": {"reasoning_tokens": 40}},
    "a total that nothing explains": COUNTS | {"total_tokens": 99},
    "the vendor's price": COUNTS | {"cost": 0.0123, "cost_details": {"upstream_inference_cost": 0.0123}},
    "garbage": {"prompt_tokens": -1, "completion_tokens": True},
}


def assert_shown(usage: Json, receipt: Json) -> None:
    """The numbers are the receipt's, in OpenAI's words, and there is no price among them."""
    billed = receipt["usage"]
    assert usage["prompt_tokens"] == billed["input_tokens"]
    assert usage["completion_tokens"] == billed["output_tokens"]
    assert usage["total_tokens"] == billed["input_tokens"] + billed["output_tokens"]
    assert (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0) == billed["cached_input_tokens"]
    assert (usage.get("completion_tokens_details") or {}).get("reasoning_tokens", 0) == billed["reasoning_tokens"]
    assert "cost" not in str(usage)


def plain(usage: Json | None) -> Json:
    message = {"role": "assistant", "content": "Hello there, my friend."}
    body: Json = {"id": "c", "model": "v", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return body if usage is None else body | {"usage": usage}


def chunk(delta: Json, finish: str | None = None, **fields: Any) -> Json:
    return {"id": "c", "model": "v", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **fields}


def events(*chunks: Json | bytes) -> bytes:
    return b"".join(b"data: %b\n\n" % (each if isinstance(each, bytes) else _json(each)) for each in chunks)


def _json(value: Json) -> bytes:
    return json.dumps(value).encode()


def tell(shop: Shop, *chunks: Json | bytes, **fields: Any) -> tuple[Told, Json]:
    """A stream of these chunks as the customer saw it, and its receipt."""
    vendor = shop.vendor(says(200, events(*chunks), content_type="text/event-stream"))
    customer = shop.customer()
    with customer.stream(shop.model(vendor), **fields) as response:
        told = read(response)
    return told, shop.assert_paid_once(customer, response.headers["x-request-id"])


@pytest.mark.parametrize("name", USAGES)
def test_a_plain_answer_shows_what_its_receipt_says(shop: Shop, name: str) -> None:
    """As it came where it says the same, else rewritten; added where there was none."""
    customer = shop.customer()
    answer = customer.chat(shop.model(shop.vendor(says(200, plain(USAGES[name])))))
    assert answer.status_code == 200
    receipt = shop.assert_paid_once(customer, answer.headers["x-request-id"])
    assert_shown(answer.json()["usage"], receipt)
    assert answer.json()["choices"] == plain(None)["choices"]


@pytest.mark.parametrize("place", ["alone", "with the finish"])
@pytest.mark.parametrize("name", USAGES)
def test_a_stream_shows_what_its_receipt_says(shop: Shop, name: str, place: str) -> None:
    """Once, in the last chunk, whose choices are empty: also where the vendor sent it with content."""
    said = [chunk({"role": "assistant"}), chunk({"content": "Hello there, "}), chunk({"content": "my friend."})]
    usage = {} if (sent := USAGES[name]) is None else {"usage": sent}
    if place == "alone":
        said += [chunk({}, "stop"), {"id": "c", "model": "v", "choices": [], **usage}]
    else:
        said += [chunk({}, "stop", **usage)]

    told, receipt = tell(shop, *said, b"[DONE]", **ASKED)

    assert (told.done, told.errors, told.text) == (True, [], "Hello there, my friend.")
    assert len(told.usages) == 1
    assert told.chunks[-1]["choices"] == []
    assert_shown(told.usages[0], receipt)


def test_a_wallets_end_is_shown_as_the_receipt_has_it(shop: Shop) -> None:
    """A stream that is broken off for lack of credit says how much of it was charged."""
    prices = {"input": "0", "output": "10.00"}
    vendor = shop.vendor(answers(Answer(pieces=("word ",) * 6000), Shape(usage="ones")))
    customer = shop.customer(credit="0.05")  # pays for 5,000 tokens
    with customer.stream(shop.model(vendor, prices=prices), **ASKED) as response:
        told = read(response)
    receipt = shop.assert_paid_once(customer, response.headers["x-request-id"], prices)
    assert receipt["ending"] == "out_of_credit"
    assert told.done
    assert_shown(told.usages[-1], receipt)


def test_half_a_character_cuts_no_stream_and_opens_no_breaker(shop: Shop) -> None:
    """A vendor that splits an emoji between two chunks of JSON escapes is well, request after request."""
    halves = [_json(chunk({"content": "at"})).replace(b'"at"', half) for half in (rb'"\ud83c"', rb'"\udf88"')]
    stream = events(chunk({"content": "Look: "}), *halves, chunk({}, "stop"), b"[DONE]")
    model = shop.model(shop.vendor(says(200, stream, content_type="text/event-stream")))
    customer = shop.customer()
    for _ in range(12):
        with customer.stream(model) as response:
            assert response.status_code == 200
            told = read(response)
        assert (told.done, told.errors) == (True, [])
        assert rb"\ud83c" in told.raw
        assert rb"\udf88" in told.raw
