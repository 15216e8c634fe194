"""Every ending has a policy, and its receipt names both. What an ending costs, as the deployment decides."""

import json
from decimal import Decimal
from typing import Any

import pytest

from tests.answers import Answer, Shape, ToolCall
from tests.behaviours import Gate, answers, says
from tests.journeys.rough import OpenShop
from tests.operator_api import Json, charge, usd
from tests.shop import COSTS, PRICES, Customer, Shop
from tests.sse import parse, read
from tests.waiting import until

# 10,000 nano a token of the answer, the prompt for nothing.
OUTPUT_ONLY = {"input": "0", "output": "10.00"}


def streamed(customer: Customer, model: str, **fields: object) -> tuple[str, list[Json], bool]:
    """The request's id, its events, and whether it ended in [DONE]."""
    with customer.stream(model, **fields) as response:
        told = read(response)
        assert response.status_code == 200, told.raw
        return response.headers["x-request-id"], told.chunks, told.done


def test_a_finished_answer_says_so(shop: Shop) -> None:
    customer = shop.customer()
    answer = customer.chat(shop.model(shop.vendor()))
    receipt = shop.assert_paid_once(customer, answer.headers["x-request-id"])
    assert (receipt["ending"], receipt["policy"], receipt["multiplier"]) == ("finished", "full", "1")


def test_a_failure_before_any_content_is_free_and_shows_what_it_cost(shop: Shop) -> None:
    """A vendor that charged for an empty answer is paid by the reseller, not by the customer."""
    empty = {"object": "chat.completion", "choices": [], "usage": Answer().usage()}
    model = shop.model(shop.vendor(says(200, empty)))
    customer = shop.customer()

    answer = customer.chat(model)

    assert answer.status_code == 503
    receipt = shop.operator.wait_receipt(answer.headers["x-request-id"])
    assert (receipt["status"], receipt["ending"], receipt["policy"]) == ("failed", "failed", "free")
    cost = charge(COSTS, receipt["usage"] | {"input_tokens": 11, "output_tokens": 7})
    assert Decimal(receipt["upstream_cost"]) == Decimal(receipt["attempts"][0]["cost"]) == cost > 0
    assert Decimal(receipt["margin"]) == -cost
    shop.assert_nothing_charged(customer)


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_prompt_that_a_vendor_filters_is_paid_for(shop: Shop, is_stream: bool) -> None:
    """It was read, and the vendor charges for it: streamed it is no more an empty answer than whole."""
    usage = {"prompt_tokens": 40, "completion_tokens": 0, "total_tokens": 40}
    said: dict[str, Any] = {"role": "assistant", "content": ""}
    choice = {"index": 0, "finish_reason": "content_filter", "delta" if is_stream else "message": said}
    answer = {"id": "chatcmpl-1", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}
    events = b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(answer).encode()
    vendor, other = shop.vendor(says(200, events if is_stream else answer)), shop.vendor()
    customer = shop.customer()
    model = shop.model(vendor, other)

    if is_stream:
        request_id, _, is_done = streamed(customer, model)
        assert is_done
    else:
        request_id = customer.chat(model).headers["x-request-id"]

    assert other.requests == []
    receipt = shop.operator.wait_receipt(request_id)
    assert (receipt["status"], receipt["finish_reason"]) == ("ok", "content_filter")
    assert receipt["usage"]["input_tokens"] == 40
    assert Decimal(receipt["amount"]) == charge(PRICES, receipt["usage"]) > 0


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    ("asked", "is_answer"), [({"stop": ["T"]}, True), ({"logit_bias": {"1": 100}}, True), ({}, False)]
)
def test_who_asks_for_nothing_pays_for_the_prompt(
    shop: Shop, is_stream: bool, asked: dict[str, Any], is_answer: bool
) -> None:
    """An answer may end at once where the request says so: vendors charge for its prompt. Of others it is a fault."""
    usage = {"prompt_tokens": 40, "completion_tokens": 0, "total_tokens": 40}
    said: dict[str, Any] = {"role": "assistant", "content": ""}
    choice = {"index": 0, "finish_reason": "stop", "delta" if is_stream else "message": said}
    answer = {"id": "chatcmpl-1", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}
    events = b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(answer).encode()
    model, customer = shop.model(shop.vendor(says(200, events if is_stream else answer))), shop.customer()

    response = customer.chat(model, stream=is_stream, **asked)

    assert response.status_code == (200 if is_answer else 503)
    receipt = shop.operator.wait_receipt(response.headers["x-request-id"])
    assert (Decimal(receipt["amount"]) > 0) == is_answer


def test_an_attempt_that_cost_is_on_the_receipt_and_not_on_the_bill(shop: Shop) -> None:
    """The next channel answers: the customer pays that one alone, the margin bears both."""
    empty = {"object": "chat.completion", "choices": [], "usage": Answer(prompt_tokens=100).usage()}
    model = shop.model(shop.vendor(says(200, empty)), shop.vendor())
    customer = shop.customer()

    answer = customer.chat(model)

    receipt = shop.assert_paid_once(customer, answer.headers["x-request-id"])
    failed, served = receipt["attempts"]
    assert failed["usage"]["input_tokens"] == 100
    assert Decimal(failed["cost"]) > Decimal(served["cost"]) > 0
    assert Decimal(receipt["upstream_cost"]) == Decimal(failed["cost"]) + Decimal(served["cost"])


@pytest.mark.parametrize("usage", ["none", "ones"])
def test_a_wallet_that_ends_in_mid_answer_ends_the_answer_cleanly(shop: Shop, usage: Any) -> None:
    """As a vendor does at its limit: `length`, then [DONE]; nothing is owed, and the receipt says why. A vendor that
    says 1 in every chunk does not blind the watch."""
    said = Answer(pieces=("word ",) * 6000)
    vendor = shop.vendor(answers(said, Shape(usage=usage)))
    model = shop.model(vendor, prices=OUTPUT_ONLY)
    customer = shop.customer(credit="0.05")  # pays for 5,000 tokens

    request_id, events, done = streamed(customer, model)

    assert done
    assert events[-1]["choices"][0]["finish_reason"] == "length"
    assert {event["id"] for event in events} == {"chatcmpl-vendor"}
    receipt = shop.assert_paid_once(customer, request_id, OUTPUT_ONLY)
    assert (receipt["status"], receipt["ending"], receipt["finish_reason"]) == ("ok", "out_of_credit", "length")
    text = "".join(event["choices"][0]["delta"].get("content") or "" for event in events)
    assert 4096 <= text.count("word") <= receipt["usage"]["output_tokens"] <= 5000
    assert Decimal(receipt["unpaid"]) == 0


def test_a_wallet_pays_to_its_last_token_for_what_was_sent_uncounted(shop: Shop) -> None:
    """Beyond the hold of 4,096 tokens, but not by the guess from its bytes: 4,800 are sent uncounted. Where the wallet
    can't pay for a longer step, it pays for as much as it can, and no further event is sent."""
    said = Answer(pieces=(*(" word" * 100,) * 48, *(" word" * 10,) * 39))
    gate = Gate()
    model = shop.model(shop.vendor(answers(said, Shape(usage="none"), after=49, then=gate)), prices=OUTPUT_ONLY)
    customer = shop.customer(credit="0.05")  # pays for 5,000 tokens

    with customer.stream(model) as response:
        raw = b""
        for piece in response.iter_bytes():
            raw += piece
            if raw.count(b" word") == 4_800:
                gate.open()
    told = parse(raw)

    assert (told.text, told.done) == (" word" * 5_000, True)
    receipt = shop.assert_paid_once(customer, response.headers["x-request-id"], OUTPUT_ONLY)
    assert (receipt["ending"], receipt["usage"]["output_tokens"]) == ("out_of_credit", 5_000)
    assert Decimal(receipt["unpaid"]) == shop.operator.balance(customer.account_id) == 0


def test_a_long_answer_has_its_hold_extended(shop: Shop) -> None:
    """Nobody set a limit: 4096 tokens are held, and the vendor is told so. It goes on, and the hold grows along."""
    said = Answer(pieces=("word ",) * 6000)
    gate = Gate()
    model = shop.model(shop.vendor(answers(said, after=5900, then=gate)), prices=OUTPUT_ONLY)
    customer = shop.customer()

    with customer.stream(model) as response:
        until(lambda: shop.operator.held(customer.account_id) > usd(4096 * 10_000), "the hold has grown")
        gate.open()
        response.read()

    receipt = shop.assert_paid_once(customer, response.headers["x-request-id"], OUTPUT_ONLY)
    assert (receipt["ending"], receipt["usage"]["output_tokens"]) == ("finished", 6000)


def test_usage_in_every_chunk_is_watched_as_the_vendor_counts_it(shop: Shop) -> None:
    """Few bytes, many tokens: the vendor's own count runs past the wallet."""
    said = Answer(pieces=("x",) * 300, completion_tokens=200)
    model = shop.model(shop.vendor(answers(said, Shape(usage="every"))), prices=OUTPUT_ONLY)
    customer = shop.customer(credit="0.001")  # pays for 100 tokens

    request_id, events, done = streamed(customer, model)

    assert done
    receipt = shop.operator.wait_receipt(request_id)
    assert receipt["ending"] == "out_of_credit"
    assert 0 < len(events) <= 102
    assert shop.operator.balance(customer.account_id) >= 0


def test_a_tool_call_that_a_wallet_can_pay_is_not_cut_off(shop: Shop) -> None:
    """Its pieces are counted by their text: the JSON around them is ten times as long, and not the model's."""
    arguments = ('{"city": "Berlin"',) + (', "day": 1',) * 60 + ("}",)
    said = Answer(pieces=(), tool_calls=(ToolCall("weather", arguments),))
    model = shop.model(shop.vendor(answers(said, Shape(usage="none"))), prices=OUTPUT_ONLY)
    customer = shop.customer(credit="0.005")  # pays for 500 tokens

    request_id, _, done = streamed(customer, model)

    assert done
    receipt = shop.assert_paid_once(customer, request_id, OUTPUT_ONLY)
    assert (receipt["ending"], receipt["finish_reason"]) == ("finished", "tool_calls")
    assert 200 <= receipt["usage"]["output_tokens"] <= 450


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_small_wallet_gets_the_limit_that_it_affords(shop: Shop, stream: bool) -> None:
    """Rather than a refusal: the vendor is told a limit, in the field that it reads."""
    vendor = shop.vendor()
    model = shop.model(vendor, prices=OUTPUT_ONLY)
    customer = shop.customer(credit="0.00123")  # pays for 123 tokens

    answer = customer.chat(model, stream=stream)

    assert answer.status_code == 200
    assert vendor.requests[0].json["max_completion_tokens"] == 123
    assert "max_tokens" not in vendor.requests[0].json
    shop.assert_paid_once(customer, answer.headers["x-request-id"], OUTPUT_ONLY)


def test_a_small_wallet_shares_its_limit_among_the_answers(shop: Shop) -> None:
    vendor = shop.vendor()
    model = shop.model(vendor, prices=OUTPUT_ONLY)
    customer = shop.customer(credit="0.00123")
    assert customer.chat(model, n=2).status_code == 200
    assert vendor.requests[0].json["max_completion_tokens"] == 61


def test_a_limit_that_the_customer_set_is_not_changed(shop: Shop) -> None:
    """It is what they asked for: they are told that it does not fit."""
    vendor = shop.vendor()
    model = shop.model(vendor, prices=OUTPUT_ONLY)
    customer = shop.customer(credit="0.00123")
    answer = customer.chat(model, max_tokens=124)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "insufficient_quota")
    assert customer.chat(model, max_tokens=123).status_code == 200


def test_near_the_floor_the_prompt_is_counted(shop: Shop) -> None:
    """A kilobyte of words is some 200 tokens: a wallet that pays for those is not refused for its bytes."""
    prices = {"input": "10.00", "output": "0"}
    model = shop.model(shop.vendor(), prices=prices)
    words = "hello " * 200
    customer = shop.customer(credit="0.0025")  # 250 tokens; the bytes would be some 1,250

    answer = customer.chat(model, messages=[{"role": "user", "content": words}], max_tokens=5)

    assert answer.status_code == 200, answer.text
    shop.assert_paid_once(customer, answer.headers["x-request-id"], prices)
    poor = shop.customer(credit="0.0015")
    assert poor.chat(model, messages=[{"role": "user", "content": words}], max_tokens=5).status_code == 429


def test_a_deployment_decides_what_endings_cost(open_shop: OpenShop) -> None:
    """Cut off in mid-answer and without usage: free here, and the receipts say so; the vendor's cost stays."""
    shop = open_shop(
        TOLLGATE_POLICY_CUT="free", TOLLGATE_POLICY_NO_USAGE="free", TOLLGATE_POLICY_CLIENT_GONE="delivered"
    )
    customer = shop.customer()

    cut, _, done = streamed(customer, shop.model(shop.vendor(answers(after=4, then="reset"))))
    assert not done
    silent = customer.chat(shop.model(shop.vendor(answers(Answer(usage_in_body=False)))))
    gate = Gate()
    left = customer.leave(shop.model(shop.vendor(answers(after=4, then=gate))), gate)

    for request_id, ending in ((cut, "cut"), (silent.headers["x-request-id"], "finished")):
        receipt = shop.operator.wait_receipt(request_id)
        assert (receipt["ending"], receipt["policy"], Decimal(receipt["amount"])) == (ending, "free", 0)
        assert receipt["usage"]["output_tokens"] > 0
        assert Decimal(receipt["upstream_cost"]) > 0
    gone = shop.operator.wait_receipt(left)
    assert (gone["ending"], gone["policy"], gone["usage_source"]) == ("client_gone", "delivered", "estimated")
    assert 0 < gone["usage"]["output_tokens"] < 7
    assert gone["attempts"][0]["usage"]["output_tokens"] == 7
    assert Decimal(gone["amount"]) == charge(PRICES, gone["usage"])
    shop.operator.assert_books_agree()
