"""Customer keys at the operator's hands: issued, found again, rotated, revoked."""

import csv
import io
import json
import secrets
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import redis

from app.base.redis import embedded_url
from tests.gateway import ROOT
from tests.journeys.rough import OpenShop
from tests.operator_api import Json, assert_problem
from tests.shop import Customer, Shop
from tests.waiting import until


def status(shop: Shop, key: str, path: str = "/v1/models", **headers: str) -> int:
    headers = {"Authorization": f"Bearer {key}", **headers}
    return httpx.get(f"{shop.gateway.url}{path}", headers=headers).status_code


def ended_everywhere(shop: Shop, key: str) -> bool:
    """On connections of their own, which spread over the workers."""
    return all(status(shop, key) == 401 for _ in range(8))


def test_all_of_a_key_is_shown_as_it_was_set(shop: Shop) -> None:
    """And changed one by one; the secret is never among it."""
    sent: Json = {
        "name": "laptop",
        "note": "for the trip",
        "tags": ["mobile", "eu", "mobile"],
        "owner": "ada@example.com",
        "models": ["gpt-4*", "small"],
        "allowed_cidrs": ["192.0.2.0/24", "2001:db8::/32"],
        "scopes": ["chat", "models"],
        "limits": {"rpm": 3, "tpd": 5_000_000_000},
        "budgets": [{"unit": "requests", "amount": 100, "window": "week"}],
        "may_issue": True,
    }
    key = shop.customer()
    issued = shop.operator.new_key(key.account_id, **sent)
    shown = shop.operator.get(f"/keys/{issued['id']}")

    assert issued.pop("key") not in str(shown)
    assert shown == issued
    assert {name: shown[name] for name in sent if name not in ("tags", "limits")} == {
        name: value for name, value in sent.items() if name not in ("tags", "limits")
    }
    assert shown["tags"] == ["mobile", "eu"]
    assert {name: limit for name, limit in shown["limits"].items() if limit} == sent["limits"]
    changed = shop.operator.patch(f"/keys/{issued['id']}", {"scopes": None, "note": ""})
    assert changed == shown | {"scopes": None, "note": ""}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"scopes": ["chat", "everything"]}, "scopes"),
        ({"models": [""]}, "models[0]"),
        ({"models": ["x" * 201]}, "models[0]"),
        ({"tags": ["x" * 61]}, "tags"),
        ({"allowed_cidrs": ["192.0.2.0/24", "192.0.2.1/24"]}, "allowed_cidrs[1]"),
        ({"owner": "x" * 201}, "owner"),
        ({"limits": {"rpd": -1}}, "limits.rpd"),
        ({"budgets": [{"unit": "eur", "amount": "5", "window": "day"}]}, "budgets[0].unit"),
        ({"issued_by": "key_1"}, "issued_by"),
    ],
)
def test_bad_fields_of_a_key_are_named(shop: Shop, fields: Json, named: str) -> None:
    """At its issue, in bulk and later."""
    customer = shop.customer()
    http = shop.operator.http
    answers = [
        http.post(f"/accounts/{customer.account_id}/keys", json={"name": "x", **fields}),
        http.post(f"/accounts/{customer.account_id}/keys/bulk", json={"name_prefix": "x", **fields}),
        http.patch(f"/keys/{customer.key_id}", json=fields),
    ]
    for answer in answers:
        assert named in assert_problem(answer, 400)["detail"], answer.text


def test_a_key_opens_the_doors_of_its_scopes(shop: Shop) -> None:
    """Every route has a scope; one that the key lacks is a 403 that names it."""
    model = shop.model(shop.vendor())
    customer = shop.customer(scopes=["chat"])
    assert customer.chat(model).status_code == 200
    doors = {
        "/v1/models": "models",
        "/v1/receipts/req_1": "receipts",
        "/dashboard/billing/subscription": "billing",
        "/v1/keys": "keys",
    }
    for path, scope in doors.items():
        answer = customer.http.get(path)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["type"]) == (403, "scope_not_allowed", "permission_error")
        assert f"`{scope}`" in error["message"]


def test_models_by_pattern(shop: Shop) -> None:
    """What the pattern has is served and listed, the rest is neither."""
    vendor = shop.vendor()
    models = [shop.model(vendor) for _ in range(2)]
    customer = shop.customer(models=[f"{models[0][:-2]}*"])

    assert [customer.chat(model).status_code for model in models] == [200, 403]
    listed = [each["id"] for each in customer.http.get("/v1/models").json()["data"]]
    assert models[0] in listed and models[1] not in listed


def test_keys_are_found_by_tag_owner_and_text(shop: Shop) -> None:
    """Over all accounts, and within one."""
    word = secrets.token_hex(4)
    mine, other = shop.customer().account_id, shop.customer().account_id
    first = shop.operator.new_key(mine, name=f"{word}-A", owner=f"ada-{word}", tags=[f"eu-{word}", "100%"])["id"]
    second = shop.operator.new_key(other, name="b", note=f"see {word}_a", tags=[f"eu-{word}"])["id"]

    def found(path: str = "/keys", **params: str) -> list[str]:
        return [key["id"] for key in shop.operator.get(path, **params)["items"]]

    assert found(tag=f"eu-{word}") == [first, second]
    assert found(tag=f"eu-{word}", account_id=mine) == [first]
    assert found(f"/accounts/{other}/keys", tag=f"eu-{word}") == [second]
    assert found(tag=f"eu-{word[:-1]}") == []
    assert found(owner=f"ada-{word}") == [first]
    assert found(q=word.upper()) == [first, second]
    assert found(q=f"{word}_a") == [second], "an underscore is an underscore"
    assert found(q=f"{word}%") == []
    assert found(q=first) == [first]


def test_keys_in_bulk(shop: Shop) -> None:
    """As CSV or JSON, shown this once; all of them work."""
    account_id = shop.customer().account_id
    body = {"count": 12, "name_prefix": "seat", "limits": {"rpm": 5}, "tags": ["bulk"]}
    answer = shop.operator.http.post(f"/accounts/{account_id}/keys/bulk", params={"format": "csv"}, json=body)

    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["name"] for row in rows] == [f"seat-{number:02d}" for number in range(1, 13)]
    assert {status(shop, row["key"]) for row in rows} == {200}
    kept = shop.operator.get(f"/accounts/{account_id}/keys", tag="bulk")["items"]
    assert [key["id"] for key in kept] == [row["id"] for row in rows]
    assert {key["limits"]["rpm"] for key in kept} == {5}
    made = shop.operator.post(f"/accounts/{account_id}/keys/bulk", {"count": 2, "name_prefix": "x"})["items"]
    assert len({key["key"] for key in made}) == 2
    for bad in ({"count": 0}, {"count": 1001}, {"count": 2, "name": "x"}):
        path = f"/accounts/{account_id}/keys/bulk"
        assert_problem(shop.operator.http.post(path, json={"name_prefix": "x", **bad}), 400)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("KEY", id="the key alone"),
        pytest.param('10:31 WARN {"authorization": "Bearer KEY", "n": 1}', id="a line of a log"),
        pytest.param("?token=KEY&x=1 KEY\nxKEYx", id="more than once, with letters around it"),
    ],
)
def test_a_leaked_key_is_ended_by_its_text(shop: Shop, text: str) -> None:
    """Wherever it was pasted from; other keys of the account work on."""
    customer = shop.customer()
    other = shop.operator.new_key(customer.account_id)["key"]
    assert (status(shop, customer.key), status(shop, other)) == (200, 200)

    answer = shop.operator.post("/keys/revoke", {"key": text.replace("KEY", customer.key)}, 200)

    (revoked,) = answer["revoked"]
    assert (revoked["id"], revoked["whole"], revoked["enabled"], answer["unknown"]) == (
        customer.key_id,
        True,
        False,
        0,
    )
    assert customer.key not in str(answer)
    assert ended_everywhere(shop, customer.key)
    assert status(shop, other) == 200
    again = shop.operator.post("/keys/revoke", {"key": customer.key}, 200)
    assert [key["id"] for key in again["revoked"]] == [customer.key_id]


def test_a_leaked_secret_that_was_rotated_away_ends_alone(shop: Shop) -> None:
    """Its successor is in good hands, and works on."""
    customer = shop.customer()
    path = f"/keys/{customer.key_id}/rotate"
    later = shop.operator.post(path, {"overlap_seconds": 3600})["key"]
    assert (status(shop, customer.key), status(shop, later)) == (200, 200)

    answer = shop.operator.post("/keys/revoke", {"key": customer.key}, 200)

    assert answer["revoked"][0]["whole"] is False
    assert ended_everywhere(shop, customer.key)
    assert status(shop, later) == 200


@pytest.mark.parametrize("text", ["", "sk-nothing", "no key in here"])
def test_a_text_without_a_key_is_a_problem(shop: Shop, text: str) -> None:
    assert assert_problem(shop.operator.http.post("/keys/revoke", json={"key": text}), 400)["param"] == "key"


def test_two_rotations_at_once_leave_one_secret_without_an_end(shop: Shop) -> None:
    """Whoever comes second waits, and rotates what the first has made."""
    for _ in range(3):
        customer = shop.customer()
        made = []

        def rotate(customer: Customer = customer, made: list[str] = made) -> None:
            made.append(shop.operator.post(f"/keys/{customer.key_id}/rotate", {"overlap_seconds": 0})["key"])

        rotators = [threading.Thread(target=rotate) for _ in range(4)]
        for rotator in rotators:
            rotator.start()
        for rotator in rotators:
            rotator.join()
        assert status(shop, customer.key) == 401
        assert sorted(status(shop, key) for key in made) == [200, 401, 401, 401]
        assert len(shop.operator.get(f"/accounts/{customer.account_id}/keys")["items"]) == 1


def test_a_key_revoked_while_it_is_used_serves_what_it_has_begun(shop: Shop) -> None:
    """Requests race with the revocation: each is served and on the books, or refused; after the answer, none is."""
    model = shop.model(shop.vendor())
    customer = shop.customer()
    answers: list[httpx.Response] = []
    revoked = threading.Event()

    def use() -> None:
        headers = {"Authorization": f"Bearer {customer.key}"}
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
        with httpx.Client(base_url=shop.gateway.url, headers=headers, timeout=20) as http:
            while not revoked.is_set():
                answers.append(http.post("/v1/chat/completions", json=body))

    users = [threading.Thread(target=use) for _ in range(3)]
    for user in users:
        user.start()
    until(lambda: len(answers) > 5, "the key is used")
    shop.operator.post("/keys/revoke", {"key": customer.key}, 200)
    refused = customer.chat(model)
    revoked.set()
    for user in users:
        user.join()

    assert refused.status_code == 401
    served = [answer for answer in answers if answer.status_code == 200]
    assert {answer.status_code for answer in answers} <= {200, 401, 429}
    shop.operator.wait_receipts(len(served), account_id=customer.account_id)
    assert shop.operator.held(customer.account_id) == 0


def test_when_and_from_where_a_key_was_used(shop: Shop) -> None:
    """Written a moment later, and not at each request."""
    customer = shop.customer()
    assert shop.operator.get(f"/keys/{customer.key_id}")["last_used_at"] is None
    before = datetime.now(UTC)
    for _ in range(3):
        assert customer.http.get("/v1/models").status_code == 200

    shown = until(
        lambda: (key := shop.operator.get(f"/keys/{customer.key_id}"))["last_used_at"] and key, "it is written", 30
    )

    used = datetime.fromisoformat(shown["last_used_at"])
    assert before - timedelta(seconds=1) <= used <= datetime.now(UTC)
    assert shown["last_used_address"] == "127.0.0.1"


def test_addresses_are_believed_behind_a_trusted_proxy_only(shop: Shop, open_shop: OpenShop) -> None:
    """Without one, whatever the header says, it is the peer's address that counts."""
    proxied = open_shop(TOLLGATE_TRUSTED_PROXIES="127.0.0.0/8, 10.0.0.0/8", TOLLGATE_WORKERS="1")
    options = {"allowed_cidrs": ["203.0.113.0/24", "2001:db8::/32"]}
    cases = [
        ("203.0.113.9", 200),
        ("198.51.100.1, 203.0.113.9", 200),
        ("203.0.113.9, 10.1.1.1", 200),
        ("2001:db8::5", 200),
        ("203.0.113.9, 198.51.100.1", 403),
        ("nonsense", 403),
        ("", 403),
    ]
    key = proxied.customer(**options).key
    assert [status(proxied, key, **{"X-Forwarded-For": sent}) for sent, _ in cases] == [code for _, code in cases]
    direct = shop.customer(**options).key
    assert {status(shop, direct, **{"X-Forwarded-For": sent}) for sent, _ in cases} == {403}


def test_guesses_are_refused_before_a_good_key_is(open_shop: OpenShop) -> None:
    """From one address; a key that is known from there keeps working, and other addresses do not notice."""
    shop = open_shop(TOLLGATE_TRUSTED_PROXIES="127.0.0.1", TOLLGATE_WORKERS="1")
    customer = shop.customer()
    here = {"X-Forwarded-For": "203.0.113.9"}
    assert status(shop, customer.key, **here) == 200

    said = [status(shop, "sk-guess", **here) for _ in range(70)]

    assert said[0] == 401 and said[-1] == 429
    answer = httpx.get(f"{shop.gateway.url}/v1/models", headers={"Authorization": "Bearer x", **here})
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    assert int(answer.headers["retry-after-ms"]) <= 1000
    assert status(shop, customer.key, **here) == 200
    assert status(shop, "sk-guess", **{"X-Forwarded-For": "203.0.113.10"}) == 401


def test_a_revocation_bites_though_announcements_are_cut(open_shop: OpenShop) -> None:
    """However often the link is cut: a moment later no worker lets the key in."""
    shop = open_shop()
    customer = shop.customer()
    gateway = shop.gateway
    link = redis.Redis.from_url(gateway.environ.get("TOLLGATE_REDIS_URL") or embedded_url(gateway.data_dir))
    assert not ended_everywhere(shop, customer.key)
    cutting = threading.Event()

    def cut() -> None:
        while not cutting.is_set():
            link.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            cutting.wait(0.02)

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        for enabled in (False, True, False):
            shop.operator.patch(f"/keys/{customer.key_id}", {"enabled": enabled})
            expected = {200 if enabled else 401}
            until(lambda expected=expected: {status(shop, customer.key) for _ in range(8)} == expected, "it bites", 5.0)
    finally:
        cutting.set()
        cutter.join()
        link.close()


def tollgate(shop: Shop, *words: str, text: str = "") -> str:
    """What the command prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", *words],
        cwd=ROOT,
        env=shop.gateway.process_environ,
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_keys_at_the_command_line(shop: Shop, tmp_path: Path) -> None:
    """Issued into a file that its owner alone can read, listed, and revoked by a text: the workers hear of it."""
    account_id = shop.customer().account_id
    file = tmp_path / "keys.csv"
    tollgate(shop, "keys", "issue", account_id, "--count", "3", "--prefix", "seat", "--tag", "cli", "--csv", str(file))
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert (file.stat().st_mode & 0o777, [row["name"] for row in rows]) == (0o600, ["seat-1", "seat-2", "seat-3"])
    assert status(shop, rows[0]["key"]) == 200

    listed = json.loads(tollgate(shop, "keys", "list", "--account", account_id, "--tag", "cli", "--json"))
    assert [key["id"] for key in listed] == [row["id"] for row in rows]

    said = json.loads(tollgate(shop, "keys", "revoke", "--json", text=f"leaked: {rows[0]['key']}\n"))
    assert [key["id"] for key in said["revoked"]] == [rows[0]["id"]]
    assert rows[0]["key"] not in str(said)
    assert ended_everywhere(shop, rows[0]["key"])
    assert status(shop, rows[1]["key"]) == 200
