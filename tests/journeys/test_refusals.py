"""Keys, models, limits and credit: what Tollgate refuses by itself, without charge and without a vendor."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import httpx2
import openai
import pytest

from tests.shop import MESSAGES, Shop
from tests.waiting import until


@pytest.mark.parametrize("key", ["", "sk-", "sk-xxxx", "Bearer", "sk-" + "a" * 64, "ключ"])
def test_a_bad_key_is_refused(shop: Shop, key: str) -> None:
    """Junk, in any shape, is a 401 in the dialect, on every route."""
    headers = {"Authorization": f"Bearer {key}".strip().encode()}
    with httpx.Client(base_url=shop.gateway.url, headers=headers) as http:
        answers = [
            http.post("/v1/chat/completions", json={"model": "any", "messages": MESSAGES}),
            http.get("/v1/models"),
            http.get("/v1/models/any"),
        ]

    for answer in answers:
        assert answer.status_code == 401, answer.text
        assert answer.json()["error"]["code"] == "invalid_api_key"


def test_a_missing_key_is_refused(shop: Shop) -> None:
    """No Authorization header, or one of another scheme, is no key."""
    for headers in ({}, {"Authorization": "Basic c2stOg=="}):
        answer = httpx.post(f"{shop.gateway.url}/v1/chat/completions", json={}, headers=headers)
        assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")


def test_the_client_sees_a_bad_key_as_an_authentication_error(shop: Shop) -> None:
    """A key with one character changed is not the key."""
    vendor = shop.vendor()
    model = shop.model(vendor)
    customer = shop.customer()
    customer.key = customer.key[:-1] + ("a" if customer.key[-1] != "a" else "b")

    with pytest.raises(openai.AuthenticationError) as refused:
        customer.openai().chat.completions.create(model=model, messages=MESSAGES)

    assert (refused.value.code, refused.value.type) == ("invalid_api_key", "authentication_error")
    assert not vendor.requests
    shop.assert_nothing_charged(customer)


def test_a_key_that_is_disabled_stops_working_and_works_again_when_enabled(shop: Shop) -> None:
    """The operator's switch reaches every worker within a second, both ways."""
    model = shop.model(shop.vendor())
    customer = shop.customer()
    assert customer.chat(model).status_code == 200

    for enabled, status in ((False, 401), (True, 200)):
        shop.operator.patch(f"/keys/{customer.key_id}", {"enabled": enabled})

        def on_every_worker(status: int = status) -> bool:
            url, headers = f"{customer.url}/v1/models", {"Authorization": f"Bearer {customer.key}"}
            return {httpx.get(url, headers=headers).status_code for _ in range(8)} == {status}

        until(on_every_worker, f"every worker answers {status}", seconds=2)


def test_a_key_stops_working_when_it_expires(shop: Shop) -> None:
    """A key past its `expires_at` is as good as none."""
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    customer = shop.customer(expires_at=soon.isoformat())
    assert customer.http.get("/v1/models").status_code == 200

    until(lambda: customer.http.get("/v1/models").status_code == 401, "the key has expired")

    with pytest.raises(openai.AuthenticationError):
        customer.openai().models.list()


def test_an_unknown_model_is_not_found(shop: Shop) -> None:
    """A model nobody sells is a 404 of the dialect."""
    customer = shop.customer()

    with pytest.raises(openai.NotFoundError) as refused:
        customer.openai().chat.completions.create(model="no-such-model", messages=MESSAGES)

    assert (refused.value.code, refused.value.type) == ("model_not_found", "invalid_request_error")
    shop.assert_nothing_charged(customer)


def test_a_key_may_use_only_its_models(shop: Shop) -> None:
    """A key with a list of models is refused any other, and the vendor hears nothing of it."""
    vendor = shop.vendor()
    mine, other = shop.model(vendor), shop.model(vendor)
    customer = shop.customer(models=[mine])

    with pytest.raises(openai.PermissionDeniedError) as refused:
        customer.openai().chat.completions.create(model=other, messages=MESSAGES)

    assert (refused.value.code, refused.value.type) == ("model_not_allowed", "permission_error")
    assert not vendor.requests
    assert customer.chat(mine).status_code == 200


def test_a_key_may_be_bound_to_addresses(shop: Shop) -> None:
    """Outside the key's networks the answer is 403; inside them it works."""
    model = shop.model(shop.vendor())
    outside, inside = (
        shop.customer(allowed_cidrs=["10.9.8.0/24"]),
        shop.customer(allowed_cidrs=["127.0.0.0/8"]),
    )

    refused = outside.chat(model)

    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "address_not_allowed")
    assert refused.json()["error"]["type"] == "permission_error"
    assert inside.chat(model).status_code == 200


def test_a_rate_limit_is_waited_out_by_the_clients_own_retry(shop: Shop) -> None:
    """The refusal says exactly how long to wait: the client's first retry after that is served."""
    vendor = shop.vendor()
    model = shop.model(vendor)
    customer = shop.customer(limits={"rpm": 30})
    served = 0
    while (refused := customer.chat(model)).status_code == 200:
        served += 1
        assert served <= 35, "the limit never came"
        assert refused.headers["x-ratelimit-limit-requests"] == "30"
    statuses: list[int] = []
    http = httpx2.Client(event_hooks={"response": [lambda answer: statuses.append(answer.status_code)]})

    completion = customer.openai(max_retries=2, http_client=http).chat.completions.create(
        model=model, messages=MESSAGES
    )

    assert completion.choices[0].finish_reason == "stop"
    assert statuses == [429, 200]
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    wait_ms = int(refused.headers["retry-after-ms"])
    assert 0 < wait_ms <= 2000
    assert int(refused.headers["retry-after"]) == -(-wait_ms // 1000)
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert len(vendor.requests) == served + 1
    receipts = shop.operator.wait_receipts(served + 1, account_id=customer.account_id, status="ok")
    spent = sum(Decimal(receipt["amount"]) for receipt in receipts)
    assert shop.operator.balance(customer.account_id) == customer.credit - spent


def test_the_rate_limit_is_one_for_all_workers(shop: Shop) -> None:
    """Many connections, spread over the workers, get no more than one does."""
    model = shop.model(shop.vendor())
    customer = shop.customer(limits={"rpm": 6})
    headers = {"Authorization": f"Bearer {customer.key}"}
    body = {"model": model, "messages": MESSAGES}

    statuses = [
        httpx.post(f"{customer.url}/v1/chat/completions", json=body, headers=headers).status_code for _ in range(24)
    ]

    assert set(statuses) == {200, 429}
    assert 1 <= statuses.count(200) <= 7, "6 at once, and one more only if ten seconds have passed"


def test_no_credit_is_a_refusal_the_client_does_not_retry(shop: Shop) -> None:
    """Waiting does not bring money: one try, `insufficient_quota`, and the vendor hears nothing."""
    vendor = shop.vendor()
    model = shop.model(vendor)
    customer = shop.customer(credit="0")
    statuses: list[int] = []
    http = httpx2.Client(event_hooks={"response": [lambda answer: statuses.append(answer.status_code)]})

    with pytest.raises(openai.RateLimitError) as refused:
        customer.openai(max_retries=2, http_client=http).chat.completions.create(model=model, messages=MESSAGES)

    assert statuses == [429]
    assert (refused.value.type, refused.value.code) == ("insufficient_quota", "insufficient_quota")
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert not vendor.requests
    shop.assert_nothing_charged(customer)


def test_credit_that_comes_later_is_usable_at_once(shop: Shop) -> None:
    """A top-up needs no waiting and no new key."""
    model = shop.model(shop.vendor())
    customer = shop.customer(credit="0")
    assert customer.chat(model).status_code == 429

    shop.operator.credit(customer.account_id, "1.00", "top-up-" + customer.account_id)

    assert customer.chat(model).status_code == 200
