"""What was earned, in one call: each cut of it adds up to the same whole."""

from decimal import Decimal
from typing import Any

import pytest

from tests.answers import Answer
from tests.behaviours import says
from tests.operator_api import Json, assert_problem, charge
from tests.shop import COSTS, Shop

_CUTS = {"by_model": "model", "by_channel": "channel_id", "by_account": "account_id", "by_book": "book"}
# A vendor that says nothing and charges for it: the next channel answers, and this one's cost stays.
_EMPTY = {"object": "chat.completion", "choices": [], "usage": Answer().usage()}


def _row(report: Json, cut: str, name: str) -> Json:
    (row,) = [row for row in report[cut] if row[_CUTS[cut]] == name]
    return row


def _sum(rows: list[Json], figure: str) -> Any:
    return sum((Decimal(row[figure]) for row in rows), Decimal(0))


def test_a_failed_attempt_costs_its_own_channel(shop: Shop) -> None:
    """The model bears both vendors' costs, the channel that failed its own without a request, the other the rest."""
    model = shop.model()
    failing = shop.channel(shop.vendor(says(200, _EMPTY)), model, priority=2)["id"]
    serving = shop.channel(shop.vendor(), model, priority=1)["id"]
    customer = shop.customer()
    receipt = shop.operator.wait_receipt(customer.chat(model).headers["x-request-id"])
    assert [attempt["channel_id"] for attempt in receipt["attempts"]] == [failing, serving]

    report = shop.operator.get("/reports/margins", day=receipt["created_at"][:10])

    amount, cost = Decimal(receipt["amount"]), charge(COSTS, receipt["usage"])
    for cut, name in (("by_model", model), ("by_account", customer.account_id)):
        row = _row(report, cut, name)
        assert (row["requests"], Decimal(row["charged"]), Decimal(row["upstream_cost"])) == (1, amount, 2 * cost)
        assert Decimal(row["margin"]) == amount - 2 * cost
    lost, served = _row(report, "by_channel", failing), _row(report, "by_channel", serving)
    assert (lost["requests"], lost["charged"], lost["margin_percent"]) == (0, "0.00", None)
    assert (Decimal(lost["upstream_cost"]), Decimal(lost["margin"])) == (cost, -cost)
    assert (served["requests"], Decimal(served["margin"])) == (1, amount - cost)
    percent = (amount - cost) * 100 / amount
    assert abs(Decimal(served["margin_percent"]) - percent) <= Decimal("0.005")


def test_every_cut_adds_up_to_the_total(shop: Shop) -> None:
    """Whatever else this gateway has served today."""
    model, unserved = shop.model(shop.vendor()), shop.model()
    customer = shop.customer()
    customer.chat(model)
    customer.chat(unserved)
    receipts = shop.operator.wait_receipts(2, account_id=customer.account_id)
    report = shop.operator.get("/reports/margins", day=receipts[0]["created_at"][:10])
    for cut in _CUTS:
        for figure in ("requests", "input_tokens", "output_tokens", "charged", "unpaid", "upstream_cost", "margin"):
            assert _sum(report[cut], figure) == Decimal(report["total"][figure]), (cut, figure)
    assert _row(report, "by_channel", None)["requests"] >= 1  # none served


def test_other_days_have_their_own_figures(shop: Shop) -> None:
    """A range includes both of its ends; without one it is today."""
    customer = shop.customer()
    receipt = shop.operator.wait_receipt(customer.chat(shop.model(shop.vendor())).headers["x-request-id"])
    day = receipt["created_at"][:10]
    assert shop.operator.get("/reports/margins", **{"from": "2000-01-01", "to": "2000-12-31"})["by_model"] == []
    report = shop.operator.get("/reports/margins", **{"from": day, "to": day})
    assert _row(report, "by_account", customer.account_id)["requests"] == 1
    assert shop.operator.get("/reports/margins")["from"] >= day


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"from": "yesterday"}, "from"),
        ({"to": "2026-13-01"}, "to"),
        ({"day": "x"}, "day"),
        ({"from": "2026-02-01", "to": "2026-01-01"}, "to"),
        ({"day": "2026-02-01", "to": "2026-01-01"}, "day"),
    ],
)
def test_days_that_are_none_are_refused(shop: Shop, params: dict[str, str], param: str) -> None:
    assert assert_problem(shop.operator.http.get("/reports/margins", params=params), 400)["param"] == param
