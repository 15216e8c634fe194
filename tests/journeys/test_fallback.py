"""When a channel fails before the first byte of content, the next one answers and the customer pays once."""

from collections.abc import Callable
from decimal import Decimal

import pytest

from tests.answers import Answer
from tests.behaviours import answers, hangs, says
from tests.operator_api import Json
from tests.shop import IMPATIENT, Customer, Shop
from tests.sse import read
from tests.upstreams import Behaviour, Vendor

GOOD = Answer(prompt_tokens=12, pieces=("from", " the", " second"))
EMPTY_STREAM = b": nothing\n\ndata: [DONE]\n\n"
ERROR_STREAM = b'data: {"error": {"message": "overloaded", "type": "server_error"}}\n\n'
SSE = {"content_type": "text/event-stream"}


def fault(status: int, **headers: str) -> Behaviour:
    return says(status, {"error": {"message": f"vendor says {status}", "type": "vendor_error"}}, **headers)


STATUSES = (408, 409, 425, 429, 500, 502, 503, 504, 529)
REFUSED_CREDENTIALS = (401, 402, 403)
FAILURES: dict[str, Behaviour] = {
    **{f"status_{status}": fault(status) for status in (*STATUSES, *REFUSED_CREDENTIALS)},
    "html_502": says(502, b"<html>Bad gateway</html>", content_type="text/html"),
    "empty_200": says(200),
    "garbage_200": says(200, b"\x00\xff not json"),
    "truncated_json_200": says(200, b'{"id": "chatcmpl-1", "choices": ['),
    "no_choices_200": says(200, {"id": "x", "object": "chat.completion", "choices": []}),
    "null_choices_200": says(200, {"id": "x", "object": "chat.completion", "choices": None}),
    "error_200": says(200, {"error": {"message": "overloaded", "type": "server_error"}}),
    "html_200": says(200, b"<html>Welcome</html>", content_type="text/html"),
    "no_headers": hangs(),
    "cut_before_the_body": answers(after=0, then="close"),
    "reset_before_the_body": answers(after=0, then="reset"),
    "hung_before_the_body": answers(after=0, then="hang"),
    "cut_before_content": answers(after=1, then="close"),
    "reset_before_content": answers(after=1, then="reset"),
    "hung_before_content": answers(after=1, then="hang"),
}
STREAM_FAILURES: dict[str, Behaviour] = {
    **{name: FAILURES[name] for name in FAILURES if "status" not in name},
    **{name: FAILURES[name] for name in ("status_401", "status_429", "status_500")},
    "empty_stream": says(200, EMPTY_STREAM, **SSE),
    "error_event_first": says(200, ERROR_STREAM, **SSE),
    "error_event_after_the_role": answers(after=1, then="error"),
    "ended_after_the_role": answers(after=1, then="end"),
    "garbage_event": says(200, b"data: {not json\n\n", **SSE),
}


def ask(customer: Customer, model: str, stream: bool) -> tuple[str, str]:
    """The request's id and the text of a good answer."""
    if stream:
        with customer.stream(model) as response:
            told = read(response)
        assert response.status_code == 200, told
        assert (told.done, told.errors) == (True, [])
        return response.headers["x-request-id"], told.text
    answer = customer.chat(model)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-request-id"], answer.json()["choices"][0]["message"]["content"]


def assert_second_answered(shop: Shop, first: Vendor, stream: bool) -> Json:
    second = shop.vendor(answers(GOOD))
    model = shop.model()
    dead = shop.channel(first, model, priority=2, timeouts=IMPATIENT)
    alive = shop.channel(second, model, priority=1)
    customer = shop.customer()

    request_id, text = ask(customer, model, stream)

    assert text == GOOD.text
    assert len(second.served) == 1
    receipt = shop.assert_paid_once(customer, request_id)
    assert [attempt["channel_id"] for attempt in receipt["attempts"]] == [dead["id"], alive["id"]]
    assert receipt["channel_id"] == alive["id"]
    failed, good = receipt["attempts"]
    assert failed["error"]
    assert (good["error"], good["http_status"]) == (None, 200)
    assert receipt["usage"]["output_tokens"] == 3
    return failed


@pytest.mark.parametrize("failure", FAILURES)
def test_the_next_channel_answers(shop: Shop, failure: str) -> None:
    """A failure that is not the request's own moves on; the receipt lists both attempts in order."""
    first = shop.vendor(FAILURES[failure])

    failed = assert_second_answered(shop, first, stream=False)

    assert len(first.requests) == 1, "a channel that failed is not asked again"
    if failure.startswith("status_"):
        assert failed["http_status"] == int(failure.removeprefix("status_"))


@pytest.mark.parametrize("failure", STREAM_FAILURES)
def test_the_next_channel_streams(shop: Shop, failure: str) -> None:
    """A 200 is no answer until content has come: a stream that ends or fails before it moves on, too."""
    first = shop.vendor(STREAM_FAILURES[failure])

    assert_second_answered(shop, first, stream=True)

    assert len(first.requests) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("port", [Shop.refusing_vendor, Shop.swallowing_vendor], ids=["refused", "swallowed"])
def test_the_next_channel_answers_when_no_connection_opens(
    shop: Shop, port: Callable[[Shop], Vendor], stream: bool
) -> None:
    """A connection that is refused, or never opens within `connect_ms`, moves on."""
    failed = assert_second_answered(shop, port(shop), stream)

    assert failed["http_status"] is None


def test_higher_priority_first_and_never_the_same_channel_twice(shop: Shop) -> None:
    """Three channels fail, each asked once, highest priority first; the fourth answers."""
    vendors = [shop.vendor(fault(500)), shop.vendor(fault(429)), shop.vendor(hangs()), shop.vendor()]
    model = shop.model()
    ranked = [
        shop.channel(vendor, model, priority=10 - i, timeouts=IMPATIENT)["id"] for i, vendor in enumerate(vendors)
    ]
    customer = shop.customer()

    request_id, _ = ask(customer, model, stream=False)

    receipt = shop.assert_paid_once(customer, request_id)
    assert [attempt["channel_id"] for attempt in receipt["attempts"]] == ranked
    assert [len(vendor.requests) for vendor in vendors] == [1, 1, 1, 1]


def test_weight_shares_equal_priority_and_zero_priority_waits(shop: Shop) -> None:
    """Equal priorities share by weight; a lower priority gets nothing while they are well."""
    heavy, light, spare = shop.vendor(), shop.vendor(), shop.vendor()
    model = shop.model()
    shop.channel(heavy, model, priority=1, weight=9)
    shop.channel(light, model, priority=1, weight=3)
    shop.channel(spare, model, priority=0, weight=100)
    customer = shop.customer()

    for _ in range(60):
        assert customer.chat(model).status_code == 200

    assert len(heavy.requests) > len(light.requests) > 0
    assert not spare.requests


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_all_channels_dead_is_a_503_that_costs_nothing(shop: Shop, stream: bool) -> None:
    """The receipt has every attempt, the customer is told when to try again, and pays nothing."""
    model = shop.model(shop.vendor(fault(500)), shop.vendor(fault(429)), shop.refusing_vendor())
    customer = shop.customer()

    answer = customer.chat(model, stream=stream)

    assert answer.status_code == 503
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "no_available_channel")
    assert int(answer.headers["retry-after"]) >= 1
    shop.assert_nothing_charged(customer)
    receipt = shop.assert_paid_once(customer, answer.headers["x-request-id"])
    assert Decimal(receipt["amount"]) == 0
    assert (receipt["status"], receipt["http_status"]) == ("failed", 503)
    assert receipt["usage_source"] == "none"
    assert [attempt["http_status"] for attempt in receipt["attempts"]] == [500, 429, None]
    assert all(attempt["error"] for attempt in receipt["attempts"])


def test_a_model_without_channels_is_a_503(shop: Shop) -> None:
    """A model on sale that no channel serves is not the customer's mistake."""
    answer = shop.customer().chat(shop.model())

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_available_channel")


def test_a_channel_that_comes_back_is_used_again(shop: Shop) -> None:
    """Failures may rest a channel, never bury it: with all of them resting, the least bad one is probed."""
    vendor = shop.vendor().then(*[fault(500)] * 10)
    model = shop.model(vendor)
    customer = shop.customer()

    statuses = [customer.chat(model).status_code for _ in range(11)]

    assert statuses[:10] == [503] * 10
    assert statuses[10] == 200
