"""The operator API keeps its contract: clear errors, writes that repeat safely, pages, secrets kept."""

from typing import Any

import httpx
import pytest

from tests.gateway import ADMIN_KEY
from tests.journeys.rough import works_everywhere
from tests.operator_api import assert_problem
from tests.shop import Shop
from tests.waiting import until

ACCOUNT = {"name": "acme"}
CREDIT = {"amount": "1.00", "memo": "m", "idempotency_key": "k"}
CHANNEL = {
    "name": "c",
    "provider": "openai",
    "base_url": "http://127.0.0.1:9/v1",
    "credentials": ["secret"],
    "models": {"public": "upstream"},
}
MODEL = {"prices": {"input": "1", "output": "1"}}
BAD: list[tuple[str, dict[str, Any], str, Any]] = [
    *(("POST /accounts", ACCOUNT, "name", value) for value in (None, 7, "")),
    *(
        ("POST /accounts/{id}/credits", CREDIT, "amount", value)
        for value in (None, "ten", 1.5, "NaN", "1e400", "0.0000000001", "9007199254.740993")
    ),
    *(("POST /accounts/{id}/keys", {"name": "k"}, "models", value) for value in ("all", [7])),
    *(("POST /accounts/{id}/keys", {"name": "k"}, "allowed_cidrs", value) for value in ("any", ["nowhere"])),
    *(("POST /accounts/{id}/keys", {"name": "k"}, "expires_at", value) for value in ("tomorrow", {})),
    *(
        ("POST /accounts/{id}/keys", {"name": "k"}, "limits", value)
        for value in ({"rpm": -1}, {"rpm": "many"}, {"rps": 1})
    ),
    *(("POST /channels", CHANNEL, "provider", value) for value in (None, "nobody")),
    *(("POST /channels", CHANNEL, "base_url", value) for value in (7, "ftp://vendor", "vendor")),
    *(("POST /channels", CHANNEL, "credentials", value) for value in ("one", [7])),
    *(("POST /channels", CHANNEL, "models", value) for value in (["public"], {"public": 7})),
    *(("POST /channels", CHANNEL, "weight", value) for value in (-1, "heavy")),
    *(("POST /channels", CHANNEL, "priority", value) for value in ("high", 1.5)),
    *(("POST /channels", CHANNEL, "timeouts", value) for value in ({"connect_ms": -1}, {"idle_ms": "long"})),
    *(("POST /channels", CHANNEL, "costs", value) for value in ({"upstream": {"input": -1}}, {"upstream": "1"})),
    *(
        ("PUT /models/bad-model", MODEL, "prices", value)
        for value in ("1", {"input": "-1", "output": "1"}, {"input": "x", "output": "1"})
    ),
    *(("PUT /models/bad-model", MODEL, "context_length", value) for value in (-1, "long")),
]


def test_bad_input_is_a_problem_that_names_the_field(shop: Shop) -> None:
    """Whatever is wrong with a field, the answer is a 400 that says which one; nothing was written."""
    http = shop.operator.http
    account_id = shop.customer(credit="0").account_id

    wrong = []
    for route, good, name, value in BAD:
        method, path = route.split(" ")
        body = {key: kept for key, kept in (good | {name: value}).items() if kept is not None}
        answer = http.request(method, path.replace("{id}", account_id), json=body)
        media = answer.headers.get("content-type", "").split(";")[0]
        if answer.status_code != 400 or media != "application/problem+json" or name not in answer.text:
            wrong.append((route, name, value, answer.status_code, answer.text))

    assert not wrong
    assert shop.operator.balance(account_id) == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff"])
def test_a_body_that_is_no_object_is_a_problem(shop: Shop, body: bytes) -> None:
    """Never a 500."""
    headers = {"Content-Type": "application/json"}
    assert_problem(shop.operator.http.post("/accounts", content=body, headers=headers), 400)


@pytest.mark.parametrize("key", ["", "wrong", ADMIN_KEY[:-1], ADMIN_KEY + "x", "ключ"])
def test_only_the_admin_key_opens_the_operator_api(shop: Shop, key: str) -> None:
    """Anything else is a 401, on reads as on writes; a customer's key is anything else, too."""
    customer = shop.customer()
    for token in (key.encode(), customer.key.encode()):
        headers = {"Authorization": (b"Bearer " + token).strip()}
        with httpx.Client(base_url=f"{shop.gateway.url}/admin/v1", headers=headers) as http:
            assert_problem(http.get(f"/accounts/{customer.account_id}"), 401)
            assert_problem(http.post("/accounts", json={"name": "intruder"}), 401)
            assert_problem(http.get("/ledger/verify"), 401)


def test_the_admin_key_is_no_customer_key(shop: Shop) -> None:
    """The operator's key opens no customer's door."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}

    assert httpx.get(f"{shop.gateway.url}/v1/models", headers=headers).status_code == 401


def test_what_is_not_there_is_a_404_problem(shop: Shop) -> None:
    """For every kind of thing that has an id."""
    http = shop.operator.http
    answers = [
        http.get("/accounts/nobody"),
        http.post("/accounts/nobody/credits", json=CREDIT),
        http.post("/accounts/nobody/keys", json={"name": "k"}),
        http.patch("/keys/nothing", json={"enabled": False}),
        http.patch("/channels/nothing", json={"weight": 2}),
        http.get("/no-such-page"),
    ]

    for answer in answers:
        assert_problem(answer, 404)


@pytest.mark.parametrize(
    "params",
    [{"cursor": "nonsense"}, {"limit": "many"}, {"limit": "-1"}, {"from": "noon"}, {"status": "sad"}],
)
def test_a_bad_filter_is_a_problem(shop: Shop, params: dict[str, str]) -> None:
    """It is named, rather than ignored."""
    problem = assert_problem(shop.operator.http.get("/receipts", params=params), 400)

    assert next(iter(params)) in str(problem)


def test_a_changed_channel_is_used_as_changed(shop: Shop) -> None:
    """New credentials and a new address apply to the requests that follow."""
    old, new = shop.vendor(), shop.vendor()
    model = shop.model()
    channel = shop.channel(old, model, credentials=["before"])
    customer = shop.customer()
    customer.chat(model)

    shop.operator.patch(f"/channels/{channel['id']}", {"credentials": ["after"], "base_url": new.base_url})

    until(lambda: customer.chat(model).status_code == 200 and new.requests, "the new address is used")
    assert old.requests[0].headers["authorization"] == "Bearer before"
    assert new.requests[0].headers["authorization"] == "Bearer after"


def test_health_says_it_is_alive_and_ready(shop: Shop) -> None:
    """Both without a key, for whoever watches."""
    for page in ("live", "ready"):
        assert httpx.get(f"{shop.gateway.url}/health/{page}").status_code == 200


def test_verify_says_what_it_checked(shop: Shop) -> None:
    """The verdict, the drift, and how much was looked at."""
    customer = shop.customer()
    shop.operator.wait_receipt(customer.chat(shop.model(shop.vendor())).headers["x-request-id"])

    verdict = shop.operator.get("/ledger/verify")

    assert (verdict["ok"], verdict["drift_nano"]) == (True, 0)
    assert verdict["checked"]


def test_what_is_set_up_works_at_once_on_every_worker(shop: Shop) -> None:
    """When a write of the operator has been answered, the next request is served by it, whichever worker gets it."""
    vendor, customer = shop.vendor(), shop.customer()

    served = [works_everywhere(customer, shop.model(vendor)) for _ in range(5)]

    assert served == [True] * 5


@pytest.mark.parametrize(
    ("body", "named"),
    [(b'{"overlap_seconds": -1}', "overlap_seconds"), (b'{"overlap": 1}', "overlap"), (b"{", "JSON")],
)
def test_a_bad_rotation_is_a_problem(shop: Shop, body: bytes, named: str) -> None:
    """Its body may be left out; one that is there is checked like any other, and the key stays as it was."""
    customer = shop.customer()

    problem = assert_problem(shop.operator.http.post(f"/keys/{customer.key_id}/rotate", content=body), 400)

    assert named in str(problem)
    assert customer.http.get("/v1/models").status_code == 200
