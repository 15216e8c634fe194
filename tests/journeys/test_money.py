"""Money under pressure: nothing is spent twice, nothing is lost to rounding, and nobody goes below zero."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import httpx
import pytest

from tests.answers import Answer
from tests.behaviours import Gate, answers, says
from tests.operator_api import usd
from tests.shop import MESSAGES, Customer, Shop
from tests.waiting import until

ROUND = {"input": "1.00", "output": "10.00"}  # 1,000 and 10,000 nano a token
TOKENS = 1000
REQUESTS = 200
AFFORDABLE = 20
SAID = Answer(pieces=("yes",), prompt_tokens=10, completion_tokens=TOKENS)
CHARGE_NANO = 10 * 1_000 + TOKENS * 10_000


def body_of(model: str) -> dict[str, object]:
    return {"model": model, "messages": MESSAGES, "max_tokens": TOKENS}


def hold_nano(model: str) -> int:
    request = httpx.Request("POST", "http://localhost", json=body_of(model))
    return len(request.content) * 1_000 + TOKENS * 10_000


def decimal_text(nano: int) -> str:
    return f"{usd(nano):f}"


async def rush(customer: Customer, model: str, done: list[httpx.Response]) -> None:
    """All requests at once; answers are noted in `done` as they come."""
    limits = httpx.Limits(max_connections=REQUESTS)
    headers = {"Authorization": f"Bearer {customer.key}"}
    async with httpx.AsyncClient(base_url=customer.url, headers=headers, limits=limits, timeout=60) as http:

        async def one() -> None:
            done.append(await http.post("/v1/chat/completions", json=body_of(model)))

        await asyncio.gather(*(one() for _ in range(REQUESTS)))


def assert_settled(shop: Shop, customer: Customer, done: list[httpx.Response], served: int) -> None:
    """Served requests were paid, each once; the rest were refused for want of credit and left no trace."""
    good = [answer for answer in done if answer.status_code == 200]
    refused = [answer for answer in done if answer.status_code != 200]
    assert len(good) == served
    assert {answer.json()["error"]["code"] for answer in refused} == {"insufficient_quota"}
    assert {answer.status_code for answer in refused} == {429}
    account = shop.operator.account(customer.account_id)
    assert Decimal(account["balance"]) == customer.credit - served * usd(CHARGE_NANO) >= 0
    assert Decimal(account["held"]) == 0
    receipts = shop.operator.wait_receipts(served, account_id=customer.account_id, status="ok")
    assert {receipt["request_id"] for receipt in receipts} == {a.headers["x-request-id"] for a in good}


async def test_two_hundred_at_once_on_a_wallet_for_twenty(shop: Shop) -> None:
    """While none has ended, exactly as many are let in as the wallet covers at their worst case."""
    gate = Gate()
    vendor = shop.vendor(answers(SAID, then=gate))
    model = shop.model(vendor, prices=ROUND)
    customer = shop.customer(credit=decimal_text(AFFORDABLE * hold_nano(model)))
    done: list[httpx.Response] = []

    rushing = asyncio.create_task(rush(customer, model, done))
    await asyncio.to_thread(until, lambda: len(done) == REQUESTS - AFFORDABLE, "all but twenty are refused", 30)
    account = shop.operator.account(customer.account_id)
    gate.open()
    await rushing

    assert Decimal(account["held"]) == AFFORDABLE * usd(hold_nano(model)) == customer.credit
    assert len(vendor.served) == AFFORDABLE
    assert_settled(shop, customer, done, AFFORDABLE)


async def test_two_hundred_racing_each_others_settlement(shop: Shop) -> None:
    """Holds that end free credit for others, yet no more are served than the wallet pays for."""
    vendor = shop.vendor(answers(SAID))
    model = shop.model(vendor, prices=ROUND)
    customer = shop.customer(credit=decimal_text(AFFORDABLE * CHARGE_NANO))
    done: list[httpx.Response] = []

    rushing = asyncio.create_task(rush(customer, model, done))
    while not rushing.done():
        account = await asyncio.to_thread(shop.operator.account, customer.account_id)
        assert Decimal(account["balance"]) - Decimal(account["held"]) >= 0
    await rushing

    assert 1 <= len(vendor.served) <= AFFORDABLE
    assert_settled(shop, customer, done, len(vendor.served))


@pytest.mark.parametrize(("prompt", "completion", "nano"), [(1, 0, 1), (1, 1, 1), (2, 1, 2), (3, 0, 2), (3, 2, 3)])
def test_a_charge_is_rounded_once_and_half_up(shop: Shop, prompt: int, completion: int, nano: int) -> None:
    """At half a nano a token: halves go up, and input and output are added before they are rounded."""
    said = Answer(pieces=("x",), prompt_tokens=prompt, completion_tokens=completion)
    prices = {"input": "0.0005", "output": "0.0005"}
    model = shop.model(shop.vendor(answers(said)), prices=prices)
    customer = shop.customer()

    answer = customer.chat(model)

    receipt = shop.assert_paid_once(customer, answer.headers["x-request-id"], prices)
    assert Decimal(receipt["amount"]) == usd(nano)
    assert answer.headers["x-tollgate-cost"] == receipt["amount"]


def test_a_price_per_request_is_charged_once_and_only_when_served(shop: Shop) -> None:
    """`request` is USD for each request that was served; a failure costs nothing."""
    prices = {"input": "0", "output": "0", "request": "0.02"}
    vendor = shop.vendor().then(says(500, {"error": {"message": "no"}}))
    model = shop.model(vendor, prices=prices)
    customer = shop.customer(credit="1.00")

    assert customer.chat(model).status_code == 503
    shop.assert_nothing_charged(customer)
    assert customer.chat(model).status_code == 200

    assert shop.operator.balance(customer.account_id) == Decimal("0.98")


def test_a_price_that_changes_applies_to_later_requests_only(shop: Shop) -> None:
    """Each receipt names the price version that applied, and stays as it was."""
    vendor = shop.vendor()
    model = shop.model(vendor, prices=ROUND)
    customer = shop.customer()
    before = shop.operator.wait_receipt(customer.chat(model).headers["x-request-id"])

    doubled = {"input": "2.00", "output": "20.00"}
    shop.operator.put_model(model, prices=doubled)

    def charged_anew() -> dict[str, str] | None:
        receipt = shop.operator.wait_receipt(customer.chat(model).headers["x-request-id"])
        return receipt if receipt["price_version"] != before["price_version"] else None

    after = until(charged_anew, "the new price applies")
    assert Decimal(after["amount"]) == 2 * Decimal(before["amount"])
    assert shop.operator.wait_receipt(before["request_id"]) == before


def test_usage_beyond_the_hold_is_charged_up_to_its_bounds(shop: Shop) -> None:
    """A vendor may count more than the request could cost: the customer pays for the bounds that were held."""
    said = Answer(pieces=("x",), prompt_tokens=500_000, completion_tokens=100_000)
    model = shop.model(shop.vendor(answers(said)))
    customer = shop.customer()

    answer = customer.chat(model, max_tokens=1)

    receipt = shop.assert_paid_once(customer, answer.headers["x-request-id"])
    bounds = {"input_tokens": len(answer.request.content), "output_tokens": 1}
    assert {name: receipt["usage"][name] for name in bounds} == bounds
    assert receipt["vendor_excess"] is True


def test_usage_beyond_the_wallet_takes_no_more_than_was_held(shop: Shop) -> None:
    """The vendor's surprise is the operator's loss: the wallet pays for the next request too."""
    said = Answer(pieces=("x",), prompt_tokens=500_000, completion_tokens=100_000)
    model = shop.model(shop.vendor(answers(said)))
    customer = shop.customer(credit="0.01")

    answer = customer.chat(model, max_tokens=1)

    assert answer.status_code == 200
    receipt = shop.assert_paid_once(customer, answer.headers["x-request-id"])
    assert Decimal(receipt["unpaid"]) == 0
    assert shop.operator.balance(customer.account_id) > 0
    assert customer.chat(model, max_tokens=1).status_code == 200


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("declared", "fields", "tokens", "sent"),
    [
        pytest.param({}, {}, 4096, 4096, id="4096 are held and sent"),
        pytest.param({"max_output_tokens": 16_384}, {}, 16_384, None, id="what the model can give is held"),
        pytest.param({"max_output_tokens": 16_384}, {"n": 2}, 32_768, None, id="for each answer"),
    ],
)
def test_without_a_limit_no_answer_is_longer_than_what_is_held(
    shop: Shop, stream: bool, declared: dict[str, int], fields: dict[str, int], tokens: int, sent: int | None
) -> None:
    """A customer who sets no limit is held for the longest answer that the model gives, plain or streamed. Where nobody
    has said how long that is, the vendor is told the 4096 tokens that are held."""
    gate = Gate()
    vendor = shop.vendor(answers(SAID, after=4 if stream else None, then=gate))
    model = shop.model(vendor, prices=ROUND, **declared)
    customer = shop.customer()
    body = {"model": model, "messages": MESSAGES, "stream": stream, **fields}
    request = customer.http.build_request("POST", "/v1/chat/completions", json=body)

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(customer.http.send, request)
        until(lambda: vendor.requests, "the vendor was asked")
        held = shop.operator.held(customer.account_id)
        gate.open()
        assert answer.result().status_code == 200

    assert held == usd(len(request.read()) * 1_000 + tokens * 10_000)
    assert vendor.requests[0].json.get("max_completion_tokens") == sent
    assert "max_tokens" not in vendor.requests[0].json


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [({}, 500), ({"max_tokens": 300}, 300), ({"max_completion_tokens": 20, "n": 3}, 60)],
)
def test_the_hold_follows_the_smallest_limit_and_n(shop: Shop, fields: dict[str, int], tokens: int) -> None:
    """The model's own limit bounds the default; `n` multiplies it."""
    gate = Gate()
    brief = Answer(pieces=("yes",), prompt_tokens=10, completion_tokens=20)
    model = shop.model(shop.vendor(answers(brief, after=4, then=gate)), prices=ROUND, max_output_tokens=500)
    customer = shop.customer()

    with customer.stream(model, **fields) as response:
        held = shop.operator.held(customer.account_id)
        size = len(response.request.read())
        gate.open()
        response.read()

    assert held == usd(size * 1_000 + tokens * 10_000)


def test_a_credit_that_floats_could_not_hold_is_kept_exactly(shop: Shop) -> None:
    """Balances are integers of nano-USD at every size a wallet may have."""
    customer = shop.customer(credit="9000000.123456789")

    answer = customer.chat(shop.model(shop.vendor()))

    shop.assert_paid_once(customer, answer.headers["x-request-id"])
