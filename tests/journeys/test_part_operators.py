"""Operators of a part of the house: what is opened to them, and nothing of anybody else's."""

from collections.abc import Iterator

import httpx
import pytest

from tests.journeys.rough import OpenShop
from tests.operator_api import Json, Operator, assert_problem
from tests.shop import MESSAGES, Shop

# Everything that an operator of a part of the house may use. Whatever is not here is for the admin key alone.
OPEN = {
    "POST /accounts",
    "GET /accounts",
    "GET /alerts",
    "GET /accounts/{account_id}",
    "PATCH /accounts/{account_id}",
    "GET /accounts/{account_id}/entries",
    "POST /accounts/{account_id}/keys",
    "GET /accounts/{account_id}/keys",
    "POST /accounts/{account_id}/keys/bulk",
    "GET /accounts/{account_id}/statements/{month}",
    "GET /keys",
    "GET /keys/{key_id}",
    "PATCH /keys/{key_id}",
    "POST /keys/{key_id}/rotate",
    "POST /keys/revoke",
    "GET /receipts",
    "GET /receipts/{request_id}",
}


class Part:
    """A reseller with a member, an operator for them, and somebody else."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.reseller = shop.customer()
        self.account_id = self.reseller.account_id
        self.member_id = shop.operator.post(
            "/accounts", {"name": "member", "parent_id": self.account_id, "wallet": "shared"}
        )["id"]
        self.stranger = shop.customer()
        made = shop.operator.post("/operators", {"name": "ada", "account_id": self.account_id})
        self.operator_id, self.token = made["id"], made["token"]
        self.operator = Operator(shop.gateway.url, self.token)


@pytest.fixture
def part(shop: Shop) -> Iterator[Part]:
    part = Part(shop)
    yield part
    part.operator.close()


def routes(shop: Shop) -> set[tuple[str, str]]:
    """Every method and path of the operator API, as its own description has them."""
    schema = shop.operator.http.get(f"{shop.gateway.url}/schema/openapi.json").json()
    return {
        (method.upper(), path.removeprefix("/admin/v1"))
        for path, item in schema["paths"].items()
        if path.startswith("/admin/v1/")
        for method in item
        if method in ("get", "post", "put", "patch", "delete")
    }


def test_what_is_not_opened_is_closed(part: Part) -> None:
    """Every route, walked with an operator's token: those that are not in the table answer 403 before anything else."""
    walked = routes(part.shop)
    assert len(walked) > 40, "the walk must see the routes"
    fill = {"account_id": part.member_id, "key_id": "key_1", "month": "2026-01", "request_id": "req_1"}
    opened = set()
    for method, path in sorted(walked):
        filled = path
        for name in _parameters(path):
            filled = filled.replace(f"{{{name}}}", fill.get(name, "nothing"))
        answer = part.operator.http.request(method, filled, json={} if method != "GET" else None)
        is_closed = answer.status_code == 403 and answer.json()["code"] == "whole_house_only"
        if not is_closed:
            opened.add(f"{method} {path}")
    assert opened == OPEN


def _parameters(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def test_it_runs_its_part_of_the_house(part: Part) -> None:
    """It opens accounts, bounds them, issues and ends keys, and reads what they came to."""
    model = part.shop.model(part.shop.vendor())
    team = part.operator.post("/accounts", {"name": "team", "limits": {"rpm": 100}})
    assert (team["parent_id"], team["wallet"], team["paid_by"]) == (part.account_id, "shared", part.account_id)
    person = part.operator.post("/accounts", {"name": "person", "parent_id": team["id"]})
    changed = part.operator.patch(f"/accounts/{person['id']}", {"limits": {"rpm": 5}, "parent_id": part.member_id})
    assert (changed["limits"]["rpm"], changed["parent_id"]) == (5, part.member_id)
    issued = part.operator.new_key(person["id"])
    answer = httpx.post(
        f"{part.shop.gateway.url}/v1/chat/completions",
        headers={"Authorization": f"Bearer {issued['key']}"},
        json={"model": model, "messages": MESSAGES},
    )
    request_id = answer.headers["x-request-id"]
    part.shop.operator.wait_receipt(request_id)

    (receipt,) = part.operator.receipts()
    assert (receipt["request_id"], receipt["member_id"]) == (request_id, person["id"])
    whole = part.operator.get(f"/receipts/{request_id}")
    for shown in (receipt, whole):
        assert not {"channel_id", "upstream_model", "upstream_cost", "margin", "attempts"} & set(shown), shown
    assert not whole["cost_prices"]
    month = receipt["created_at"][:7]
    assert part.operator.get(f"/accounts/{part.account_id}/statements/{month}")["totals"]["requests"] == 1
    assert part.operator.get(f"/accounts/{part.account_id}/entries")["items"]
    assert part.operator.patch(f"/keys/{issued['id']}", {"enabled": False})["enabled"] is False
    ids = {account["id"] for account in part.operator.get("/accounts")["items"]}
    assert ids == {part.account_id, part.member_id, team["id"], person["id"]}
    keys = {key["id"] for key in part.operator.get("/keys")["items"]}
    assert keys == {part.reseller.key_id, issued["id"]}


def test_it_knows_nothing_of_others(part: Part) -> None:
    """Other accounts, their keys and their receipts are not there, whatever it tries."""
    model = part.shop.model(part.shop.vendor())
    request_id = part.stranger.chat(model).headers["x-request-id"]
    part.shop.operator.wait_receipt(request_id)
    http, account_id, key_id = part.operator.http, part.stranger.account_id, part.stranger.key_id
    answers = [
        http.get(f"/accounts/{account_id}"),
        http.patch(f"/accounts/{account_id}", json={"name": "mine"}),
        http.patch(f"/accounts/{part.member_id}", json={"parent_id": account_id}),
        http.post("/accounts", json={"name": "x", "parent_id": account_id}),
        http.get(f"/accounts/{account_id}/entries"),
        http.get(f"/accounts/{account_id}/statements/2026-01"),
        http.get(f"/accounts/{account_id}/keys"),
        http.post(f"/accounts/{account_id}/keys", json={"name": "x"}),
        http.post(f"/accounts/{account_id}/keys/bulk", json={"name_prefix": "x"}),
        http.get("/keys", params={"account_id": account_id}),
        http.get(f"/keys/{key_id}"),
        http.patch(f"/keys/{key_id}", json={"enabled": False}),
        http.post(f"/keys/{key_id}/rotate"),
        http.get("/receipts", params={"account_id": account_id}),
        http.get(f"/receipts/{request_id}"),
    ]
    for answer in answers:
        assert_problem(answer, 404)
    assert list(part.operator.receipts()) == []
    assert part.operator.get("/keys", q=key_id)["items"] == []
    assert part.operator.get("/accounts", parent_id=account_id)["items"] == []
    leaked = part.operator.post("/keys/revoke", {"key": part.stranger.key}, 200)
    assert (leaked["revoked"], leaked["unknown"]) == ([], 1)
    assert part.stranger.http.get("/v1/models").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/accounts", {"name": "x", "wallet": "own"}),
        ("POST", "/accounts", {"name": "x", "book": "default"}),
        ("POST", "/accounts", {"name": "x", "credit_line": "5.00"}),
        ("PATCH", "/accounts/MEMBER", {"wallet": "own"}),
        ("PATCH", "/accounts/MEMBER", {"credit_line": "5.00"}),
        ("PATCH", "/accounts/MEMBER", {"book": "default"}),
        ("PATCH", "/accounts/OWN", {"limits": None}),
        ("PATCH", "/accounts/OWN", {"may_issue_keys": True}),
        ("POST", "/accounts/OWN/credits", {"amount": "5.00"}),
        ("GET", "/receipts?channel_id=chn_1", None),
    ],
)
def test_its_own_bounds_come_from_above(part: Part, method: str, path: str, body: Json | None) -> None:
    """Money, prices, and the account that it was given."""
    filled = path.replace("MEMBER", part.member_id).replace("OWN", part.account_id)
    problem = assert_problem(part.operator.http.request(method, filled, json=body), 403)
    assert problem["code"] == "whole_house_only"
    assert part.shop.operator.balance(part.account_id) == 10


def test_the_wallet_above_is_not_its_business(part: Part) -> None:
    """Of an operator whose accounts draw on a wallet that is not theirs."""
    made = part.shop.operator.post("/operators", {"name": "bob", "account_id": part.member_id})
    below = Operator(part.shop.gateway.url, made["token"])
    shown = below.account(part.member_id)
    assert (shown["paid_by"], shown["balance"], shown["held"], shown["credit_line"]) == (None, None, None, None)
    assert_problem(below.http.get(f"/accounts/{part.account_id}"), 404)
    below.close()


def test_an_operator_who_is_let_go_is_out_at_once(part: Part) -> None:
    """On every worker; let in again, the same token works."""
    path = f"/operators/{part.operator_id}"
    for enabled, code in ((False, 401), (True, 200)):
        assert part.shop.operator.patch(path, {"enabled": enabled})["enabled"] is enabled
        statuses = {_status(part, part.token) for _ in range(8)}
        assert statuses == {code}


def test_a_token_is_shown_once_and_is_no_other_key(part: Part) -> None:
    """Only its hash is kept; it opens no customer's door, and a customer's key none of the operators'."""
    listed = part.shop.operator.get("/operators", limit=1000)["items"]
    (shown,) = [operator for operator in listed if operator["id"] == part.operator_id]
    assert part.token not in str(listed) and shown["account_id"] == part.account_id
    assert part.token.startswith("tg-op-")
    assert (
        part.shop.operator.http.get(
            f"{part.shop.gateway.url}/v1/models", headers={"Authorization": f"Bearer {part.token}"}
        ).status_code
        == 401
    )
    for wrong in (part.token[:-1] + ("a" if part.token[-1] != "a" else "b"), part.reseller.key, "tg-op-"):
        assert _status(part, wrong) == 401


@pytest.mark.parametrize(
    ("body", "named"),
    [({"name": "x", "account_id": "acc_nobody"}, "account_id"), ({"name": "x"}, "account_id"), ({"name": ""}, "name")],
)
def test_a_bad_operator_is_a_problem(shop: Shop, body: Json, named: str) -> None:
    assert assert_problem(shop.operator.http.post("/operators", json=body), 400)["param"] == named


def _status(part: Part, token: str) -> int:
    operator = Operator(part.shop.gateway.url, token)
    try:
        return operator.http.get("/accounts").status_code
    finally:
        operator.close()


def test_guessed_tokens_are_refused_before_a_lookup(open_shop: OpenShop) -> None:
    """From one address; the admin key, which came from there before, is let in all the same."""
    shop = open_shop(TOLLGATE_WORKERS="1")
    assert shop.operator.http.get("/accounts").status_code == 200
    guesser = Operator(shop.gateway.url, "guess")
    said = [guesser.http.get("/accounts").status_code for _ in range(70)]
    assert (said[0], said[-1]) == (401, 429)
    assert int(guesser.http.get("/accounts").headers["retry-after-ms"]) <= 1000
    assert shop.operator.http.get("/accounts").status_code == 200
    guesser.close()
