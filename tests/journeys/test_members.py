"""Accounts below accounts: whose wallet pays, who may be moved where, and what the receipts say."""

import secrets
import threading
from decimal import Decimal

import pytest

from tests.operator_api import Json, assert_problem
from tests.shop import Customer, Shop


def open_account(shop: Shop, **fields: object) -> Json:
    return shop.operator.post("/accounts", {"name": f"account-{secrets.token_hex(4)}", **fields})


def member_of(shop: Shop, parent_id: str, **fields: object) -> Json:
    return open_account(shop, parent_id=parent_id, wallet="shared", **fields)


def customer_of(shop: Shop, account_id: str, **key_options: object) -> Customer:
    return shop.customer(account_id=account_id, **key_options)


def budget(unit: str, amount: str | int, window: str = "day") -> Json:
    return {"unit": unit, "amount": amount, "window": window}


def test_members_draw_on_the_shared_wallet(shop: Shop) -> None:
    """A member of a member too: the receipt says who paid and whose key it was, and both find it in their list."""
    model = shop.model(shop.vendor())
    reseller = shop.customer()
    team = member_of(shop, reseller.account_id)
    person = member_of(shop, team["id"])
    assert (person["paid_by"], person["balance"]) == (reseller.account_id, "10.00")

    answer = customer_of(shop, person["id"]).chat(model)

    receipt = shop.operator.wait_receipt(answer.headers["x-request-id"])
    assert (receipt["account_id"], receipt["member_id"]) == (reseller.account_id, person["id"])
    left = Decimal(10) - Decimal(receipt["amount"])
    balances = [shop.operator.balance(each) for each in (reseller.account_id, team["id"], person["id"])]
    assert balances == [left] * 3
    for account_id, found in ((reseller.account_id, 1), (person["id"], 1), (team["id"], 0)):
        listed = list(shop.operator.receipts(account_id=account_id, model=model))
        assert len(listed) == found, account_id
    shop.operator.assert_books_agree()


def test_a_list_of_receipts_has_what_was_paid_and_what_others_paid(shop: Shop) -> None:
    """Newest first over both, a page at a time, none left out and none twice."""
    model = shop.model(shop.vendor())
    reseller = shop.customer()
    member = customer_of(shop, member_of(shop, reseller.account_id)["id"])
    sent = [who.chat(model).headers["x-request-id"] for who in (reseller, member, member, reseller, member)]
    shop.operator.wait_receipts(5, account_id=reseller.account_id)

    everything = [each["request_id"] for each in shop.operator.receipts(limit=2, account_id=reseller.account_id)]
    own = [each["request_id"] for each in shop.operator.receipts(limit=2, account_id=member.account_id)]

    assert everything == sent[::-1]
    assert own == [sent[4], sent[2], sent[1]]


def test_a_customer_sees_its_own_receipts_and_not_its_neighbours(shop: Shop) -> None:
    """A member what its own keys did; the account that pays, everything."""
    model = shop.model(shop.vendor())
    reseller = shop.customer()
    first, second = (customer_of(shop, member_of(shop, reseller.account_id)["id"]) for _ in range(2))
    request_id = first.chat(model).headers["x-request-id"]
    shop.operator.wait_receipt(request_id)

    answers = {
        name: who.http.get(f"/v1/receipts/{request_id}")
        for name, who in {"first": first, "second": second, "reseller": reseller}.items()
    }

    assert {name: answer.status_code for name, answer in answers.items()} == {
        "first": 200,
        "second": 404,
        "reseller": 200,
    }


@pytest.mark.parametrize("path", ["subscription", "usage"])
def test_a_members_key_does_not_show_the_wallet_it_draws_on(shop: Shop, path: str) -> None:
    """Nor can it redeem a voucher for another; the owner's own key can."""
    reseller = shop.customer()
    member = customer_of(shop, member_of(shop, reseller.account_id)["id"])
    answers = [
        member.http.get(f"/dashboard/billing/{path}"),
        member.http.post("/v1/vouchers/redeem", json={"code": "x"}),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "wallet_not_yours")
    assert reseller.http.get(f"/dashboard/billing/{path}").status_code == 200


def test_a_member_with_a_wallet_of_its_own_pays_itself(shop: Shop) -> None:
    """Its parent's money is not touched."""
    model = shop.model(shop.vendor())
    reseller = shop.customer()
    member = open_account(shop, parent_id=reseller.account_id)
    assert (member["wallet"], member["paid_by"], member["balance"]) == ("own", member["id"], "0.00")
    customer = customer_of(shop, member["id"])
    assert customer.chat(model).status_code == 429

    shop.operator.credit(member["id"], "1.00", secrets.token_hex(8))
    receipt = shop.operator.wait_receipt(customer.chat(model).headers["x-request-id"])

    assert (receipt["account_id"], receipt["member_id"]) == (member["id"], None)
    assert shop.operator.balance(reseller.account_id) == 10


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("credits", {"amount": "1.00"}),
        ("adjustments", {"amount": "1.00", "memo": "m"}),
        ("adjustments", {"amount": "-1.00", "memo": "m"}),
    ],
)
def test_a_shared_wallet_is_credited_at_its_owner(shop: Shop, path: str, body: Json) -> None:
    """Money for a member that has no wallet is refused, and the answer names whose it is."""
    reseller = shop.customer()
    member = member_of(shop, reseller.account_id)

    problem = assert_problem(shop.operator.http.post(f"/accounts/{member['id']}/{path}", json=body), 409)

    assert reseller.account_id in problem["detail"]
    assert shop.operator.balance(reseller.account_id) == 10


def test_a_member_has_no_credit_line(shop: Shop) -> None:
    """Neither from its first day nor later."""
    member = member_of(shop, shop.customer().account_id)
    body = {"name": "x", "parent_id": member["parent_id"], "wallet": "shared", "credit_line": "1.00"}
    assert_problem(shop.operator.http.post("/accounts", json=body), 409)
    assert_problem(shop.operator.http.patch(f"/accounts/{member['id']}", json={"credit_line": "1.00"}), 409)


def test_a_statement_belongs_to_whoever_pays(shop: Shop) -> None:
    """It says what each member used; a member that pays for nothing is told whose statement has it."""
    model = shop.model(shop.vendor())
    reseller = shop.customer()
    members = [customer_of(shop, member_of(shop, reseller.account_id)["id"]) for _ in range(2)]
    for who in (reseller, *members, members[1]):
        receipt = shop.operator.wait_receipt(who.chat(model).headers["x-request-id"])
    month = receipt["created_at"][:7]

    statement = shop.operator.get(f"/accounts/{reseller.account_id}/statements/{month}")

    by_member = {line["account_id"]: line for line in statement["usage_by_member"]}
    requests = {account_id: line["requests"] for account_id, line in by_member.items()}
    assert requests == {reseller.account_id: 1, members[0].account_id: 1, members[1].account_id: 2}
    total = sum(Decimal(line["amount"]) for line in by_member.values())
    assert total == Decimal(statement["totals"]["usage"]) > 0
    problem = assert_problem(shop.operator.http.get(f"/accounts/{members[0].account_id}/statements/{month}"), 409)
    assert reseller.account_id in problem["detail"]


def test_accounts_are_five_deep_at_most_and_never_in_a_circle(shop: Shop) -> None:
    """Whether they are opened that deep or moved there."""
    chain = [open_account(shop)["id"]]
    while len(chain) < 5:
        chain.append(open_account(shop, parent_id=chain[-1])["id"])
    http = shop.operator.http

    assert_problem(http.post("/accounts", json={"name": "sixth", "parent_id": chain[-1]}), 409)
    above = open_account(shop)["id"]
    assert_problem(http.patch(f"/accounts/{chain[0]}", json={"parent_id": above}), 409)
    for parent_id in (chain[0], chain[3]):
        problem = assert_problem(http.patch(f"/accounts/{chain[0]}", json={"parent_id": parent_id}), 400)
        assert problem["param"] == "parent_id"
    assert shop.operator.patch(f"/accounts/{chain[4]}", {"parent_id": above})["parent_id"] == above
    assert shop.operator.patch(f"/accounts/{chain[4]}", {"parent_id": None})["parent_id"] is None


def test_two_moves_at_once_make_no_circle(shop: Shop) -> None:
    """Each below the other: one of them is refused."""
    for _ in range(3):
        first, second = open_account(shop)["id"], open_account(shop)["id"]
        statuses = []

        def move(account_id: str, parent_id: str, statuses: list[int] = statuses) -> None:
            body = {"parent_id": parent_id}
            statuses.append(shop.operator.http.patch(f"/accounts/{account_id}", json=body).status_code)

        movers = [threading.Thread(target=move, args=pair) for pair in ((first, second), (second, first))]
        for mover in movers:
            mover.start()
        for mover in movers:
            mover.join()
        assert sorted(statuses) == [200, 400]


def test_a_credit_and_a_change_of_wallets_never_both_happen(shop: Shop) -> None:
    """Money in a wallet that nobody draws on any more would be lost to its owner."""
    parent_id = open_account(shop)["id"]
    for _ in range(4):
        account_id = open_account(shop, parent_id=parent_id)["id"]
        statuses = {}

        def credit(account_id: str = account_id, statuses: dict[str, int] = statuses) -> None:
            answer = shop.operator.http.post(f"/accounts/{account_id}/credits", json={"amount": "1.00"})
            statuses["credit"] = answer.status_code

        def share(account_id: str = account_id, statuses: dict[str, int] = statuses) -> None:
            answer = shop.operator.http.patch(f"/accounts/{account_id}", json={"wallet": "shared"})
            statuses["share"] = answer.status_code

        racers = [threading.Thread(target=racer) for racer in (credit, share)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        assert statuses in ({"credit": 201, "share": 409}, {"credit": 409, "share": 200})


def test_who_pays_can_change_until_money_has_moved(shop: Shop) -> None:
    """After that, the account and those below it stay with their payer; a wallet that was ever used stays too."""
    model = shop.model(shop.vendor())
    reseller, other = shop.customer(), shop.customer()
    team = member_of(shop, reseller.account_id)
    person = member_of(shop, team["id"])
    path = f"/accounts/{team['id']}"
    assert shop.operator.patch(path, {"parent_id": other.account_id})["paid_by"] == other.account_id
    assert shop.operator.patch(path, {"wallet": "own"})["paid_by"] == team["id"]
    assert shop.operator.account(person["id"])["paid_by"] == team["id"]
    shared_again = shop.operator.patch(path, {"wallet": "shared", "parent_id": reseller.account_id})
    assert shared_again["paid_by"] == reseller.account_id
    request = customer_of(shop, person["id"]).chat(model)
    assert shop.operator.wait_receipt(request.headers["x-request-id"])["account_id"] == reseller.account_id

    for change in ({"parent_id": other.account_id}, {"wallet": "own"}):
        assert_problem(shop.operator.http.patch(path, json=change), 409)
    assert_problem(
        shop.operator.http.patch(
            f"/accounts/{other.account_id}", json={"parent_id": reseller.account_id, "wallet": "shared"}
        ),
        409,
    )
    assert shop.operator.patch(f"/accounts/{other.account_id}", {"parent_id": reseller.account_id})["wallet"] == "own"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        pytest.param({"wallet": "shared"}, "wallet", id="nobody to share with"),
        pytest.param({"wallet": "stolen"}, "wallet", id="no such kind"),
        pytest.param({"parent_id": "acc_nobody"}, "parent_id", id="no such parent"),
        pytest.param({"time_zone": "Mars/Olympus"}, "time_zone", id="no such zone"),
        pytest.param({"time_zone": "../../etc/passwd"}, "time_zone", id="no zone at all"),
        pytest.param({"limits": {"rpm": -1}}, "limits.rpm", id="a negative limit"),
        pytest.param({"limits": {"rph": 1}}, "limits.rph", id="no such limit"),
        pytest.param({"model_limits": {"m": {"rpm": "x"}}}, "model_limits", id="a text for a number"),
        pytest.param({"budgets": [{"unit": "usd", "amount": 5, "window": "day"}]}, "budgets[0].amount", id="usd"),
        pytest.param({"budgets": [{"unit": "usd", "amount": "0", "window": "day"}]}, "budgets[0].amount", id="0 usd"),
        pytest.param(
            {"budgets": [{"unit": "tokens", "amount": "1.5", "window": "day"}]}, "budgets[0].amount", id="1.5"
        ),
        pytest.param(
            {"budgets": [{"unit": "tokens", "amount": 2**60, "window": "day"}]}, "budgets[0].amount", id="2^60"
        ),
        pytest.param({"budgets": [{"unit": "usd", "amount": "5", "window": "year"}]}, "budgets[0].window", id="a year"),
        pytest.param(
            {"budgets": [{"unit": "usd", "amount": "5", "window": "day"}] * 2}, "budgets[1]", id="the same twice"
        ),
    ],
)
def test_bad_fields_of_an_account_are_named(shop: Shop, fields: Json, named: str) -> None:
    """At its opening, and later."""
    account_id = open_account(shop)["id"]
    answers = [
        shop.operator.http.post("/accounts", json={"name": "x", **fields}),
        shop.operator.http.patch(f"/accounts/{account_id}", json=fields),
    ]
    for answer in answers:
        assert named in assert_problem(answer, 400)["detail"], answer.text


def test_limits_and_budgets_are_shown_as_they_were_set(shop: Shop) -> None:
    """What is left out stays; null takes it away."""
    sent = {
        "limits": {"rpm": 60, "tpd": 1_000_000},
        "model_limits": {"small": {"concurrency": 2}},
        "budgets": [
            {"unit": "usd", "amount": "5.00", "window": "month"},
            {"unit": "tokens", "amount": "1000000", "window": "day"},
        ],
        "time_zone": "America/New_York",
        "may_issue_keys": True,
    }
    account = open_account(shop, **sent)
    none = dict.fromkeys(("rpm", "tpm", "rpd", "tpd", "concurrency"))
    assert account["limits"] == {**none, "rpm": 60, "tpd": 1_000_000}
    assert account["model_limits"] == {"small": {**none, "concurrency": 2}}
    assert account["budgets"][1] == {"unit": "tokens", "amount": 1_000_000, "window": "day"}
    assert (account["time_zone"], account["may_issue_keys"]) == ("America/New_York", True)
    changed = shop.operator.patch(f"/accounts/{account['id']}", {"name": "renamed", "budgets": None})
    assert (changed["limits"], changed["budgets"]) == (account["limits"], [])
    bare = shop.operator.patch(f"/accounts/{account['id']}", {"limits": None, "model_limits": None})
    assert (bare["limits"], bare["model_limits"]) == (none, {})


def test_a_price_book_has_limits_for_accounts_without_any(shop: Shop) -> None:
    """They are set and shown with the book."""
    name = f"book-{secrets.token_hex(4)}"
    book = shop.operator.http.put(f"/books/{name}", json={"limits": {"rpm": 5}}).json()
    assert book["limits"]["rpm"] == 5
    kept = shop.operator.http.put(f"/books/{name}", json={"multiplier": "2"}).json()
    assert kept["limits"]["rpm"] == 5
    problem = assert_problem(shop.operator.http.put(f"/books/{name}", json={"limits": {"rpm": "x"}}), 400)
    assert problem["param"] == "limits.rpm"
