"""A second channel beside a slow first: one answer, charged once, and a deadline for all of it."""

import threading

import httpx
import pytest

from tests.answers import Answer, Shape
from tests.behaviours import Gate, answers, hangs
from tests.operator_api import Json
from tests.proxy.test_relay import Mute
from tests.shop import MESSAGES, PATIENT, Shop
from tests.sse import read
from tests.upstreams import Behaviour, Exchange
from tests.waiting import until

SAID = Answer(prompt_tokens=9, pieces=("the", " quick", " one"))
HEDGED = {"hedge_ms": 50}

both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def errors(receipt: Json) -> list[str | None]:
    return [attempt["error"] for attempt in receipt["attempts"]]


def ask(shop: Shop, model: str, stream: bool) -> tuple[str, Json]:
    """The text of the answer, which must be complete; and the receipt."""
    customer = shop.customer()
    if stream:
        with customer.stream(model) as response:
            told = read(response)
        assert (told.done, told.errors) == (True, [])
        text = told.text
    else:
        response = customer.chat(model)
        text = response.json()["choices"][0]["message"]["content"]
    return text, shop.assert_paid_once(customer, response.headers["x-request-id"])


@both
def test_the_second_overtakes_the_first(shop: Shop, stream: bool) -> None:
    """The customer gets the one answer, pays for it alone, and the first is hung up on."""
    mute = Mute()
    model = shop.model(shop.vendor(mute), shop.vendor(answers(SAID)), routing=HEDGED)

    text, receipt = ask(shop, model, stream)

    assert text == SAID.text
    assert errors(receipt) == ["hedged", None]
    assert receipt["usage"]["output_tokens"] == 3
    if stream:
        assert mute.closed.wait(10)


@both
def test_what_the_loser_took_is_the_resellers_cost(shop: Shop, stream: bool) -> None:
    """A stream that says its usage before any content: never the customer's, and on its own channel's account."""
    slow = answers(SAID, Shape(usage="every"), after=1, then="hang")
    model = shop.model(shop.vendor(slow), shop.vendor(answers(SAID)), routing=HEDGED)

    text, receipt = ask(shop, model, stream)

    assert text == SAID.text
    lost, won = receipt["attempts"]
    assert (lost["error"], won["error"]) == ("hedged", None)
    if stream:
        assert lost["usage"]["input_tokens"] == 9
        assert float(lost["cost"]) > 0
        assert float(receipt["upstream_cost"]) == pytest.approx(float(lost["cost"]) + float(won["cost"]))


def test_never_two_answers_in_one(shop: Shop) -> None:
    """The first begins to speak while the second is already heard: not a word of it reaches the customer."""
    gate = Gate()

    def opening(behaviour: Behaviour) -> Behaviour:
        async def behave(exchange: Exchange) -> None:
            gate.open()
            await behaviour(exchange)

        return behave

    late = answers(Answer(pieces=("WRONG",) * 20), after=1, then=gate)
    long = Answer(pieces=("right ",) * 50)
    model = shop.model(shop.vendor(late), shop.vendor(opening(answers(long))), routing=HEDGED)
    for _ in range(5):
        text, receipt = ask(shop, model, stream=True)
        assert text in (long.text, "WRONG" * 20)
        assert len(receipt["attempts"]) <= 2


@both
def test_the_deadline_bounds_the_search(shop: Shop, stream: bool) -> None:
    """Over all channels, and the models in its place, whose own deadlines do not begin anew."""
    spare = shop.vendor()
    routing = {"deadline_ms": 300}
    model = shop.model(shop.vendor(hangs()), spare, routing=routing, fallbacks=[shop.model(spare)], timeouts=PATIENT)
    customer = shop.customer()

    answer = customer.chat(model, stream=stream)

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_available_channel")
    assert int(answer.headers["retry-after"]) >= 1
    assert not spare.requests
    receipt = shop.assert_paid_once(customer, answer.headers["x-request-id"])
    assert errors(receipt) == ["deadline"]
    assert receipt["duration_ms"] < PATIENT["first_token_ms"]


def test_a_deadline_does_not_cut_an_answer_that_has_begun(shop: Shop) -> None:
    """It is for the first content alone."""
    gate = Gate()
    vendor = shop.vendor(answers(SAID, after=3, then=gate))
    model = shop.model(vendor, routing={"deadline_ms": 400})
    timer = threading.Timer(0.8, gate.open)
    timer.start()

    text, receipt = ask(shop, model, stream=True)

    timer.join()
    assert text == SAID.text
    assert errors(receipt) == [None]


def test_a_customer_who_leaves_while_two_are_asked(shop: Shop) -> None:
    """The loser is hung up on, the winner is read for its usage, and the hold ends."""
    mute, gate = Mute(), Gate()
    second = shop.vendor(answers(SAID, after=0, then=gate))
    model = shop.model(shop.vendor(mute), second, routing=HEDGED)
    customer = shop.customer()

    with pytest.raises(httpx.ReadTimeout), customer.http as http:
        body = {"model": model, "messages": MESSAGES, "stream": True}
        http.post("/v1/chat/completions", json=body, timeout=0.5)
    until(lambda: second.requests, "the second is asked")
    gate.open()

    (receipt,) = shop.operator.wait_receipts(1, account_id=customer.account_id)
    assert receipt["ending"] in ("client_gone", "finished")  # so short an answer may be over before they are missed
    assert errors(receipt)[0] == "hedged"
    assert receipt["usage"]["output_tokens"] == 3
    assert mute.closed.wait(10)
    assert shop.operator.held(customer.account_id) == 0
