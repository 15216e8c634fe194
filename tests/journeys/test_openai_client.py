"""The official client, unchanged but for base URL and key, does the main job, each time with its receipt."""

from decimal import Decimal

import httpx
import openai
import pytest

from tests.answers import Answer, Shape
from tests.behaviours import answers
from tests.operator_api import charge
from tests.shop import COSTS, MESSAGES, Shop

SAID = Answer(prompt_tokens=19)


def test_a_chat_is_answered_charged_and_on_the_books(shop: Shop) -> None:
    """The answer is the vendor's under the public model name; its receipt tells the whole story."""
    vendor = shop.vendor(answers(SAID))
    model = shop.model(vendor)
    customer = shop.customer()

    raw = customer.openai().chat.completions.with_raw_response.create(model=model, messages=MESSAGES)
    completion = raw.parse()

    assert completion.choices[0].message.content == SAID.text
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model == model
    assert completion.usage.prompt_tokens == 19
    receipt = shop.assert_paid_once(customer, raw.headers["x-request-id"])
    assert Decimal(raw.headers["x-tollgate-cost"]) == Decimal(receipt["amount"])
    expected = {
        "dialect": "openai_chat",
        "model": model,
        "upstream_model": vendor.served[0].model,
        "stream": False,
        "status": "ok",
        "http_status": 200,
        "finish_reason": "stop",
        "usage_source": "upstream",
        "usage": {
            "input_tokens": 19,
            "output_tokens": 7,
            "cached_input_tokens": 0,
            "cache_write_tokens": 0,
            "reasoning_tokens": 0,
        },
    }
    assert {name: receipt[name] for name in expected} == expected
    assert Decimal(receipt["upstream_cost"]) == charge(COSTS, receipt["usage"])
    assert Decimal(receipt["margin"]) == Decimal(receipt["amount"]) - Decimal(receipt["upstream_cost"])
    assert receipt["price_version"]
    assert receipt["created_at"]
    assert isinstance(receipt["duration_ms"], int)
    (attempt,) = receipt["attempts"]
    assert attempt["channel_id"] == receipt["channel_id"]
    assert (attempt["http_status"], attempt["error"]) == (200, None)


def test_a_customer_reads_its_own_receipt_and_nobody_elses(shop: Shop) -> None:
    """`GET /v1/receipts/{request_id}` is for the owner alone, and without the operator's figures."""
    model = shop.model(shop.vendor())
    customer, stranger = shop.customer(), shop.customer()
    request_id = customer.chat(model).headers["x-request-id"]
    receipt = shop.operator.wait_receipt(request_id)

    own = customer.http.get(f"/v1/receipts/{request_id}")

    assert own.status_code == 200, own.text
    assert own.json()["request_id"] == request_id
    assert Decimal(own.json()["amount"]) == Decimal(receipt["amount"])
    for secret in ("upstream_cost", "margin", "upstream_model", receipt["channel_id"]):
        assert secret not in own.text, "the operator's figures are none of the customer's business"
    assert stranger.http.get(f"/v1/receipts/{request_id}").status_code == 404


def test_a_stream_arrives_whole_and_is_charged_by_the_vendors_usage(shop: Shop) -> None:
    """Usage is asked of the vendor though the client did not; the pieces add up to the vendor's text."""
    vendor = shop.vendor(answers(SAID))
    model = shop.model(vendor)
    customer = shop.customer()

    raw = customer.openai().chat.completions.with_raw_response.create(model=model, messages=MESSAGES, stream=True)
    chunks = list(raw.parse())

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == SAID.text
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "stop"
    assert {chunk.model for chunk in chunks} == {model}
    assert all(chunk.usage is None for chunk in chunks)
    assert vendor.requests[0].json["stream_options"] == {"include_usage": True}
    receipt = shop.assert_paid_once(customer, raw.headers["x-request-id"])
    assert (receipt["stream"], receipt["status"], receipt["usage_source"]) == (True, "ok", "upstream")
    assert (receipt["usage"]["input_tokens"], receipt["usage"]["output_tokens"]) == (19, 7)
    assert receipt["finish_reason"] == "stop"
    assert isinstance(receipt["ttft_ms"], int)


@pytest.mark.parametrize("stream", [False, True])
def test_two_choices_are_kept_apart_and_both_are_charged(shop: Shop, stream: bool) -> None:
    """With `n` = 2 each choice keeps its index, interleaved on a stream, and the usage of both is paid."""
    model = shop.model(shop.vendor(answers(SAID)))
    customer = shop.customer()

    raw = customer.openai().chat.completions.with_raw_response.create(
        model=model, messages=MESSAGES, n=2, stream=stream
    )
    texts = {0: "", 1: ""}
    if stream:
        for chunk in raw.parse():
            texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    else:
        texts = {choice.index: choice.message.content for choice in raw.parse().choices}

    assert texts == {0: SAID.text_of(0), 1: SAID.text_of(1)}
    receipt = shop.assert_paid_once(customer, raw.headers["x-request-id"])
    assert receipt["usage"]["output_tokens"] == 15


def test_cached_and_reasoning_tokens_are_told_apart(shop: Shop) -> None:
    """Cached tokens are part of the input and have a price of their own; reasoning is part of the output."""
    said = Answer(prompt_tokens=40, cached_tokens=30, completion_tokens=50, reasoning_tokens=20)
    model = shop.model(shop.vendor(answers(said)))
    for stream in (False, True):
        customer = shop.customer()
        raw = customer.openai().chat.completions.with_raw_response.create(
            model=model, messages=MESSAGES, stream=stream, max_tokens=64
        )
        if stream:
            list(raw.parse())

        receipt = shop.assert_paid_once(customer, raw.headers["x-request-id"])

        assert receipt["usage"] == {
            "input_tokens": 40,
            "output_tokens": 50,
            "cached_input_tokens": 30,
            "cache_write_tokens": 0,
            "reasoning_tokens": 20,
        }
        assert Decimal(receipt["amount"]) == Decimal("0.0005625")


async def test_many_clients_stream_at_once(shop: Shop) -> None:
    """Streams that run side by side do not mix, and each has a receipt of its own."""
    import asyncio

    model = shop.model(shop.vendor(answers(SAID, Shape(bytes_per_write=5))))
    customer = shop.customer()
    client = openai.AsyncOpenAI(base_url=f"{customer.url}/v1", api_key=customer.key, max_retries=0)

    async def text() -> str:
        stream = await client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async with client:
        texts = await asyncio.gather(*(text() for _ in range(20)))

    assert texts == [SAID.text] * 20
    receipts = shop.operator.wait_receipts(20, account_id=customer.account_id)
    assert sum(Decimal(receipt["amount"]) for receipt in receipts) == customer.credit - shop.operator.balance(
        customer.account_id
    )


def test_the_request_id_is_on_every_answer(shop: Shop) -> None:
    """Good or bad, each answer names its request, so that customer and operator talk of the same one."""
    model = shop.model(shop.vendor())
    customer = shop.customer()
    bad = httpx.post(f"{customer.url}/v1/chat/completions", json={}, headers={"Authorization": "Bearer sk-no"})
    seen = [customer.chat(model), customer.chat("no-such-model"), customer.http.get("/v1/models"), bad]

    ids = [answer.headers["x-request-id"] for answer in seen]

    assert len(set(ids)) == len(ids)
