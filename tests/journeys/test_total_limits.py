"""What all customers together may use of a model."""

from typing import Any

import httpx
import pytest

from tests.behaviours import Gate, answers
from tests.shop import Shop
from tests.waiting import until


def refused(answer: httpx.Response, model: str) -> None:
    """By the model's own limit, and to come again."""
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (429, "rate_limit_exceeded"), answer.text
    assert error["message"].startswith(f"`{model}` is as busy as it may be, with the requests of all customers.")
    assert int(answer.headers["retry-after"]) >= 1
    assert int(answer.headers["retry-after-ms"]) >= 1


def test_customers_share_its_places(shop: Shop) -> None:
    """One that is taken is nobody else's, until its answer has ended; a refused request costs and uses nothing."""
    gate = Gate()
    model = shop.model(shop.vendor(answers(after=3, then=gate)), total_limits={"concurrency": 1})
    one, other = shop.customer(), shop.customer()
    with one.stream(model) as stream:
        assert stream.status_code == 200
        refused(other.chat(model), model)
        refused(one.chat(model), model)
        gate.open()
    until(lambda: other.chat(model).status_code == 200, "the place is free")
    (receipt,) = shop.operator.wait_receipts(1, account_id=other.account_id)
    assert receipt["status"] == "ok"


def test_requests_are_spread_over_the_minute(shop: Shop) -> None:
    """Of ten a minute one may come at once, whoever sends it."""
    model = shop.model(shop.vendor(), total_limits={"rpm": 10})
    assert shop.customer().chat(model).status_code == 200
    refused(shop.customer().chat(model), model)


def test_tokens_that_were_not_used_are_there_for_others(shop: Shop) -> None:
    """The worst case of each is more than there is at once, what it takes is not."""
    model = shop.model(shop.vendor(), total_limits={"tpm": 1_000_000})
    customer = shop.customer()
    for _ in range(3):
        until(lambda: customer.chat(model, max_tokens=60_000).status_code == 200, "what was not used is given back")


@pytest.mark.parametrize("limits", [{"rpd": 5}, {"rpm": -1}, {"concurrency": "many"}])
def test_bad_limits_are_refused_by_name(shop: Shop, limits: dict[str, Any]) -> None:
    name = next(iter(limits))
    answer = shop.operator.http.put("/models/some-model", json={"total_limits": limits})
    assert answer.status_code == 400, answer.text
    assert name in answer.text


def test_they_are_shown(shop: Shop) -> None:
    model = shop.model(shop.vendor(), total_limits={"rpm": 5})
    assert shop.operator.get(f"/models/{model}")["total_limits"] == {"rpm": 5, "tpm": None, "concurrency": None}
