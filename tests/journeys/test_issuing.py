"""Customers who issue keys with their own: within its bounds, for as long as it works."""

import secrets
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.operator_api import Json
from tests.shop import Customer, Shop


def issuer_of(shop: Shop, *, account: Json | None = None, **key_options: object) -> Customer:
    """A customer whose account and key may issue keys."""
    account = {"name": f"issuer-{secrets.token_hex(4)}", "may_issue_keys": True, **(account or {})}
    account_id = shop.operator.post("/accounts", account)["id"]
    shop.operator.credit(account_id, "10.00", secrets.token_hex(8))
    return shop.customer(account_id=account_id, **{"may_issue": True, **key_options})


def issue(customer: Customer, **fields: object) -> Json:
    answer = customer.http.post("/v1/keys", json={"name": "sub", **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


def status(shop: Shop, key: str) -> int:
    """The worst of both workers."""
    headers = {"Authorization": f"Bearer {key}"}
    return max(httpx.get(f"{shop.gateway.url}/v1/models", headers=headers).status_code for _ in range(6))


def refused(answer: httpx.Response, status: int, code: str, param: str | None = None) -> None:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param), answer.text


def test_a_customer_issues_lists_and_ends_keys(shop: Shop) -> None:
    """Each is shown once, is the account's own, and says who issued it."""
    model = shop.model(shop.vendor())
    customer = issuer_of(shop, limits={"rpm": 100}, scopes=["chat", "keys", "models"])

    first, second = issue(customer, limits={"rpm": 5}, scopes=["chat", "models"]), issue(customer, name="other")

    assert (first["issued_by"], first["account_id"]) == (customer.key_id, customer.account_id)
    assert (first["limits"]["rpm"], second["limits"]["rpm"]) == (5, 100)
    assert second["may_issue"] is False
    headers = {"Authorization": f"Bearer {first['key']}"}
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
    served = httpx.post(f"{shop.gateway.url}/v1/chat/completions", json=body, headers=headers)
    assert shop.operator.wait_receipt(served.headers["x-request-id"])["key_id"] == first["id"]
    page = customer.http.get("/v1/keys", params={"limit": 1}).json()
    assert [key["id"] for key in page["data"]] == [first["id"]] and first["key"] not in str(page)
    rest = customer.http.get("/v1/keys", params={"cursor": page["next"]}).json()
    assert ([key["id"] for key in rest["data"]], rest["next"]) == ([second["id"]], None)
    ended = customer.http.delete(f"/v1/keys/{first['id']}")
    assert (ended.status_code, ended.json()["enabled"]) == (200, False)
    assert (status(shop, first["key"]), status(shop, second["key"])) == (401, 200)


@pytest.mark.parametrize(
    ("own", "wish", "param"),
    [
        ({"models": ["gpt-4*"]}, {"models": ["gpt-4o", "gpt-5"]}, "models[1]"),
        ({"allowed_cidrs": ["127.0.0.0/8"]}, {"allowed_cidrs": ["0.0.0.0/0"]}, "allowed_cidrs[0]"),
        ({"scopes": ["keys", "chat"]}, {"scopes": ["billing"]}, "scopes[0]"),
        ({"expires_at": "2090-01-01"}, {"expires_at": "2091-01-01"}, "expires_at"),
        ({"limits": {"tpm": 100}}, {"limits": {"tpm": 101}}, "limits.tpm"),
        (
            {"budgets": [{"unit": "usd", "amount": "5", "window": "day"}]},
            {"budgets": [{"unit": "usd", "amount": "5.01", "window": "day"}]},
            "budgets[0].amount",
        ),
        ({}, {"may_issue": True}, "may_issue"),
        ({}, {"enabled": False}, "enabled"),
        ({}, {"name": ""}, "name"),
        ({}, {"name": None}, "name"),
        ({}, {"limits": {"rpm": -1}}, "limits.rpm"),
    ],
)
def test_nothing_is_handed_on_that_the_issuer_lacks(shop: Shop, own: Json, wish: Json, param: str) -> None:
    """The answer names the field."""
    customer = issuer_of(shop, **own)
    refused(customer.http.post("/v1/keys", json={"name": "sub", **wish}), 400, "invalid_value", param)
    assert customer.http.get("/v1/keys").json()["data"] == []


@pytest.mark.parametrize(
    ("account", "key"),
    [({"may_issue_keys": False}, {}), ({}, {"may_issue": False})],
)
def test_both_the_account_and_the_key_have_to_be_allowed(shop: Shop, account: Json, key: Json) -> None:
    """What is taken away later is taken at once: nothing of it is remembered by the workers."""
    customer = issuer_of(shop, account=account, **key)
    for answer in (
        customer.http.post("/v1/keys", json={"name": "sub"}),
        customer.http.get("/v1/keys"),
        customer.http.delete("/v1/keys/key_1"),
    ):
        refused(answer, 403, "issuing_not_allowed")


def test_a_key_that_was_issued_issues_none(shop: Shop) -> None:
    """Unless an operator lets it; then its keys end with the first one's, too."""
    customer = issuer_of(shop)
    child = issue(customer)
    headers = {"Authorization": f"Bearer {child['key']}"}
    with httpx.Client(base_url=shop.gateway.url, headers=headers) as http:
        refused(http.post("/v1/keys", json={"name": "grandchild"}), 403, "issuing_not_allowed")
        shop.operator.patch(f"/keys/{child['id']}", {"may_issue": True})
        grandchild = http.post("/v1/keys", json={"name": "grandchild"}).json()
    keys = [customer.key, child["key"], grandchild["key"]]
    assert [status(shop, key) for key in keys] == [200] * 3

    shop.operator.patch(f"/keys/{customer.key_id}", {"enabled": False})
    assert [status(shop, key) for key in keys] == [401] * 3
    shop.operator.patch(f"/keys/{customer.key_id}", {"enabled": True})
    assert [status(shop, key) for key in keys] == [200, 401, 401]


def test_a_leaked_issuer_takes_its_keys_along(shop: Shop) -> None:
    """By the text of the issuer alone."""
    customer = issuer_of(shop)
    child = issue(customer)
    said = shop.operator.post("/keys/revoke", {"key": customer.key}, 200)
    assert said["revoked"][0]["issued"] == [child["id"]]
    assert [status(shop, key) for key in (customer.key, child["key"])] == [401, 401]


def test_keys_last_no_longer_than_their_issuer(shop: Shop) -> None:
    """From the start, and when its end is brought forward."""
    customer = issuer_of(shop, expires_at="2090-01-01T00:00:00Z")
    first, second = issue(customer), issue(customer, expires_at="2040-01-01")
    assert first["expires_at"] == "2090-01-01T00:00:00.000Z"

    soon = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="seconds")
    shown = shop.operator.patch(f"/keys/{customer.key_id}", {"expires_at": soon})["expires_at"]

    ends = [shop.operator.get(f"/keys/{key['id']}")["expires_at"] for key in (first, second)]
    assert ends == [shown, shown]


def test_nobody_ends_keys_of_others(shop: Shop) -> None:
    """Not those of another customer, not those of the same account that another key issued, not itself."""
    customer, stranger = issuer_of(shop), issuer_of(shop)
    sibling = shop.customer(account_id=customer.account_id, may_issue=True)
    child = issue(customer)
    for who in (stranger, sibling):
        for key_id in (child["id"], customer.key_id, who.key_id, "key_nothing"):
            refused(who.http.delete(f"/v1/keys/{key_id}"), 404, "not_found")
    assert status(shop, child["key"]) == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"name": "x", "colour": "red"}'])
def test_a_bad_body_is_refused_in_the_dialect(shop: Shop, body: bytes) -> None:
    """Never a 500."""
    answer = issuer_of(shop).http.post("/v1/keys", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")


@pytest.mark.parametrize("params", [{"limit": "x"}, {"limit": "0"}, {"limit": "²"}, {"cursor": "x"}])
def test_a_bad_page_is_refused(shop: Shop, params: dict[str, str]) -> None:
    answer = issuer_of(shop).http.get("/v1/keys", params=params)
    refused(answer, 400, "invalid_value", next(iter(params)))


def test_keys_are_not_put(shop: Shop) -> None:
    """Another method is told which there are."""
    answer = issuer_of(shop).http.put("/v1/keys", json={})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST, DELETE")
