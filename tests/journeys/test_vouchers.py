"""Vouchers from the operator's hand to a customer's balance: once, whoever races, and not by guessing."""

import asyncio
import csv
import io
import secrets
from decimal import Decimal

import httpx
import pytest

from app.ledger.voucher_codes import new_code
from tests.operator_api import assert_problem
from tests.shop import Customer, Shop


def _redeem(customer: Customer, code: str) -> httpx.Response:
    return customer.http.post("/v1/vouchers/redeem", json={"code": code})


def _assert_refused(answer: httpx.Response, status: int, code: str) -> None:
    """In the shape that OpenAI's clients read."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code and error["message"] and error["type"]


def test_a_voucher_becomes_credit_and_pays_for_requests(shop: Shop) -> None:
    """The answer names the entry and the balance; the account can be served from it at once."""
    customer = shop.customer(credit="0")
    model = shop.model(shop.vendor())
    assert customer.chat(model).status_code == 429
    made = shop.operator.post("/vouchers", {"count": 2, "amount": "5.00", "note": "launch"})
    assert (made["count"], len(set(made["codes"]))) == (2, 2)

    answer = _redeem(customer, made["codes"][0].lower())

    assert answer.status_code == 200, answer.text
    assert (answer.json()["amount"], answer.json()["balance"]) == ("5.00", "5.00")
    assert customer.chat(model).status_code == 200
    page = shop.operator.get("/vouchers", batch_id=made["batch_id"], state="redeemed")
    (voucher,) = page["items"]
    assert (voucher["redeemed_by"], voucher["entry_id"]) == (customer.account_id, answer.json()["entry_id"])
    (entry,) = shop.operator.get(f"/accounts/{customer.account_id}/entries", kind="credit")["items"]
    assert entry["id"] == answer.json()["entry_id"]
    assert made["codes"][0] not in shop.gateway.log


async def test_fifty_customers_race_for_one_voucher(shop: Shop) -> None:
    """Over two workers: one has it, 49 are told that it was redeemed, and the books are in order."""
    customers = [shop.customer(credit="0") for _ in range(50)]
    (code,) = shop.operator.post("/vouchers", {"amount": "7.00"})["codes"]
    async with httpx.AsyncClient(base_url=shop.gateway.url, timeout=30) as http:
        answers = await asyncio.gather(
            *(
                http.post(
                    "/v1/vouchers/redeem", json={"code": code}, headers={"Authorization": f"Bearer {customer.key}"}
                )
                for customer in customers
            )
        )

    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 49
    balances = [shop.operator.balance(customer.account_id) for customer in customers]
    assert sorted(balances) == [Decimal(0)] * 49 + [Decimal(7)]
    shop.operator.assert_books_agree()


def test_codes_that_give_nothing_say_why(shop: Shop) -> None:
    customer, other = shop.customer(credit="0"), shop.customer(credit="0")
    used = shop.operator.post("/vouchers", {"amount": "1.00"})["codes"][0]
    cancelled = shop.operator.post("/vouchers", {"amount": "1.00"})
    shop.operator.post(f"/vouchers/batches/{cancelled['batch_id']}/cancel", {}, status=200)
    assert _redeem(other, used).status_code == 200

    _assert_refused(_redeem(customer, used), 409, "conflict")
    _assert_refused(_redeem(customer, cancelled["codes"][0]), 409, "conflict")
    _assert_refused(_redeem(customer, new_code()), 404, "not_found")
    _assert_refused(_redeem(customer, "TG-MISTYPED"), 400, "invalid_value")
    _assert_refused(customer.http.post("/v1/vouchers/redeem", json={}), 400, "invalid_value")
    _assert_refused(customer.http.post("/v1/vouchers/redeem", content=b"{"), 400, "invalid_value")
    nobody = httpx.post(f"{shop.gateway.url}/v1/vouchers/redeem", json={"code": used})
    _assert_refused(nobody, 401, "invalid_api_key")
    assert shop.operator.balance(customer.account_id) == 0


def test_guessing_is_slowed_down_for_who_guesses(shop: Shop) -> None:
    """Ten failures a minute, over all workers; then a 429 says when to come back, even to a good code. Others, and who
    redeems good codes, do not notice."""
    guesser, customer = shop.customer(credit="0"), shop.customer(credit="0")
    codes = shop.operator.post("/vouchers", {"count": 13, "amount": "1.00"})["codes"]

    assert [_redeem(guesser, new_code()).status_code for _ in range(10)] == [404] * 10
    refused = _redeem(guesser, codes[0])
    assert [_redeem(customer, code).status_code for code in codes[1:]] == [200] * 12

    _assert_refused(refused, 429, "rate_limit_exceeded")
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert _redeem(customer, codes[0]).status_code == 200


def test_making_vouchers_twice_under_one_key_makes_them_once(shop: Shop) -> None:
    """The repeat names the batch; it can't show the codes again."""
    key = {"Idempotency-Key": secrets.token_hex(8)}
    body = {"count": 3, "amount": "1.00"}
    first = shop.operator.http.post("/vouchers", json=body, headers=key)
    again = shop.operator.http.post("/vouchers", json=body, headers=key)

    assert first.status_code == 201
    assert first.json()["batch_id"] in assert_problem(again, 409)["detail"]
    assert len(shop.operator.get("/vouchers", batch_id=first.json()["batch_id"])["items"]) == 3


def test_codes_come_as_csv_when_asked_for(shop: Shop) -> None:
    answer = shop.operator.http.post("/vouchers", params={"format": "csv"}, json={"count": 3, "amount": "2.50"})
    assert answer.status_code == 201
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["amount_usd"] for row in rows] == ["2.50"] * 3
    assert _redeem(shop.customer(credit="0"), rows[1]["code"]).status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"amount": "0"}, "amount"),
        ({"amount": "-1.00"}, "amount"),
        ({"amount": 5}, "amount"),
        ({}, "amount"),
        ({"amount": "1.00", "count": 0}, "count"),
        ({"amount": "1.00", "count": 10_001}, "count"),
        ({"amount": "1.00", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"amount": "1.00", "expires_at": "soon"}, "expires_at"),
        ({"amount": "1.00", "credit_days": 0}, "credit_days"),
        ({"amount": "1.00", "colour": "red"}, "colour"),
    ],
)
def test_vouchers_that_make_no_sense_are_refused(shop: Shop, body: dict[str, object], param: str) -> None:
    assert assert_problem(shop.operator.http.post("/vouchers", json=body), 400)["param"] == param


def test_lists_of_vouchers_are_asked_for_properly(shop: Shop) -> None:
    assert assert_problem(shop.operator.http.get("/vouchers", params={"state": "lost"}), 400)["param"] == "state"
    assert_problem(shop.operator.http.post("/vouchers/batches/vbt_nobody/cancel"), 404)
