"""Vendors that go beyond what a request could cost: the customer pays up to the bound, the operator hears of it."""

import json
from decimal import Decimal
from typing import Any

import pytest

from tests.answers import Answer, Shape, frames_of
from tests.behaviours import answers
from tests.operator_api import Json, charge
from tests.shop import COSTS, MESSAGES, PRICES, Shop
from tests.sse import read
from tests.upstreams import Behaviour, Exchange
from tests.waiting import until

# 10,000 nano a token of the answer, the prompt for nothing.
OUTPUT_ONLY = {"input": "0", "output": "10.00"}


def in_one_piece(answer: Answer, *, roles: bool = True) -> Behaviour:
    """All events of a stream in one segment, whatever limit was sent; with those that only say who speaks, or not."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head(200, content_type="text/event-stream", transfer_encoding="chunked")
        request = exchange.request.json
        frames = frames_of(answer, Shape(usage="none"), request)
        await exchange.chunk(b"".join(frames if roles else frames[request.get("n") or 1 :]))
        await exchange.end_chunks()

    return behave


def assert_told(shop: Shop, receipt: Json, words: str) -> None:
    """The receipt says so to both sides, and the operator finds the channel by its name."""
    assert receipt["vendor_excess"] is True
    channel = shop.operator.get(f"/channels/{receipt['channel_id']}")

    def alert() -> Json | None:
        found = shop.operator.get("/alerts", limit=100)["items"]
        return next((each for each in found if each["subject"] == channel["id"]), None)

    told = until(alert, "the operator is told")
    assert told["kind"] == "channel.usage_beyond_bound"
    assert told["details"]["channel"] == channel["name"]
    assert words in told["details"]["reason"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_absurd_usage_is_charged_up_to_the_limit(shop: Shop, stream: bool) -> None:
    """900,000,000 tokens for ten: ten are charged, nothing is owed; what the vendor says is what it costs."""
    said = Answer(pieces=("x",), completion_tokens=900_000_000)
    model = shop.model(shop.vendor(answers(said)))
    customer = shop.customer()

    answer = customer.chat(model, max_tokens=10, stream=stream)

    receipt = shop.assert_paid_once(customer, answer.headers["x-request-id"])
    assert (receipt["usage"]["output_tokens"], Decimal(receipt["unpaid"])) == (10, 0)
    assert receipt["attempts"][0]["usage"]["output_tokens"] == 900_000_000
    assert Decimal(receipt["upstream_cost"]) == charge(COSTS, receipt["usage"] | receipt["attempts"][0]["usage"])
    assert_told(shop, receipt, "900000000 output tokens where at most 10 were possible")
    own = customer.http.get(f"/v1/receipts/{receipt['request_id']}").json()
    assert own["vendor_excess"] is True
    shop.operator.assert_books_agree()


def test_a_prompt_is_not_longer_than_its_bytes(shop: Shop) -> None:
    model = shop.model(shop.vendor(answers(Answer(prompt_tokens=500_000))))
    customer = shop.customer()
    receipt = shop.assert_paid_once(customer, customer.chat(model).headers["x-request-id"])
    assert 0 < receipt["usage"]["input_tokens"] < 500
    assert receipt["attempts"][0]["usage"]["input_tokens"] == 500_000
    assert_told(shop, receipt, "500000 input tokens")


def test_a_vendor_that_runs_far_beyond_its_limit_is_ended(shop: Shop) -> None:
    """Forty thousand tokens for ten: the customer is charged for ten, and the vendor is hung up on."""
    said = Answer(pieces=("word ",) * 40_000)
    vendor = shop.vendor(answers(said, Shape(usage="none")))
    model = shop.model(vendor, prices=OUTPUT_ONLY)
    customer = shop.customer()

    with customer.stream(model, max_tokens=10) as response:
        told = read(response)

    assert told.done
    assert told.chunks[-1]["choices"][0]["finish_reason"] == "length"
    receipt = shop.assert_paid_once(customer, response.headers["x-request-id"], OUTPUT_ONLY)
    assert (receipt["status"], receipt["ending"], receipt["finish_reason"]) == ("ok", "finished", "length")
    assert (receipt["usage"]["output_tokens"], receipt["usage_source"]) == (10, "estimated")
    assert Decimal(receipt["unpaid"]) == 0
    assert vendor.served == [], "it never came to its end"
    assert_told(shop, receipt, "where at most 10 were possible")


def test_a_wallet_that_ends_in_the_first_segment(shop: Shop) -> None:
    """So much of it is delivered as is paid for, and the official client reads an answer that reached its limit."""
    model = shop.model(shop.vendor(in_one_piece(Answer(pieces=(" word",) * 60))), prices=OUTPUT_ONLY)
    customer = shop.customer(credit="0.0004")  # pays for 40 tokens

    chunks = [*customer.openai().chat.completions.create(model=model, messages=MESSAGES, stream=True)]

    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == " word" * 40
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 41 + ["length"]
    (receipt,) = shop.operator.wait_receipts(1, account_id=customer.account_id)
    assert (receipt["ending"], receipt["finish_reason"]) == ("out_of_credit", "length")
    assert (receipt["usage"]["output_tokens"], Decimal(receipt["unpaid"])) == (40, 0)
    assert shop.operator.balance(customer.account_id) == 0


def test_an_answer_of_which_nothing_is_paid_for_is_an_empty_one(shop: Shop) -> None:
    """One event with more in it than the wallet pays for: each choice still has a role, a text and an end."""
    said = Answer(pieces=(" word" * 200,))
    model = shop.model(shop.vendor(in_one_piece(said, roles=False)), prices=OUTPUT_ONLY)
    customer = shop.customer(credit="0.0004")

    chunks = [*customer.openai().chat.completions.create(model=model, messages=MESSAGES, stream=True, n=2)]

    choices = [choice for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert [(each.index, each.finish_reason) for each in choices] == [(0, "length"), (1, "length")]
    assert [(each.delta.role, each.delta.content) for each in choices] == [("assistant", "")] * 2
    (receipt,) = shop.operator.wait_receipts(1, account_id=customer.account_id)
    assert (receipt["usage"]["output_tokens"], Decimal(receipt["unpaid"])) == (0, 0)


def test_a_choice_whose_end_was_not_sent_ends_at_its_limit(shop: Shop) -> None:
    """Its finish was read, in the part of the segment that is not paid for: the customer hears of it all the same."""
    model = shop.model(shop.vendor(in_one_piece(Answer(pieces=(" word",) * 60))), prices=OUTPUT_ONLY)
    customer = shop.customer(credit="0.0004")

    with customer.stream(model, n=2) as response:
        told = read(response)

    assert told.done
    ends = [each for chunk in told.chunks for each in chunk["choices"] if each["finish_reason"]]
    assert [(each["index"], each["delta"], each["finish_reason"]) for each in ends] == [
        (0, {}, "length"),
        (1, {}, "length"),
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_tier_that_nobody_asked_for_is_the_operators_cost(shop: Shop, stream: bool) -> None:
    """It is in the answer, on a stream in its last chunk that names one; the customer pays the rates themselves."""
    prices = {**PRICES, "service_tiers": {"priority": "2"}}
    served = Answer(extra={"service_tier": "priority"})

    async def tiered(exchange: Exchange) -> None:
        body: Any = exchange.request.json
        if not stream:
            await answers(served)(exchange)
            return
        frames = frames_of(served, Shape(), body)
        tiers = ["auto", "default", *["priority"] * len(frames)]
        told = [_with_tier(frame, tier) for frame, tier in zip(frames, tiers, strict=False)]
        await exchange.head(200, content_type="text/event-stream", transfer_encoding="chunked")
        for frame in told:
            await exchange.chunk(frame)
        await exchange.end_chunks()

    model = shop.model(shop.vendor(tiered), prices=prices)
    plain = shop.customer()
    answer = plain.chat(model, stream=stream)
    receipt = shop.assert_paid_once(plain, answer.headers["x-request-id"])
    assert (receipt["extras"], receipt["vendor_excess"]) == ({}, True)
    assert receipt["attempts"][0]["extras"] == {"service_tier": "priority"}
    shop.operator.assert_books_agree()


def _with_tier(frame: bytes, tier: str) -> bytes:
    payload = frame.removeprefix(b"data: ").strip()
    if payload == b"[DONE]":
        return frame
    return b"data: %b\n\n" % json.dumps({**json.loads(payload), "service_tier": tier}).encode()
