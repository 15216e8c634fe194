"""Credits that repeat safely, and receipts an operator can find."""

import asyncio
import secrets
from decimal import Decimal

import httpx

from tests.operator_api import assert_problem
from tests.shop import Shop


def test_a_credit_repeated_moves_money_once(shop: Shop) -> None:
    """The same idempotency key, in the body or the header, gives the same entry and leaves the balance."""
    operator = shop.operator
    account_id = shop.customer(credit="0").account_id
    path = f"/accounts/{account_id}/credits"
    in_body = {"amount": "10.00", "memo": "m", "idempotency_key": secrets.token_hex(8)}
    in_header = {"Idempotency-Key": secrets.token_hex(8)}

    first, again = (operator.http.post(path, json=in_body) for _ in range(2))
    third, anew = (operator.http.post(path, json={"amount": "5.00"}, headers=in_header) for _ in range(2))

    assert (first.status_code, third.status_code) == (201, 201)
    assert again.status_code in (200, 201)
    assert first.json()["entry_id"] == again.json()["entry_id"] != third.json()["entry_id"]
    assert third.json()["entry_id"] == anew.json()["entry_id"]
    assert Decimal(first.json()["balance"]) == 10
    assert operator.balance(account_id) == 15


async def test_a_credit_repeated_at_once_moves_money_once(shop: Shop) -> None:
    """Twenty at the same time are one."""
    account_id = shop.customer(credit="0").account_id
    body = {"amount": "1.00", "memo": "m", "idempotency_key": secrets.token_hex(8)}
    headers = dict(shop.operator.http.headers)
    async with httpx.AsyncClient(base_url=shop.operator.http.base_url, headers=headers, timeout=20) as http:
        answers = await asyncio.gather(*(http.post(f"accounts/{account_id}/credits", json=body) for _ in range(20)))

    assert {answer.status_code for answer in answers} <= {200, 201, 409}
    assert len({a.json()["entry_id"] for a in answers if a.status_code in (200, 201)}) == 1
    assert shop.operator.balance(account_id) == 1


def test_an_idempotency_key_is_not_good_for_another_amount(shop: Shop) -> None:
    """A key that was used for 1 USD does not pass 100 USD in silence."""
    account_id = shop.customer(credit="0").account_id
    key = secrets.token_hex(8)
    shop.operator.credit(account_id, "1.00", key)

    answer = shop.operator.http.post(
        f"/accounts/{account_id}/credits", json={"amount": "100.00", "memo": "m", "idempotency_key": key}
    )

    assert_problem(answer, (409, 422))
    assert shop.operator.balance(account_id) == 1


def test_receipts_come_in_pages(shop: Shop) -> None:
    """Pages of three, newest first, hold each receipt once, and the last one says there is no next."""
    model = shop.model(shop.vendor())
    customer = shop.customer()
    made = [customer.chat(model).headers["x-request-id"] for _ in range(7)]
    shop.operator.wait_receipts(7, account_id=customer.account_id)

    pages, cursor = [], None
    while cursor or not pages:
        params = {"account_id": customer.account_id, "limit": 3} | ({"cursor": cursor} if cursor else {})
        page = shop.operator.get("/receipts", **params)
        pages.append([receipt["request_id"] for receipt in page["items"]])
        cursor = page["next"]

    assert [len(page) for page in pages] == [3, 3, 1]
    assert [request_id for page in pages for request_id in page] == made[::-1]


def test_receipts_are_found_by_what_is_on_them(shop: Shop) -> None:
    """Each filter narrows to what matches, and together they narrow further."""
    vendor = shop.vendor()
    good, bad = shop.model(vendor), shop.model()
    customer, other = shop.customer(), shop.customer()
    mine = customer.chat(good).headers["x-request-id"]
    failed = customer.chat(bad).headers["x-request-id"]
    theirs = other.chat(good).headers["x-request-id"]
    receipt = shop.operator.wait_receipt(mine)
    shop.operator.wait_receipt(failed)
    shop.operator.wait_receipt(theirs)

    def found(**filters: str) -> set[str]:
        return {receipt["request_id"] for receipt in shop.operator.receipts(**filters)}

    assert found(account_id=customer.account_id) == {mine, failed}
    assert found(key_id=other.key_id) == {theirs}
    assert found(model=good) == {mine, theirs}
    assert found(channel_id=receipt["channel_id"]) == {mine, theirs}
    assert found(account_id=customer.account_id, status="failed") == {failed}
    assert found(request_id=mine) == {mine}
    assert mine in found(**{"from": receipt["created_at"], "account_id": customer.account_id})
    assert found(**{"to": "2020-01-01T00:00:00Z"}) == set()
