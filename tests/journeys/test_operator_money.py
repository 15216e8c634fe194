"""Credits that repeat safely, and receipts an operator can find."""

import asyncio
import secrets
from decimal import Decimal

import httpx
import pytest

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


_PATHS = ["/accounts/{account}/credits", "/accounts/{account}/adjustments", "/receipts/req_1/refund", "/vouchers"]
_BAD_KEYS = ["", "k" * 201, "a\x00b", "a\x1fb", "a\x7fb", "a\x85b"]


@pytest.mark.parametrize("path", _PATHS)
def test_an_idempotency_key_that_is_none_is_refused_by_name(shop: Shop, path: str) -> None:
    """Empty, over 200 characters, or with control characters: in the header as in the body, on every route that takes
    one, whichever database is behind it."""
    path = path.format(account=shop.customer(credit="0").account_id)
    body = {"memo": "m"} if path.endswith("refund") else {"amount": "1.00"}
    if path.endswith("adjustments"):
        body["memo"] = "m"
    for key in _BAD_KEYS:
        answer = shop.operator.http.post(path, json=body | {"idempotency_key": key})
        assert assert_problem(answer, 400)["param"] == "idempotency_key"
    for key in ("", "k" * 201, "a\tb", "a\x85b"):
        answer = shop.operator.http.post(path, json=body, headers={"Idempotency-Key": key.encode("latin-1")})
        assert assert_problem(answer, 400)["param"] == "Idempotency-Key"


def test_a_key_of_200_letters_of_any_language_is_one(shop: Shop) -> None:
    account_id = shop.customer(credit="0").account_id
    body = {"amount": "1.00", "idempotency_key": "schlüssel-鍵-" + secrets.token_hex(94)}
    assert len(body["idempotency_key"]) == 200
    for _ in range(2):
        shop.operator.post(f"/accounts/{account_id}/credits", body)
    assert shop.operator.balance(account_id) == 1


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/accounts", {"name": "a\x00b"}, "name"),
        ("/accounts/{account}/credits", {"amount": "1.00", "memo": "a\x00b"}, "memo"),
        ("/accounts/{account}/adjustments", {"amount": "-1.00", "memo": "a\x00b"}, "memo"),
        ("/accounts/{account}/adjustments", {"amount": "1.00", "memo": "m", "corrects": "a\x00b"}, "corrects"),
        ("/receipts/req_1/refund", {"memo": "a\x00b"}, "memo"),
        ("/vouchers", {"amount": "1.00", "note": "a\x00b"}, "note"),
    ],
)
def test_a_text_that_no_database_keeps_is_refused_by_name(
    shop: Shop, path: str, body: dict[str, str], param: str
) -> None:
    """PostgreSQL has no NUL in its texts; SQLite would keep it, and then it could not be moved there."""
    answer = shop.operator.http.post(path.format(account=shop.customer(credit="0").account_id), json=body)
    assert assert_problem(answer, 400)["param"] == param


@pytest.mark.parametrize("amount", ["9007199.254740992", "9999999999"])
@pytest.mark.parametrize(
    ("path", "rest"),
    [("/vouchers", {}), ("/accounts/{account}/credits", {}), ("/accounts/{account}/adjustments", {"memo": "m"})],
)
def test_more_than_a_wallet_can_hold_is_refused_by_name(
    shop: Shop, path: str, rest: dict[str, str], amount: str
) -> None:
    """A voucher of 9,999,999,999 USD overflowed the database's 64 bits."""
    account_id = shop.customer(credit="0").account_id
    for sent in (amount, f"-{amount}"):
        answer = shop.operator.http.post(path.format(account=account_id), json={"amount": sent, **rest})
        assert assert_problem(answer, 400)["param"] == "amount"
    assert shop.operator.balance(account_id) == 0


def test_one_key_takes_or_gives(shop: Shop) -> None:
    """-1 USD and then +1 USD under one key, at once and whatever the bookkeeper has posted: the second is a conflict
    that says so; a key whose debit was refused is free."""
    account_id = shop.customer(credit="10.00").account_id
    path = f"/accounts/{account_id}/adjustments"
    body = {"memo": "m", "idempotency_key": secrets.token_hex(8)}
    shop.operator.post(path, body | {"amount": "-1.00"})
    for other in ("1.00", "-2.00"):
        refused = shop.operator.http.post(path, json=body | {"amount": other})
        assert "idempotency key" in assert_problem(refused, 409)["detail"]
    assert_problem(shop.operator.http.post(f"/accounts/{account_id}/credits", json=body | {"amount": "1.00"}), 409)
    assert shop.operator.balance(account_id) == 9
    body = {"memo": "m", "idempotency_key": secrets.token_hex(8)}
    assert_problem(shop.operator.http.post(path, json=body | {"amount": "-100.00"}), 409)
    shop.operator.post(path, body | {"amount": "5.00"})
    assert shop.operator.balance(account_id) == 14
