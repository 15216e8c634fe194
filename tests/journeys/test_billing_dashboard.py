"""The old billing API, as chat clients read it: `hard_limit_usd - total_usage / 100` is the balance, to the nano."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.shop import Customer, Shop


def _ask(customer: Customer, path: str, **params: str) -> Any:
    answer = customer.http.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text, parse_float=Decimal)


def _shown_balance(customer: Customer, prefix: str, **params: str) -> Decimal:
    subscription = _ask(customer, f"{prefix}/dashboard/billing/subscription")
    usage = _ask(customer, f"{prefix}/dashboard/billing/usage", **params)
    return Decimal(subscription["hard_limit_usd"]) - Decimal(usage["total_usage"]) / 100


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_what_clients_work_out_is_the_live_balance(shop: Shop, prefix: str) -> None:
    """Right behind an answer, before it is in the books; after they have it; and whatever dates are asked for."""
    customer = shop.customer(credit="10.00")
    model = shop.model(shop.vendor())
    for _ in range(3):
        customer.chat(model)
        assert _shown_balance(customer, prefix) == shop.operator.balance(customer.account_id) < 10
    receipts = shop.operator.wait_receipts(3, account_id=customer.account_id)
    shop.operator.credit(customer.account_id, "0.000000007", "more")
    shop.operator.post(f"/receipts/{receipts[0]['request_id']}/refund", {})
    dates = {"start_date": "2020-01-01", "end_date": "2020-02-01"}
    assert _shown_balance(customer, prefix, **dates) == shop.operator.balance(customer.account_id)


def test_the_subscription_has_the_shape_that_clients_know(shop: Shop) -> None:
    """A key that never expires says so with the last day there is: clients take 0 for a day in 1970."""
    customer = shop.customer(credit="12.50")
    subscription = _ask(customer, "/dashboard/billing/subscription")
    limits = {name: subscription.pop(name) for name in ("soft_limit_usd", "hard_limit_usd", "system_hard_limit_usd")}
    assert set(limits.values()) == {Decimal("12.5")}
    assert subscription == {
        "object": "billing_subscription",
        "has_payment_method": True,
        "access_until": 253402214400,
    }
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    expiring = shop.customer(expires_at=until.isoformat())
    assert _ask(expiring, "/dashboard/billing/subscription")["access_until"] == int(until.timestamp())


def test_daily_costs_keep_to_their_dates(shop: Shop) -> None:
    """In cents, by model; the last date is not included, as OpenAI had it."""
    customer = shop.customer()
    model = shop.model(shop.vendor())
    receipt = shop.operator.wait_receipt(customer.chat(model).headers["x-request-id"])
    day = datetime.fromisoformat(receipt["created_at"]).date()
    midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())

    def costs(first: object, end: object) -> Any:
        return _ask(customer, "/dashboard/billing/usage", start_date=str(first), end_date=str(end))["daily_costs"]

    item = {"name": model, "cost": Decimal(receipt["amount"]) * 100}
    shown = [{"timestamp": midnight, "line_items": [item]}]
    assert costs(day, day + timedelta(days=1)) == shown
    assert costs(day - timedelta(days=99), day + timedelta(days=1)) == shown
    assert costs(day - timedelta(days=1), day) == []
    assert _ask(customer, "/dashboard/billing/usage")["object"] == "list"


def test_only_a_good_key_is_told(shop: Shop) -> None:
    for path in ("subscription", "usage"):
        answer = httpx.get(f"{shop.gateway.url}/dashboard/billing/{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"start_date": "soon"}, "start_date"),
        ({"end_date": "0001-01-01"}, "end_date"),
        ({"start_date": "2026-02-01", "end_date": "2026-02-01"}, "end_date"),
    ],
)
def test_dates_that_are_none_are_refused(shop: Shop, query: dict[str, str], param: str) -> None:
    answer = shop.customer().http.get("/dashboard/billing/usage", params=query)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
