"""What operators put right by hand: adjustments and refunds, each a new entry, never more than there is."""

import asyncio
import secrets
from decimal import Decimal

import httpx
import pytest

from tests.behaviours import Gate, answers
from tests.operator_api import assert_problem, charge
from tests.shop import COSTS, PRICES, Customer, Shop
from tests.waiting import until


def _charged(shop: Shop, customer: Customer) -> tuple[str, Decimal]:
    """A request that was paid for, and its price."""
    request_id = customer.chat(shop.model(shop.vendor())).headers["x-request-id"]
    return request_id, Decimal(shop.operator.wait_receipt(request_id)["amount"])


def test_a_refund_gives_back_all_that_is_left(shop: Shop) -> None:
    """A part, then the rest; then there is nothing, and the receipt shows both with the prices that applied."""
    customer = shop.customer()
    request_id, amount = _charged(shop, customer)
    path = f"/receipts/{request_id}/refund"

    part = shop.operator.post(path, {"amount": "0.000001", "memo": "a part"})
    rest = shop.operator.post(path, {})

    assert part["corrects"] == request_id
    assert Decimal(part["amount"]) + Decimal(rest["amount"]) == amount
    assert shop.operator.balance(customer.account_id) == customer.credit
    assert_problem(shop.operator.http.post(path, json={}), 409)
    assert_problem(shop.operator.http.post(path, json={"amount": "0.000000001"}), 409)
    whole = shop.operator.get(f"/receipts/{request_id}")
    assert Decimal(whole["refunded"]) == amount
    assert [each["entry_id"] for each in whole["refunds"]] == [part["entry_id"], rest["entry_id"]]
    assert Decimal(whole["amount"]) == amount == charge(whole["prices"], whole["usage"])
    assert {name: Decimal(price) for name, price in PRICES.items()}.items() <= {
        name: Decimal(price) for name, price in whole["prices"].items()
    }.items()


async def test_refunds_at_once_never_give_back_more_than_was_charged(shop: Shop) -> None:
    customer = shop.customer()
    request_id, amount = await asyncio.to_thread(_charged, shop, customer)
    third = format(amount / 3 + Decimal("0.000000001"), "f")[:11]
    headers = dict(shop.operator.http.headers)
    async with httpx.AsyncClient(base_url=shop.operator.http.base_url, headers=headers, timeout=20) as http:
        tried = await asyncio.gather(
            *(http.post(f"receipts/{request_id}/refund", json={"amount": third}) for _ in range(12))
        )
    given = [Decimal(answer.json()["amount"]) for answer in tried if answer.status_code == 201]
    assert {answer.status_code for answer in tried} == {201, 409}
    assert 0 < sum(given) <= amount
    assert shop.operator.balance(customer.account_id) == customer.credit - amount + sum(given)


def test_a_refund_repeated_moves_money_once(shop: Shop) -> None:
    """Under one key it is one entry; for another request or amount the key is no good."""
    customer = shop.customer()
    request_id, amount = _charged(shop, customer)
    other, _ = _charged(shop, customer)
    body = {"idempotency_key": secrets.token_hex(8)}
    before = shop.operator.balance(customer.account_id)

    first, again = (shop.operator.post(f"/receipts/{request_id}/refund", body) for _ in range(2))

    assert first["entry_id"] == again["entry_id"]
    assert shop.operator.balance(customer.account_id) == before + amount
    assert_problem(shop.operator.http.post(f"/receipts/{other}/refund", json=body), 409)
    different = body | {"amount": "0.000000001"}
    assert_problem(shop.operator.http.post(f"/receipts/{request_id}/refund", json=different), 409)


def test_only_what_is_there_can_be_refunded(shop: Shop) -> None:
    customer = shop.customer()
    request_id, _ = _charged(shop, customer)
    assert_problem(shop.operator.http.post("/receipts/req_nobody/refund", json={}), 404)
    assert_problem(shop.operator.http.get("/receipts/req_nobody"), 404)
    refusal = shop.operator.http.post(f"/receipts/{request_id}/refund", json={"amount": "-1.00"})
    assert assert_problem(refusal, 400)["param"] == "amount"


def test_a_failed_request_has_nothing_to_refund(shop: Shop) -> None:
    customer = shop.customer()
    request_id = customer.chat(shop.model()).headers["x-request-id"]
    shop.operator.wait_receipt(request_id)
    assert_problem(shop.operator.http.post(f"/receipts/{request_id}/refund", json={}), 409)


def test_an_adjustment_points_at_what_it_puts_right(shop: Shop) -> None:
    """Up and down, at once in the balance, and in the journal with the entry that they correct."""
    customer = shop.customer()
    path = f"/accounts/{customer.account_id}"
    (credit,) = shop.operator.get(f"{path}/entries")["items"]

    down = shop.operator.post(f"{path}/adjustments", {"amount": "-4.00", "memo": "twice", "corrects": credit["id"]})
    up = shop.operator.post(f"{path}/adjustments", {"amount": "1.50", "memo": "and back"})

    assert (Decimal(down["balance"]), Decimal(up["balance"])) == (6, Decimal("7.5"))
    entries = until(
        lambda: len(found := shop.operator.get(f"{path}/entries")["items"]) == 3 and found, "both are posted"
    )
    by_id = {entry["id"]: entry for entry in entries}
    assert by_id[down["entry_id"]]["corrects"] == credit["id"]
    assert by_id[down["entry_id"]]["postings"] == [
        {"account": "adjustments", "amount": "4.00"},
        {"account": f"wallet:{customer.account_id}", "amount": "-4.00"},
    ]
    assert by_id[up["entry_id"]]["kind"] == "adjustment"


def test_an_adjustment_leaves_what_running_requests_hold(shop: Shop) -> None:
    """More than is free is refused; a credit line makes more free."""
    gate = Gate()
    model = shop.model(shop.vendor(answers(after=2, then=gate)))
    customer = shop.customer(credit="1.00")
    path = f"/accounts/{customer.account_id}"
    with customer.stream(model, max_tokens=1000) as stream:
        assert stream.status_code == 200
        held = shop.operator.held(customer.account_id)
        body = {"amount": "-1.00", "memo": "all of it"}
        refused = shop.operator.http.post(f"{path}/adjustments", json=body)
        changed = shop.operator.patch(path, {"credit_line": "5.00"})
        taken = shop.operator.http.post(f"{path}/adjustments", json=body)
        gate.open()
        stream.read()

    assert held > 0
    assert_problem(refused, 409)
    assert changed["credit_line"] == "5.00"
    assert taken.status_code == 201, taken.text
    shop.operator.wait_receipts(1, account_id=customer.account_id)
    shop.operator.assert_books_agree()


def test_a_credit_line_lets_a_wallet_go_below_zero(shop: Shop) -> None:
    """At once, and down to the line; the journal keeps its changes, and an unchanged one is none."""
    customer = shop.customer(credit="0")
    model = shop.model(shop.vendor())
    path = f"/accounts/{customer.account_id}"
    assert customer.chat(model).status_code == 429
    for _ in range(2):
        assert shop.operator.patch(path, {"credit_line": "2.00"})["credit_line"] == "2.00"
    assert customer.chat(model).status_code == 200
    assert -2 < shop.operator.balance(customer.account_id) < 0
    (change,) = shop.operator.get(f"{path}/entries", kind="credit_line")["items"]
    assert change["postings"] == []
    shop.operator.patch(path, {"credit_line": "0"})
    assert customer.chat(model).status_code == 429
    refusal = shop.operator.http.patch(path, json={"credit_line": "-1.00"})
    assert assert_problem(refusal, 400)["param"] == "credit_line"


def test_an_adjustment_repeated_moves_money_once(shop: Shop) -> None:
    """Both ways; and a key of one is not good for another."""
    customer = shop.customer()
    path = f"/accounts/{customer.account_id}/adjustments"
    for amount, balance in (("-1.00", 9), ("2.00", 11)):
        body = {"amount": amount, "memo": "m", "idempotency_key": secrets.token_hex(8)}
        first, again = (shop.operator.post(path, body) for _ in range(2))
        assert first["entry_id"] == again["entry_id"]
        assert shop.operator.balance(customer.account_id) == balance
        assert_problem(shop.operator.http.post(path, json=body | {"amount": "3.00" if balance == 11 else "-3.00"}), 409)
    given = {"amount": "2.00", "memo": "m", "idempotency_key": secrets.token_hex(8)}
    shop.operator.post(path, given)
    assert_problem(shop.operator.http.post(path, json=given | {"amount": "-2.00"}), 409)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"amount": "0", "memo": "m"}, "amount"),
        ({"amount": "1", "memo": ""}, "memo"),
        ({"amount": "1"}, "memo"),
        ({"amount": "1", "memo": "m", "corrects": "ent_nobody"}, "corrects"),
    ],
)
def test_adjustments_that_make_no_sense_are_refused(shop: Shop, body: dict[str, str], param: str) -> None:
    path = f"/accounts/{shop.customer().account_id}/adjustments"
    assert assert_problem(shop.operator.http.post(path, json=body), 400)["param"] == param


def test_nobody_is_adjusted_who_is_not_there(shop: Shop) -> None:
    for amount in ("1.00", "-1.00"):
        answer = shop.operator.http.post("/accounts/acc_nobody/adjustments", json={"amount": amount, "memo": "m"})
        assert_problem(answer, 404)
    assert_problem(shop.operator.http.get("/accounts/acc_nobody/entries"), 404)


def test_a_gift_is_shown_as_one(shop: Shop) -> None:
    """Promotional credit with a last day: the journal names the purse, and the statement the day."""
    account_id = shop.customer(credit="0").account_id
    body = {"amount": "3.00", "promotional": True, "expires_at": "2199-01-31T00:00:00Z"}
    given = shop.operator.post(f"/accounts/{account_id}/credits", body)
    (entry,) = shop.operator.get(f"/accounts/{account_id}/entries")["items"]
    assert entry["id"] == given["entry_id"]
    assert {line["account"] for line in entry["postings"]} == {f"promo:{account_id}", "promotions"}
    assert given["balance"] == "3.00"
    late = {"amount": "3.00", "expires_at": "2020-01-31T00:00:00Z"}
    refusal = shop.operator.http.post(f"/accounts/{account_id}/credits", json=late)
    assert assert_problem(refusal, 400)["param"] == "expires_at"


def test_entries_come_in_pages(shop: Shop) -> None:
    """Newest first, each once."""
    account_id = shop.customer(credit="0").account_id
    made = [shop.operator.credit(account_id, "1.00", secrets.token_hex(8))["entry_id"] for _ in range(5)]
    seen, cursor = [], None
    while cursor or not seen:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = shop.operator.get(f"/accounts/{account_id}/entries", **params)
        seen += [entry["id"] for entry in page["items"]]
        cursor = page["next"]
    assert sorted(seen) == sorted(made) and len(seen) == 5
    refusal = shop.operator.http.get(f"/accounts/{account_id}/entries", params={"kind": "gift"})
    assert assert_problem(refusal, 400)["param"] == "kind"


def test_a_receipt_in_full_names_what_each_vendor_takes(shop: Shop) -> None:
    customer = shop.customer()
    request_id, _ = _charged(shop, customer)
    whole = shop.operator.get(f"/receipts/{request_id}")
    (cost_prices,) = whole["cost_prices"].values()
    assert Decimal(cost_prices["input"]) == Decimal(COSTS["input"])
    assert Decimal(whole["upstream_cost"]) == charge(COSTS, whole["usage"])
