"""No customer can make a request cost more than what is held for it: by a limit that the vendor does not read, by parts
that count as nothing, or by fields that have a price of their own."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from tests.answers import Answer
from tests.behaviours import Gate, answers, says
from tests.operator_api import Json, usd
from tests.shop import MESSAGES, Customer, Shop
from tests.upstreams import Behaviour, Exchange
from tests.waiting import until

ROUND = {"input": "1.00", "output": "10.00"}  # 1,000 and 10,000 nano a token
TEXT = {"type": "text", "text": "See"}
PICTURE = {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg", "detail": "high"}}
SMALL = {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg", "detail": "low"}}
PAPER = {"type": "image_url", "image_url": {"url": "data:application/pdf;base64,JVBERi0="}}
FILE = {"type": "file", "file": {"file_id": "file-1"}}
FILM = {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}
SEARCH = {"type": "web_search"}


def obeys(field: str) -> Behaviour:
    """Answers as long as the one limit that it reads lets it: 8,000 tokens otherwise."""

    async def behave(exchange: Exchange) -> None:
        tokens = exchange.request.json.get(field, 8_000)
        await answers(Answer(pieces=("yes",), prompt_tokens=10, completion_tokens=tokens))(exchange)

    return behave


def messages(*parts: Json) -> list[Json]:
    return [{"role": "user", "content": [TEXT, *parts]}]


def held_for(shop: Shop, customer: Customer, gate: Gate, model: str, **fields: Any) -> Decimal:
    """What is held for a plain request while its vendor waits at the gate, but for the price of its bytes."""
    request = customer.http.build_request(
        "POST", "/v1/chat/completions", json={"model": model, "messages": MESSAGES, **fields}
    )
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(customer.http.send, request)
        held = until(lambda: shop.operator.held(customer.account_id), "the request is held for")
        gate.open()
        assert answer.result().status_code == 200
    return held - usd(len(request.read()) * 1_000)


@pytest.mark.parametrize(
    ("provider", "reads"),
    [("openai", "max_completion_tokens"), ("mistral", "max_tokens"), ("openai_compatible", "max_tokens")],
)
@pytest.mark.parametrize("asked", ["max_tokens", "max_completion_tokens"])
def test_a_tiny_limit_bounds_the_answer_whatever_the_vendor_reads(
    shop: Shop, provider: str, reads: str, asked: str
) -> None:
    """Ten at once on a wallet that pays for ten tiny answers: all is paid, down to the nano."""
    model = shop.model(prices=ROUND)
    shop.channel(shop.vendor(obeys(reads)), model, provider=provider)
    customer = shop.customer(credit="0.0025")

    with ThreadPoolExecutor(10) as pool:
        statuses = list(pool.map(lambda _: customer.chat(model, **{asked: 1}).status_code, range(10)))

    assert set(statuses) == {200}
    receipts = shop.operator.wait_receipts(10, account_id=customer.account_id)
    assert {receipt["usage"]["output_tokens"] for receipt in receipts} == {1}
    assert {Decimal(receipt["unpaid"]) for receipt in receipts} == {0}
    assert shop.operator.balance(customer.account_id) == customer.credit - usd(10 * (10 * 1_000 + 10_000))


def test_an_operator_says_what_a_vendor_reads(shop: Shop) -> None:
    model = shop.model(prices=ROUND)
    vendor = shop.vendor(obeys("max_tokens"))
    shop.channel(vendor, model, limit_field="max_tokens")
    assert shop.customer().chat(model, max_completion_tokens=5).json()["usage"]["completion_tokens"] == 5
    assert "max_completion_tokens" not in vendor.requests[0].json


@pytest.mark.parametrize(
    ("media", "parts", "tokens"),
    [
        pytest.param({}, [PICTURE], 48_169, id="a picture that nobody has bounded"),
        pytest.param({}, [SMALL], 48_169, id="at low detail"),
        pytest.param({"image": {"low": 85, "high": 1445}}, [PICTURE, SMALL], 1530, id="as the model declares"),
        pytest.param({"file": 9_000, "video": 70_000}, [PAPER, FILE, FILM], 88_000, id="files and a video"),
    ],
)
def test_media_are_held_for_at_their_dearest(shop: Shop, media: Json, parts: list[Json], tokens: int) -> None:
    gate = Gate()
    vendor = shop.vendor(answers(Answer(), then=gate))
    model = shop.model(vendor, prices=ROUND, media=media)
    held = held_for(shop, shop.customer(), gate, model, messages=messages(*parts), max_tokens=1)
    data = len(PAPER["image_url"]["url"]) if PAPER in parts else 0  # type: ignore[index]
    assert held == usd((tokens - data) * 1_000 + 10_000)


@pytest.mark.parametrize("part", [PAPER, FILE, FILM, {"type": "new"}], ids=["pdf", "file", "video", "unknown"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_part_that_the_model_declares_no_bound_for_is_refused(shop: Shop, part: Json, stream: bool) -> None:
    """Its path is named, nothing is sent or charged; a model in whose place it was asked does not make it sound."""
    vendor = shop.vendor()
    other = shop.model(vendor, media={"file": 5, "video": 5})
    model = shop.model(vendor, fallbacks=[other])
    customer = shop.customer()

    answer = customer.chat(model, messages=messages(PICTURE, part), stream=stream)

    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == "messages[0].content[2]"
    assert not vendor.requests
    shop.assert_nothing_charged(customer)


def test_a_fallback_that_does_not_take_a_part_is_passed_over(shop: Shop) -> None:
    """And one that does is held for by its own bound."""
    vendor = shop.vendor()
    blind, last = shop.model(vendor), shop.model(vendor, media={"file": 50})
    model = shop.model(shop.vendor(says(500)), media={"file": 5}, fallbacks=[blind, last])
    customer = shop.customer()

    answer = customer.chat(model, messages=messages(FILE))

    assert (answer.status_code, answer.json()["model"]) == (200, last)
    assert shop.assert_paid_once(customer, answer.headers["x-request-id"])["requested_model"] == model


def test_a_count_does_not_bound_what_another_vendor_counts(shop: Shop) -> None:
    """Near the floor a prompt is counted with OpenAI's tokenizer only where every channel's vendor has that."""
    prices = {"input": "10.00", "output": "0"}
    words = [{"role": "user", "content": "hello " * 200}]
    theirs, ours = shop.model(prices=prices), shop.model(prices=prices)
    shop.channel(shop.vendor(), theirs, provider="openai_compatible", priority=-1)
    shop.channel(shop.vendor(), theirs)
    shop.channel(shop.vendor(), ours)
    customer = shop.customer(credit="0.0025")  # 250 tokens; the bytes would be some 1,250

    assert customer.chat(theirs, messages=words, max_tokens=5).status_code == 429
    assert customer.chat(ours, messages=words, max_tokens=5).status_code == 200


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"Model": "dearer"}, "Model"),
        ({"N": 100}, "N"),
        ({"\u017ftream": True}, "\u017ftream"),
        ({"messages": [{"role": "user", "content": "Hi", "Content": [PICTURE]}]}, "messages[0].Content"),
    ],
)
def test_a_key_in_another_case_never_reaches_a_vendor(shop: Shop, fields: Json, param: str) -> None:
    vendor = shop.vendor()
    model = shop.model(vendor)
    answer = shop.customer().chat(model, **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert not vendor.requests


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_dropped_field_is_named_in_a_header(shop: Shop, stream: bool) -> None:
    """By default nothing that costs extra is passed on; what asks for nothing is not worth a word."""
    vendor = shop.vendor()
    model = shop.model(vendor)
    customer = shop.customer()

    answer = customer.chat(model, stream=stream, store=True, service_tier="priority", provider=None)

    assert (answer.status_code, answer.headers["x-tollgate-dropped"]) == (200, "service_tier, store")
    assert {"store", "service_tier", "provider"}.isdisjoint(vendor.requests[0].json)
    assert "x-tollgate-dropped" not in customer.chat(model, stream=stream, service_tier="default").headers
    assert "service_tier" not in vendor.requests[1].json


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"web_search_options": {}}, "web_search_options"),
        ({"plugins": [{"id": "web"}]}, "plugins"),
        ({"enable_search": True}, "enable_search"),
        ({"tools": [SEARCH]}, "tools"),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_field_that_no_channel_takes_is_refused(shop: Shop, fields: Json, param: str, stream: bool) -> None:
    """It is named, and nothing is held or charged."""
    vendor = shop.vendor()
    model = shop.model(vendor, fallbacks=[shop.model(vendor)])
    customer = shop.customer()

    answer = customer.chat(model, stream=stream, **fields)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert not vendor.requests
    shop.assert_nothing_charged(customer)
    assert not list(shop.operator.receipts(account_id=customer.account_id))


def test_a_channel_that_refuses_a_field_is_passed_over(shop: Shop) -> None:
    """The next one of the model is asked, which passes it on; requests without the field go where they went."""
    first, second = shop.vendor(), shop.vendor()
    model = shop.model(first)
    shop.channel(second, model, priority=-5, priced_fields={"tools": "pass", "web_search_options": "pass"})
    customer = shop.customer()

    asked = customer.chat(model, web_search_options={}, tools=[SEARCH])

    assert asked.status_code == 200
    assert "x-tollgate-dropped" not in asked.headers
    assert (len(first.requests), len(second.requests)) == (0, 1)
    sent = second.requests[0].json
    assert (sent["web_search_options"], sent["tools"]) == ({}, [SEARCH])
    assert customer.chat(model).status_code == 200
    assert (len(first.requests), len(second.requests)) == (1, 1)


def test_a_model_whose_channels_refuse_a_field_gives_way_to_its_fallback(shop: Shop) -> None:
    first, second = shop.vendor(), shop.vendor()
    other = shop.model()
    shop.channel(second, other, priced_fields={"plugins": "drop"})
    model = shop.model(first, fallbacks=[shop.model(first), other])
    customer = shop.customer()

    answer = customer.chat(model, plugins=[{"id": "web"}])

    assert (answer.status_code, answer.json()["model"]) == (200, other)
    assert answer.headers["x-tollgate-dropped"] == "plugins"
    assert not first.requests
    shop.assert_paid_once(customer, answer.headers["x-request-id"])
