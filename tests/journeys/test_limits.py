"""Limits and budgets of keys, accounts, members and models, as the operator sets them and the customer meets them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
import httpx2
import openai
import pytest
import redis

from app.base.redis import embedded_url
from tests.alerts.receivers import Receiver, receiver
from tests.behaviours import Gate, answers
from tests.journeys.rough import OpenShop
from tests.operator_api import Json, Operator
from tests.servers import Fleet
from tests.shop import MESSAGES, Customer, Shop
from tests.upstreams import Street
from tests.waiting import until

# One of these costs a cent and nothing else.
A_CENT = {"input": "0", "output": "0", "request": "0.01"}


@pytest.fixture
def inbox(street: Street) -> Iterator[Receiver]:
    with receiver(street) as opened:
        yield opened


def refused(answer: httpx.Response, code: str) -> str:
    """The message of a refusal."""
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (429, code), answer.text
    return str(error["message"])


def key_of(operator: Operator, account_id: str, template: Customer, **options: Any) -> httpx.Client:
    issued = operator.new_key(account_id, **options)
    return httpx.Client(base_url=template.url, headers={"Authorization": f"Bearer {issued['key']}"}, timeout=20)


def chat(http: httpx.Client, model: str, **fields: Any) -> httpx.Response:
    return http.post("/v1/chat/completions", json={"model": model, "messages": MESSAGES, **fields})


def test_a_budget_is_not_exceeded_and_not_retried(shop: Shop) -> None:
    """To the cent; the refusal says which budget it was, and the official client takes it for final."""
    model = shop.model(shop.vendor(), prices=A_CENT)
    customer = shop.customer(budgets=[{"unit": "usd", "amount": "0.03", "window": "month"}])
    assert [customer.chat(model).status_code for _ in range(4)] == [200, 200, 200, 429]
    statuses: list[int] = []
    http = httpx2.Client(event_hooks={"response": [lambda answer: statuses.append(answer.status_code)]})

    with pytest.raises(openai.RateLimitError) as error:
        customer.openai(max_retries=2, http_client=http).chat.completions.create(model=model, messages=MESSAGES)

    assert statuses == [429]
    assert (error.value.code, error.value.type) == ("insufficient_quota", "insufficient_quota")
    assert error.value.response.headers["x-should-retry"] == "false"
    message = refused(customer.chat(model), "insufficient_quota")
    assert message.startswith("This key's budget of 0.03 USD a month does not cover this request at its worst case: ")
    assert "0 USD left. It renews in " in message
    assert shop.operator.balance(customer.account_id) == customer.credit - Decimal("0.03")


def test_near_the_end_of_a_budget_an_answer_gets_what_is_left(shop: Shop) -> None:
    """As at the end of a wallet: an answer without a limit is bounded by what the budget affords."""
    vendor = shop.vendor()
    model = shop.model(vendor)
    customer = shop.customer(budgets=[{"unit": "tokens", "amount": 400, "window": "day"}])

    assert customer.chat(model).status_code == 200
    bound = vendor.requests[-1].json["max_completion_tokens"]
    assert 0 < bound < 400
    assert "400 tokens a day" in refused(customer.chat(model, max_tokens=400), "insufficient_quota")


def test_every_kind_of_limit_says_whose_it_is(shop: Shop) -> None:
    """A key's, its account's, and its account's use of a model; each with the wait that lets the next one in."""
    operator = shop.operator
    gate = Gate()
    model, other = shop.model(shop.vendor()), shop.model(shop.vendor(answers(after=3, then=gate)))
    customer = shop.customer()
    path = f"/accounts/{customer.account_id}"

    def refusal(name: str = model) -> tuple[str, int]:
        answer = customer.chat(name)
        assert int(answer.headers["retry-after"]) == -(-int(answer.headers["retry-after-ms"]) // 1000)
        return refused(answer, "rate_limit_exceeded"), int(answer.headers["retry-after-ms"])

    operator.patch(path, {"limits": {"rpm": 1}})
    first = customer.chat(model)
    assert (first.headers["x-ratelimit-limit-requests"], first.headers["x-ratelimit-remaining-requests"]) == ("1", "0")
    message, wait_ms = refusal()
    assert message.startswith("Your account's limit of 1 requests a minute is reached. Try again in ")
    assert 30_000 < wait_ms <= 60_000
    operator.patch(path, {"limits": {}, "model_limits": {model: {"rpd": 1}}})
    message, wait_ms = refusal()
    assert message.startswith(f"Your account's limit of 1 requests a day for `{model}` is reached.")
    assert 0 < wait_ms <= 86_400_000
    operator.patch(path, {"model_limits": None})
    operator.put_model(model, prices=A_CENT, limits={"tpd": 1})
    assert "limit of 1 tokens a day for" in refusal()[0]
    operator.patch(f"/keys/{customer.key_id}", {"limits": {"concurrency": 1}})
    with customer.stream(other) as _:
        assert refusal(other)[0].startswith("This key's limit of 1 requests at the same time is reached.")
        gate.open()


def test_the_official_client_waits_where_that_helps(shop: Shop) -> None:
    """It comes again when a place is free, and not before tomorrow where a day is used up."""
    gate = Gate()
    vendor = shop.vendor(answers(after=3, then=gate))
    model = shop.model(vendor)
    customer = shop.customer(limits={"concurrency": 1, "rpd": 3})
    statuses: list[int] = []

    def note(answer: httpx2.Response) -> None:
        statuses.append(answer.status_code)
        gate.open()

    client = customer.openai(max_retries=2, http_client=httpx2.Client(event_hooks={"response": [note]}))
    with customer.stream(model) as running:
        ask = ThreadPoolExecutor(1).submit(client.chat.completions.create, model=model, messages=MESSAGES)
        until(lambda: statuses, "it was refused", seconds=10)
        running.read()
        assert ask.result(timeout=20).choices[0].finish_reason == "stop"
    assert (statuses[0], statuses[-1]) == (429, 200)
    assert customer.chat(model).status_code == 200
    statuses.clear()
    with pytest.raises(openai.RateLimitError) as error:
        client.chat.completions.create(model=model, messages=MESSAGES)
    assert statuses == [429]
    assert error.value.code == "rate_limit_exceeded"


def test_members_share_a_wallet_under_caps_of_their_own(shop: Shop) -> None:
    """A member's cap is its own, the reseller's is over all of them; each is told whose refused."""
    operator = shop.operator
    model = shop.model(shop.vendor(), prices=A_CENT)
    reseller = shop.customer()
    members = [
        operator.post("/accounts", {"name": "member", "parent_id": reseller.account_id, "wallet": "shared"})["id"]
        for _ in range(2)
    ]
    operator.patch(f"/accounts/{members[0]}", {"budgets": [{"unit": "requests", "amount": 2, "window": "day"}]})
    operator.patch(
        f"/accounts/{reseller.account_id}", {"budgets": [{"unit": "usd", "amount": "0.03", "window": "day"}]}
    )
    one, other = (key_of(operator, member, reseller) for member in members)

    assert [chat(one, model).status_code for _ in range(3)] == [200, 200, 429]
    assert "Your account's budget of 2 requests a day" in refused(chat(one, model), "insufficient_quota")
    assert chat(other, model).status_code == 200
    assert "The parent account's budget of 0.03 USD a day" in refused(chat(other, model), "insufficient_quota")
    assert operator.balance(reseller.account_id) == reseller.credit - Decimal("0.03")


def test_a_rule_that_is_set_later_knows_what_was_used(shop: Shop) -> None:
    """It is read from the books and from what they do not have yet; raised, it lets on at once."""
    model = shop.model(shop.vendor(), prices=A_CENT)
    customer = shop.customer()
    assert [customer.chat(model).status_code for _ in range(3)] == [200] * 3
    path = f"/keys/{customer.key_id}"

    shop.operator.patch(path, {"budgets": [{"unit": "usd", "amount": "0.04", "window": "day"}]})

    assert [customer.chat(model).status_code for _ in range(2)] == [200, 429]
    shop.operator.patch(path, {"budgets": [{"unit": "usd", "amount": "0.05", "window": "day"}]})
    assert [customer.chat(model).status_code for _ in range(2)] == [200, 429]
    shop.operator.patch(path, {"budgets": [], "limits": {"rpd": 6}})
    assert [customer.chat(model).status_code for _ in range(2)] == [200, 429]


def test_a_key_is_told_its_own_limits_and_what_is_left(shop: Shop) -> None:
    """`GET /v1/key`: while a request runs, its worst case is held; afterwards what it cost is used."""
    gate = Gate()
    model = shop.model(shop.vendor(answers(after=3, then=gate)), prices=A_CENT)
    customer = shop.customer(
        limits={"rpm": 60, "tpm": 100_000, "rpd": 10, "concurrency": 3},
        budgets=[
            {"unit": "usd", "amount": "1.00", "window": "month"},
            {"unit": "requests", "amount": 9, "window": "lifetime"},
        ],
        models=[model, "other-*"],
    )

    def shown() -> Json:
        answer = customer.http.get("/v1/key")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    before = shown()
    assert (before["id"], before["account_id"]) == (customer.key_id, customer.account_id)
    assert (before["models"], before["expires_at"]) == ([model, "other-*"], None)
    assert before["limits"]["rpd"]["remaining"] == 10
    with customer.stream(model):
        during = shown()
        assert during["limits"]["concurrency"] == {"limit": 3, "used": 1, "remaining": 2}
        assert during["limits"]["tpm"]["used"] > 0
        money, requests = during["budgets"]
        assert (money["amount"], money["used"], money["held"], money["remaining"]) == ("1.00", "0.00", "0.01", "0.99")
        assert (requests["window"], requests["held"], requests["renews_at"]) == ("lifetime", 1, None)
        gate.open()

    def is_settled() -> bool:
        return bool(shown()["budgets"][0]["used"] == "0.01")

    until(is_settled, "it is settled")
    after = shown()
    assert after["limits"]["concurrency"]["used"] == 0
    assert after["limits"]["rpd"] | {"reset_ms": 0} == {"limit": 10, "used": 1, "remaining": 9, "reset_ms": 0}
    assert after["budgets"][1]["used"] == 1


def test_operators_are_told_of_budgets_at_half_at_80_percent_and_at_the_end(shop: Shop, inbox: Receiver) -> None:
    """Once each, whichever worker saw it; the end is told when a request is refused."""
    model = shop.model(shop.vendor(), prices=A_CENT)
    customer = shop.customer()
    hook = shop.operator.post("/webhooks", {"url": inbox.url, "kinds": ["budget.*"], "account_id": customer.account_id})
    shop.operator.patch(
        f"/accounts/{customer.account_id}", {"budgets": [{"unit": "usd", "amount": "0.055", "window": "month"}]}
    )

    for _ in range(9):
        with httpx.Client(headers=customer.http.headers) as http:  # a connection each: all workers see some
            http.post(f"{customer.url}/v1/chat/completions", json={"model": model, "messages": MESSAGES})

    def told() -> list[int]:
        return sorted(request.json["data"]["percent"] for request in inbox.requests)

    until(lambda: len(inbox.requests) >= 3, "three alerts have come", seconds=15)
    assert told() == [50, 80, 100]
    data = inbox.requests[0].json["data"]
    assert (data["unit"], data["window"], data["amount"], data["of"]) == ("usd", "month", "0.055", "account")
    assert inbox.kinds == ["budget.reached"] * 3
    shop.operator.http.delete(f"/webhooks/{hook['id']}")


def test_budgets_outlive_redis(open_shop: OpenShop, fleet: Fleet, database: str) -> None:
    """A Redis that was emptied is told by the books what was used, before anyone is served."""
    shop = open_shop()
    model = shop.model(shop.vendor(), prices=A_CENT)
    budgets = [{"unit": "usd", "amount": "0.03", "window": "month"}]
    customer = shop.customer(limits={"rpd": 4}, budgets=budgets)
    assert [customer.chat(model).status_code for _ in range(2)] == [200, 200]
    shop.operator.wait_receipts(2, account_id=customer.account_id)

    if database == "postgres":
        fleet.redis_of(shop.gateway).restart()
    else:
        with redis.Redis.from_url(embedded_url(shop.gateway.data_dir)) as client:
            client.flushall()

    until(lambda: customer.http.get("/v1/key").status_code == 200, "Redis is back", seconds=15)
    assert [customer.chat(model).status_code for _ in range(2)] == [200, 429]
    assert "0.03 USD a month" in refused(customer.chat(model), "insufficient_quota")
