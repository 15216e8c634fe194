"""`tollgate apply`, beside a running gateway: shown first, written whole, noticed at once, nothing left to do after."""

import json
import secrets
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.gateway import ROOT
from tests.operator_api import Json, assert_problem
from tests.shop import Shop
from tests.upstreams import Vendor

EXAMPLE = ROOT / "docs" / "examples" / "tollgate.yaml"


def _run(shop: Shop, *words: str, stdin: str = "", **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "apply", *words],
        cwd=ROOT,
        env=shop.gateway.process_environ | environ,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _applied(shop: Shop, declared: Json, *options: str, **environ: str) -> Json:
    done = _run(shop, "-", "--json", *options, stdin=json.dumps(declared), **environ)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _does(applied: Json) -> dict[str, str]:
    return {f"{change['kind']} {change['name']}": change["does"] for change in applied["changes"]}


def _fields(applied: Json, name: str) -> dict[str, tuple[Any, Any]]:
    (change,) = (change for change in applied["changes"] if change["name"] == name)
    return {each["field"]: (each["now"], each["then"]) for each in change["fields"]}


EXTRAS = {"service_tiers": {"priority": "2"}, "fields": {"web_search_options": "0.01"}}


@pytest.fixture
def tag() -> str:
    return secrets.token_hex(5)


def _house(tag: str, vendor: Vendor) -> Json:
    """One of each, under names of its own."""
    return {
        "models": {f"m-{tag}": {"prices": {"input": "2.5", "output": "10", **EXTRAS}, "context_length": 1000}},
        "books": {f"b-{tag}": {"multiplier": "0.5", "prices": {f"m-{tag}": {"input": "1", "output": "2"}}}},
        "accounts": {f"a-{tag}": {"book": f"b-{tag}"}},
        "channels": {
            f"c-{tag}": {
                "provider": "openai",
                "base_url": vendor.base_url,
                "credentials": [{"secret": "${VENDOR_KEY}", "limits": {"rpm": 100}}],
                "models": {f"m-{tag}": "upstream"},
                "costs": {"upstream": {"input": "1", "output": "4", **EXTRAS}},
                "shaping": {"headers": {"set": {"x-team": "${TEAM}"}}},
            }
        },
    }


def test_a_house_is_shown_then_set_up_then_nothing_is_left_to_do(shop: Shop, tag: str) -> None:
    vendor = shop.vendor()
    house = _house(tag, vendor)
    environ = {"VENDOR_KEY": "hush-0123456789", "TEAM": "hush-team"}

    shown = _applied(shop, house, "--dry-run", **environ)
    assert shown["applied"] is False
    assert set(_does(shown).values()) == {"new"}
    assert _fields(shown, f"m-{tag}")["prices.input"] == (None, "2.50")
    assert _fields(shown, f"m-{tag}")["prices.service_tiers.priority"] == (None, "2")
    assert _fields(shown, f"c-{tag}")["costs.upstream.fields.web_search_options"] == (None, "0.01")
    assert _fields(shown, f"c-{tag}")["credentials[0].secret"] == (None, "***")
    assert "hush" not in json.dumps(shown)
    assert _applied(shop, house, **environ)["applied"] is False, "nobody said --yes"
    assert_problem(shop.operator.http.get(f"/models/m-{tag}"), 404)

    done = _applied(shop, house, "--yes", **environ)
    assert done == shown | {"applied": True}
    customer = shop.customer()
    assert customer.chat(f"m-{tag}").status_code == 200, "the workers have noticed"
    sent = vendor.requests[0].headers
    assert (sent["authorization"], sent["x-team"]) == ("Bearer hush-0123456789", "hush-team")

    again = _applied(shop, house, "--yes", **environ)
    assert again["applied"] is False
    assert set(_does(again).values()) == {"unchanged"}
    assert len(shop.operator.get("/prices", model=f"m-{tag}", book="default")["items"]) == 1


def _put(shop: Shop, declared: Json, **params: Any) -> Json:
    """The same by the operator API."""
    answer = shop.operator.http.post("/apply", params=params, json=declared)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_only_what_differs_changes(shop: Shop, tag: str) -> None:
    """Fields that are not mentioned stay; a secret that changed is said to have, and no more."""
    house = _house(tag, shop.vendor())
    _put(shop, house)
    part = {
        "models": {f"m-{tag}": {"description": "new", "limits": {"rpm": 5}}},
        "books": {f"b-{tag}": {"limits": {"tpm": 6}}},
        "accounts": {f"a-{tag}": {"time_zone": "Europe/Berlin", "limits": {"rpd": 7}}},
        "channels": {
            f"c-{tag}": {"weight": 5, "shaping": {"headers": {"set": {"x-team": "hush"}}}, "limits": {"tpm": 9}}
        },
    }
    done = _put(shop, part)
    assert _fields(done, f"m-{tag}") == {"description": (None, "new"), "limits.rpm": (None, 5)}
    assert _fields(done, f"b-{tag}") == {"limits.tpm": (None, 6)}
    assert _fields(done, f"a-{tag}") == {"time_zone": ("UTC", "Europe/Berlin"), "limits.rpd": (None, 7)}
    assert _fields(done, f"c-{tag}") == {
        "weight": (1, 5),
        "limits.tpm": (None, 9),
        "shaping.headers.set.x-team": ("***", "*** (changed)"),
    }
    assert "hush" not in json.dumps(done)
    model = shop.operator.get(f"/models/m-{tag}")
    assert (model["prices"]["input"], model["context_length"]) == ("2.50", 1000)

    house["channels"][f"c-{tag}"]["credentials"] = ["hush-9876543210"]
    assert _fields(_put(shop, house), f"c-{tag}")["credentials[0].secret"] == ("***", "*** (changed)")


def test_a_model_is_sold_or_free_or_neither(shop: Shop, tag: str) -> None:
    name = f"m-{tag}"
    for sent, prices, free in (
        ({"prices": {"input": "1", "output": "2"}}, "1.00", False),
        ({"free": True}, "0.00", True),
        ({"description": "still"}, "0.00", True),
        ({"prices": {"input": "3", "output": "4"}}, "3.00", False),
        ({"prices": None}, None, False),
    ):
        _put(shop, {"models": {name: sent}})
        model = shop.operator.get(f"/models/{name}")
        assert ((model["prices"] or {}).get("input"), model["free"]) == (prices, free)


def test_all_of_it_or_none(shop: Shop, tag: str) -> None:
    """The last object is at fault: the first is not there either."""
    house = _house(tag, shop.vendor())
    house["channels"][f"c-{tag}"]["models"] = []
    done = _run(shop, "-", "--yes", stdin=json.dumps(house), VENDOR_KEY="hush", TEAM="t")
    assert done.returncode == 1
    assert f"'channels.c-{tag}.models'" in done.stderr
    assert_problem(shop.operator.http.get(f"/models/m-{tag}"), 404)


@pytest.mark.parametrize(
    ("declared", "path"),
    [
        ({"chanels": {}}, "chanels"),
        ({"models": []}, "models"),
        ({"models": {"m": {"price": {}}}}, "models.m.price"),
        ({"models": {"m": {"prices": {"input": "-1", "output": "1"}}}}, "models.m.prices.input"),
        ({"models": {"m": {"routing": {"retries": 9}}}}, "models.m.routing.retries"),
        ({"books": {"a/b": {}}}, "books.a/b.name"),
        ({"books": {"b-new": {"prices": {"nobody": {"input": "1", "output": "1"}}}}}, "books.b-new.prices.nobody"),
        ({"accounts": {"a-new": {"book": "nowhere"}}}, "accounts.a-new.book"),
        ({"channels": {"c-new": {"provider": "openai"}}}, "channels.c-new.models"),
        ({"channels": {"c-new": {"state": "gone"}}}, "channels.c-new.state"),
        ({"channels": {"c": {"provider": "openai", "models": {"a": "b"}, "name": "c"}}}, "channels.c.name"),
        ({"accounts": {"a": {"wallet": "shared"}}}, "accounts.a.wallet"),
        ({"accounts": {"a": {"time_zone": "Nowhere"}}}, "accounts.a.time_zone"),
        (
            {"channels": {"c": {"provider": "openai", "models": {"a": "b"}, "shaping": {"proxy": "x"}}}},
            "channels.c.shaping.proxy",
        ),
    ],
)
def test_a_fault_is_named_by_its_path(shop: Shop, declared: Json, path: str) -> None:
    answer = shop.operator.http.post("/apply", json=declared)
    assert assert_problem(answer, 400)["param"] == path, answer.text


def test_an_absent_channel_is_disabled_and_a_present_one_enabled(shop: Shop, tag: str) -> None:
    _put(shop, {"channels": _house(tag, shop.vendor())["channels"]})
    for state, change in (("absent", (True, False)), ("present", (False, True))):
        assert _fields(_put(shop, {"channels": {f"c-{tag}": {"state": state}}}), f"c-{tag}") == {"enabled": change}
    assert _put(shop, {"channels": {f"nobody-{tag}": {"state": "absent"}}})["changes"] == []


def test_two_of_one_name_are_nobodys(shop: Shop, tag: str) -> None:
    for _ in range(2):
        shop.operator.post("/accounts", {"name": f"a-{tag}"})
    answer = shop.operator.http.post("/apply", json={"accounts": {f"a-{tag}": {"book": "default"}}})
    problem = assert_problem(answer, 400)
    assert problem["param"] == f"accounts.a-{tag}"
    assert "there are 2 of this name" in problem["detail"]


def test_the_same_by_the_operator_api(shop: Shop, tag: str) -> None:
    house = _house(tag, shop.vendor())
    tried = _put(shop, house, dry_run=True)
    assert tried["applied"] is False
    assert_problem(shop.operator.http.get(f"/models/m-{tag}"), 404)
    assert _put(shop, house) == tried | {"applied": True}
    assert shop.customer().chat(f"m-{tag}").status_code == 200
    assert _put(shop, house)["applied"] is False


def test_two_who_declare_the_same_at_once_make_one_of_each(shop: Shop, tag: str) -> None:
    house = _house(tag, shop.vendor())
    with ThreadPoolExecutor(6) as pool:
        applied = [done["applied"] for done in pool.map(lambda _: _put(shop, house), range(6))]
    assert sorted(applied) == [False] * 5 + [True]


def test_the_example_of_the_documents(shop: Shop) -> None:
    """As people read it: a table first, then written, then nothing left."""
    first = _run(shop, str(EXAMPLE), "--dry-run", VENDOR_KEY="hush-0123456789")
    assert first.returncode == 0, first.stderr
    assert "Nothing is written." in first.stdout
    written = _run(shop, str(EXAMPLE), "--yes", VENDOR_KEY="hush-0123456789")
    assert written.returncode == 0, written.stderr
    assert "openai-main" in written.stdout
    assert "Written." in written.stdout
    again = _run(shop, str(EXAMPLE), "--yes", VENDOR_KEY="hush-0123456789")
    assert "0 new, 0 changed, 5 unchanged." in again.stdout
    assert "hush" not in first.stdout + written.stdout + again.stdout


def test_a_file_that_is_not_there_or_names_an_unset_variable(shop: Shop) -> None:
    assert "'file': can't be read" in _run(shop, "/nowhere.yaml").stderr
    unset = _run(shop, str(EXAMPLE))
    assert (unset.returncode, unset.stdout) == (1, "")
    assert "'channels.openai-main.credentials[0].secret': the environment has no variable VENDOR_KEY" in unset.stderr
