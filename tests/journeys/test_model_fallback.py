"""Models in one another's place: served by the first that can, and charged at that one's price."""

import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from tests.answers import Answer
from tests.behaviours import Gate, answers, says
from tests.journeys.test_fallback import ask, fault
from tests.operator_api import Json
from tests.shop import IMPATIENT, MESSAGES, Shop
from tests.sse import read
from tests.waiting import until

CHEAP = {"input": "0.10", "output": "0.10"}
DEAR = {"input": "1000.00", "output": "1000.00"}
OTHER = Answer(prompt_tokens=9, pieces=("from", " another"))
TOO_LONG = says(400, {"error": {"message": "Too long for sk-vendor.", "code": "context_length_exceeded"}})

both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def served_by(receipt: Json) -> list[tuple[str, str | None]]:
    return [(attempt["channel_id"], attempt["error"]) for attempt in receipt["attempts"]]


@both
def test_the_fallback_serves_at_its_own_price(shop: Shop, stream: bool) -> None:
    """Its name is on the answer, its price on the receipt, and the request's own is kept beside it."""
    good = shop.vendor(answers(OTHER))
    fallback = shop.model(good, prices=DEAR)
    model = shop.model(shop.vendor(fault(500)), shop.refusing_vendor(), fallbacks=[fallback])
    customer = shop.customer()

    request_id, text = ask(customer, model, stream)

    assert text == OTHER.text
    receipt = shop.assert_paid_once(customer, request_id, DEAR)
    assert (receipt["model"], receipt["requested_model"]) == (fallback, model)
    assert receipt["upstream_model"] == f"{fallback}-upstream"
    assert Decimal(receipt["amount"]) == Decimal("0.011")
    assert Decimal(receipt["upstream_cost"]) == Decimal("0.000017")
    assert [error is None for _, error in served_by(receipt)] == [False, False, True]
    assert good.requests[0].json["model"] == f"{fallback}-upstream"


@both
def test_the_answer_names_the_model_that_served(shop: Shop, stream: bool) -> None:
    fallback = shop.model(shop.vendor())
    model = shop.model(shop.vendor(fault(500)), fallbacks=[fallback])
    customer = shop.customer()

    if stream:
        with customer.stream(model, stream_options={"include_usage": True}) as response:
            names = {chunk["model"] for chunk in read(response).chunks}
    else:
        names = {customer.chat(model).json()["model"]}

    assert names == {fallback}


def test_the_clients_own_list_comes_first(shop: Shop) -> None:
    """Then the fallbacks of the model it asked for, then those models' own. No vendor is told of any list."""
    last = shop.vendor(answers(OTHER))
    theirs = shop.model()
    fallback = shop.model(fallbacks=[theirs])
    listed = shop.model()
    asked = shop.model(fallbacks=[fallback])
    vendors = {asked: None, listed: None, fallback: None, theirs: last}
    channels = {name: shop.channel(vendor or shop.vendor(fault(503)), name)["id"] for name, vendor in vendors.items()}
    customer = shop.customer()

    answer = customer.chat(asked, models=[asked, listed, listed])

    assert answer.status_code == 200
    assert "models" not in last.requests[0].json
    receipt = shop.assert_paid_once(customer, answer.headers["x-request-id"])
    assert [channel_id for channel_id, _ in served_by(receipt)] == list(channels.values())


@both
def test_models_that_fall_back_on_each_other_are_tried_once(shop: Shop, stream: bool) -> None:
    """The 503 says when the first of all may be asked again, and costs nothing."""
    vendors = [shop.vendor(fault(429, retry_after="40")), shop.vendor(fault(429, retry_after="20"))]
    one = shop.model(vendors[0])
    other = shop.model(vendors[1], fallbacks=[one])
    shop.operator.put_model(one, prices=CHEAP, fallbacks=[other, one])
    customer = shop.customer()

    answer = customer.chat(one, stream=stream)

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_available_channel")
    assert 10 <= int(answer.headers["retry-after"]) <= 20
    assert [len(vendor.requests) for vendor in vendors] == [1, 1]
    shop.assert_nothing_charged(customer)
    receipt = shop.operator.wait_receipt(answer.headers["x-request-id"])
    assert (receipt["model"], receipt["requested_model"], len(receipt["attempts"])) == (one, one, 2)


def test_a_channel_that_failed_is_not_asked_for_another_model(shop: Shop) -> None:
    """Its trouble is likely to be the same."""
    down, good = shop.vendor(fault(500)), shop.vendor(answers(OTHER))
    fallback = shop.model()
    model = shop.model(fallbacks=[fallback])
    both_models = {model: "up-one", fallback: "up-other"}
    shop.channel(down, model, models=both_models, costs={}, priority=9)
    spare = shop.channel(good, fallback, priority=1)
    customer = shop.customer()

    answer = customer.chat(model)

    assert answer.status_code == 200
    assert len(down.requests) == 1
    receipt = shop.assert_paid_once(customer, answer.headers["x-request-id"])
    assert receipt["channel_id"] == spare["id"]


def test_a_list_that_the_key_may_not_ask_for_is_refused_at_once(shop: Shop) -> None:
    """With the place of the name; before anybody is asked."""
    vendor = shop.vendor()
    model, other = shop.model(vendor), shop.model(shop.vendor())
    customer = shop.customer(models=[model])
    for listed, status, param in (
        ([model, "no-such-model"], 404, "models[1]"),
        ([other], 403, None),
        (["x"] * 21, 400, "models"),
        ([model, ""], 400, "models[1]"),
        ("gpt", 400, "models"),
    ):
        answer = customer.chat(model, models=listed)
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text
        if status in (403, 404):
            assert listed[-1] in answer.json()["error"]["message"]
    assert not vendor.requests
    shop.assert_nothing_charged(customer)


def test_fallbacks_that_the_caller_cannot_have_are_passed_over(shop: Shop) -> None:
    """Unknown, not on sale, not allowed to the key: the operator's list is for all customers."""
    forbidden, allowed = shop.model(shop.vendor()), shop.model(shop.vendor(answers(OTHER)))
    unsold = "unsold-" + allowed
    shop.operator.put_model(unsold)
    model = shop.model(shop.vendor(fault(500)), fallbacks=["gone-" + allowed, unsold, forbidden, allowed])
    customer = shop.customer(models=[model, allowed])

    answer = customer.chat(model)

    assert answer.json()["model"] == allowed


@both
def test_a_fallback_that_the_wallet_cannot_pay_for_is_passed_over(shop: Shop, stream: bool) -> None:
    """The hold must cover the dearer model before it is asked; a cheaper one after it may still serve."""
    dear = shop.vendor()
    cheap = shop.model(shop.vendor(answers(OTHER)), prices=CHEAP)
    model = shop.model(shop.vendor(fault(500)), prices=CHEAP, fallbacks=[shop.model(dear, prices=DEAR), cheap])
    customer = shop.customer("0.20")  # the dear one's worst case is 0.10 for the answer alone

    if stream:
        with customer.stream(model, max_tokens=200) as response:
            assert read(response).text == OTHER.text
        request_id = response.headers["x-request-id"]
    else:
        request_id = customer.chat(model, max_tokens=200).headers["x-request-id"]

    assert not dear.requests
    assert shop.assert_paid_once(customer, request_id, CHEAP)["model"] == cheap


@both
def test_the_hold_covers_the_dearer_fallback(shop: Shop, stream: bool) -> None:
    """To the nano, while it runs; and is given back."""
    gate = Gate()
    vendor = shop.vendor(answers(OTHER, after=0, then=gate))
    model = shop.model(shop.vendor(fault(500)), prices=CHEAP, fallbacks=[shop.model(vendor, prices=DEAR)])
    customer = shop.customer("5.00")
    body = json.dumps({"model": model, "messages": MESSAGES, "max_tokens": 200, "stream": stream}).encode()
    headers = {"content-type": "application/json"}

    with ThreadPoolExecutor() as pool:
        answer = pool.submit(customer.http.post, "/v1/chat/completions", content=body, headers=headers)
        try:
            until(lambda: vendor.requests, "the dear model's vendor is asked")
            held = shop.operator.held(customer.account_id)
        finally:
            gate.open()
        request_id = answer.result().headers["x-request-id"]

    assert held == Decimal(len(body) + 200) / 1000
    shop.assert_paid_once(customer, request_id, DEAR)


@both
def test_a_prompt_that_is_too_long_goes_to_a_longer_window(shop: Shop, stream: bool) -> None:
    """Not to other channels of the same model, nor to its fallbacks, nor to a window that is no longer."""
    spare, short = shop.vendor(), shop.vendor()
    long = shop.model(shop.vendor(answers(OTHER)))
    shop.operator.put_model(long, prices=DEAR, context_length=1_000_000)
    routing = {"context_fallbacks": [shop.model(short), long]}
    model = shop.model(shop.vendor(TOO_LONG), spare, routing=routing, fallbacks=[shop.model(spare)])
    customer = shop.customer()

    request_id, text = ask(customer, model, stream)

    assert text == OTHER.text
    assert not spare.requests
    assert not short.requests
    receipt = shop.assert_paid_once(customer, request_id, DEAR)
    assert (receipt["model"], receipt["requested_model"]) == (long, model)
    assert [error for _, error in served_by(receipt)] == ["prompt too long", None]


@both
def test_a_prompt_that_is_too_long_for_all_is_the_customers_to_shorten(shop: Shop, stream: bool) -> None:
    """What the requested model's vendor said goes back, also where the longer one is down."""
    down = shop.model()
    shop.operator.put_model(down, prices=DEAR, context_length=1_000_000)
    shop.channel(shop.vendor(fault(500)), down)
    for routing in ({}, {"context_fallbacks": [down]}):
        model = shop.model(shop.vendor(TOO_LONG), routing=routing)
        customer = shop.customer()

        answer = customer.chat(model, stream=stream)

        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
        shop.assert_nothing_charged(customer)


def test_a_refusal_is_not_taken_to_another_model(shop: Shop) -> None:
    """The request is at fault, and its sender is told."""
    spare = shop.vendor()
    refusing = shop.vendor(says(422, {"error": {"message": "no such voice"}}))
    model = shop.model(refusing, fallbacks=[shop.model(spare)])

    answer = shop.customer().chat(model)

    assert (answer.status_code, answer.json()["error"]["message"]) == (422, "no such voice")
    assert not spare.requests


def test_a_fallback_that_refuses_is_passed_over(shop: Shop) -> None:
    """It is another model: what it can't do says nothing about the request."""
    refusing = shop.model(shop.vendor(says(400, {"error": {"message": "no pictures here"}})))
    good = shop.model(shop.vendor(answers(OTHER)))
    customer = shop.customer()

    answer = customer.chat(shop.model(shop.vendor(fault(500)), fallbacks=[refusing, good]))
    assert answer.json()["model"] == good

    answer = customer.chat(shop.model(shop.vendor(fault(500)), fallbacks=[refusing]))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_available_channel")


@both
def test_a_stream_that_broke_is_never_taken_up_by_another_model(shop: Shop, stream: bool) -> None:
    """Only before the first content; a plain answer that breaks has none yet."""
    spare = shop.vendor(answers(OTHER))
    breaking = answers(after=4 if stream else 1, then="close")
    model = shop.model(shop.vendor(breaking), fallbacks=[shop.model(spare)], timeouts=IMPATIENT)
    customer = shop.customer()

    if stream:
        with customer.stream(model) as response:
            told = read(response)
        assert (told.done, len(told.errors), len(spare.requests)) == (False, 1, 0)
    else:
        assert customer.chat(model).json()["choices"][0]["message"]["content"] == OTHER.text
