"""Customers who would have the reseller pay: whatever they ask, `unpaid` is 0. What bounds a request is in
test_request_bounds.py, what vendors say of it in test_usage_shown.py, and those beyond it in test_beyond_bounds.py.
"""

import base64
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from tests.answers import Answer, Shape, ToolCall
from tests.behaviours import answers
from tests.operator_api import Json, charge, usd
from tests.shop import COSTS, PRICES, Shop
from tests.sse import read
from tests.upstreams import Behaviour, Exchange

# 10,000 nano a token of the answer, the prompt for nothing; and the other way round.
OUTPUT_ONLY = {"input": "0", "output": "10.00"}
INPUT_ONLY = {"input": "10.00", "output": "0"}
LONGEST = 16_384  # tokens of an answer
PICTURE = {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}}
FILE = {"type": "file", "file": {"file_id": "file-1"}}
SPEECH = {
    "type": "input_audio",
    "input_audio": {"data": base64.b64encode(bytes(3_000)).decode(), "format": "mp3"},
}


def talkative() -> Behaviour:
    """Answers as long as the limit that it is sent lets it, and 16,384 tokens without one."""

    async def behave(exchange: Exchange) -> None:
        tokens = exchange.request.json.get("max_completion_tokens", LONGEST)
        await answers(Answer(pieces=("yes",), completion_tokens=tokens))(exchange)

    return behave


def messages(*parts: Json) -> list[Json]:
    return [{"role": "user", "content": [{"type": "text", "text": "See"}, *parts]}]


@pytest.mark.parametrize("declared", [{}, {"max_output_tokens": LONGEST}], ids=["undeclared", "declared"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_long_answers_without_a_limit_are_paid_to_the_last_token(shop: Shop, stream: bool, declared: Json) -> None:
    """Ten at once on a wallet that pays for two of the longest: each costs what was held for it or less, and the rest
    are given the limit that the wallet affords, or refused."""
    vendor = shop.vendor(talkative())
    model = shop.model(vendor, prices=OUTPUT_ONLY, **declared)
    customer = shop.customer(credit=str(usd(2 * LONGEST * 10_000)))

    with ThreadPoolExecutor(10) as pool:
        statuses = list(pool.map(lambda _: customer.chat(model, stream=stream).status_code, range(10)))

    served = statuses.count(200)
    assert set(statuses) <= {200, 429}
    assert served >= 2
    receipts = shop.operator.wait_receipts(served, account_id=customer.account_id)
    told = [exchange.json.get("max_completion_tokens", LONGEST) for exchange in vendor.requests]
    assert sorted(receipt["usage"]["output_tokens"] for receipt in receipts) == sorted(told)
    assert {(Decimal(receipt["unpaid"]), receipt["vendor_excess"]) for receipt in receipts} == {(0, False)}
    assert shop.operator.balance(customer.account_id) == customer.credit - usd(sum(told) * 10_000)


@pytest.mark.parametrize(
    ("part", "media", "tokens"),
    [
        pytest.param(PICTURE, {}, 500, id="a picture"),
        pytest.param(PICTURE, {"image": 300}, 300, id="a picture that costs less"),
        pytest.param(FILE, {"file": 9_000}, 9_000, id="a file"),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_media_without_the_vendors_usage_are_not_free(
    shop: Shop, part: Json, media: Json, tokens: int, stream: bool
) -> None:
    """They are estimated, and the receipt says so."""
    silent = answers(Answer(usage_in_body=False), Shape(usage="none"))
    model = shop.model(shop.vendor(silent), media=media)
    customer = shop.customer()

    answer = customer.chat(model, messages=messages(part), stream=stream)

    receipt = shop.assert_paid_once(customer, answer.headers["x-request-id"])
    assert receipt["usage_source"] == "estimated"
    assert receipt["usage"]["input_tokens"] >= tokens


@pytest.mark.parametrize(
    ("part", "media", "tokens"),
    [
        pytest.param(PICTURE, {"image": 5_000}, 5_000, id="a picture"),
        pytest.param(FILE, {"file": 9_000}, 9_000, id="a file"),
        pytest.param(SPEECH, {}, 4_000, id="speech, by its bytes"),
    ],
)
def test_near_the_floor_media_count_as_much_as_ever(shop: Shop, part: Json, media: Json, tokens: int) -> None:
    """There the prompt's text is counted by a tokenizer. What that doesn't see is held for all the same."""
    vendor = shop.vendor(answers(Answer(prompt_tokens=tokens)))
    model = shop.model(vendor, prices=INPUT_ONLY, media=media)
    words = {"type": "text", "text": "hello " * 200}
    poor = shop.customer(credit=str(usd((tokens - 1) * 10_000)))
    rich = shop.customer(credit=str(usd((tokens + 500) * 10_000)))  # its bytes would be some 1,300 more than the part

    refused = poor.chat(model, messages=messages(words, part), max_tokens=5)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
    assert not vendor.requests

    served = rich.chat(model, messages=messages(words, part), max_tokens=5)
    assert served.status_code == 200, served.text
    receipt = shop.assert_paid_once(rich, served.headers["x-request-id"], INPUT_ONLY)
    assert (receipt["usage"]["input_tokens"], Decimal(receipt["unpaid"])) == (tokens, 0)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_nul_in_a_vendors_words_makes_no_request_free(shop: Shop, stream: bool) -> None:
    """PostgreSQL has it in no text: the receipt is posted with U+FFFD in its place."""
    vendor = shop.vendor(answers(Answer(finish_reason="stop\x00")))
    customer = shop.customer()

    answer = customer.chat(shop.model(vendor), stream=stream)

    assert answer.status_code == 200
    receipt = shop.assert_paid_once(customer, answer.headers["x-request-id"])
    assert (receipt["finish_reason"], Decimal(receipt["amount"]) > 0) == ("stop\N{REPLACEMENT CHARACTER}", True)


@pytest.mark.parametrize(("served", "factor"), [("priority", 2), ("default", 1), (None, 1)])
def test_a_tier_that_is_passed_on_is_paid_for_as_it_was_served(shop: Shop, served: str | None, factor: int) -> None:
    """What counts is the tier in the answer: a vendor short of capacity serves the standard one at its rates."""
    vendor = shop.vendor(answers(Answer(extra={} if served is None else {"service_tier": served})))
    model = shop.model(prices={**PRICES, "service_tiers": {"priority": "2"}})
    upstream = f"{model}-upstream"
    costs = {upstream: {**COSTS, "service_tiers": {"priority": "2"}}}
    shop.channel(vendor, model, priced_fields={"service_tier": "pass"}, costs=costs)
    customer = shop.customer()

    answer = customer.chat(model, service_tier="priority")

    assert (answer.status_code, vendor.requests[0].json["service_tier"]) == (200, "priority")
    receipt = shop.operator.wait_receipt(answer.headers["x-request-id"])
    amount = Decimal(receipt["amount"])
    assert amount == factor * charge(PRICES, receipt["usage"])
    assert Decimal(receipt["upstream_cost"]) == factor * charge(COSTS, receipt["usage"])
    assert (receipt["vendor_excess"], Decimal(receipt["unpaid"])) == (False, 0)
    assert shop.operator.balance(customer.account_id) == customer.credit - amount


@pytest.mark.parametrize("how", ["close", "end"])
def test_a_tool_call_that_is_cut_is_charged_without_its_wrappers(shop: Shop, how: Any) -> None:
    """Its name and arguments are the model's; the JSON around each piece, ten times as long, is the vendor's."""
    arguments = ('{"city": "Berlin"',) + (', "day": 1',) * 60 + ("}",)
    said = Answer(pieces=(), tool_calls=(ToolCall("weather", arguments),))
    vendor = shop.vendor(answers(said, Shape(usage="none"), after=60, then=how))
    customer = shop.customer()

    with customer.stream(shop.model(vendor)) as response:
        told = read(response)

    assert (told.done, len(told.errors)) == (False, 1)
    receipt = shop.assert_paid_once(customer, response.headers["x-request-id"])
    assert (receipt["ending"], receipt["usage_source"]) == ("cut", "estimated")
    assert 200 <= receipt["usage"]["output_tokens"] <= 450
