"""Routing as customers and operators see it, over two workers: breakers, credentials, limits, conversations."""

import json
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import pytest

from tests.behaviours import answers, says
from tests.gateway import ROOT
from tests.operator_api import assert_problem
from tests.shop import Customer, Shop
from tests.upstreams import Vendor
from tests.waiting import until


def _ask(customer: Customer, model: str, times: int = 1) -> Counter[int]:
    return Counter(customer.chat(model).status_code for _ in range(times))


def _model_of(shop: Shop, *vendors: Vendor, **options: Any) -> str:
    """Served by all of them alike."""
    model = shop.model(**options)
    for vendor in vendors:
        shop.channel(vendor, model)
    return model


def _explain(shop: Shop, customer: Customer, model: str, **more: str) -> dict[str, Any]:
    return shop.operator.get("/routes/explain", key_id=customer.key_id, model=model, **more)


def test_a_broken_channel_is_left_alone_and_comes_back(shop: Shop) -> None:
    """Customers notice nothing; the vendor is spared; one probe at a time brings it back, on every worker."""
    sick, well = shop.vendor(says(500)), shop.vendor()
    model = shop.model(routing={"strategy": "weighted"})
    shop.channel(sick, model, priority=10)
    shop.channel(well, model)
    customer = shop.customer()
    assert _ask(customer, model, 60) == {200: 60}
    assert len(sick.requests) < 30, "two workers open their breakers within a few failures each, or are told"
    until(lambda: "HTTP 500" in str(_explain(shop, customer, model)["ways"]), "the operator sees why")
    sick.behaviour = answers()
    served = until(lambda: _served_by(sick, customer, model), "the channel is back", 30)
    assert served


def _served_by(vendor: Vendor, customer: Customer, model: str) -> bool:
    before = len(vendor.served)
    assert _ask(customer, model, 4) == {200: 4}
    return len(vendor.served) - before == 4


def test_a_denied_credential_rests_while_the_other_serves(shop: Shop) -> None:
    """The vendor's 401 is the operator's problem: every request is served, and the operator is told why."""
    vendor = shop.vendor()
    model = shop.model()
    channel = shop.channel(vendor, model, credentials=["vendor-good", "vendor-bad"])
    vendor.behaviour = _only("vendor-good")
    customer = shop.customer()
    assert _ask(customer, model, 40) == {200: 40}
    denied = [request for request in vendor.requests if "vendor-bad" in request.headers["authorization"]]
    assert 1 <= len(denied) <= 4, "a worker or two found out, and told the others"

    def parked() -> list[Any]:
        return [way for way in _explain(shop, customer, model)["ways"] if "parked" in way["reason"]]

    (way,) = until(parked, "the explanation says so")
    assert way["channel_id"] == channel["id"]
    assert "vendor-bad" not in json.dumps(way)


def _only(secret: str) -> Any:
    good, bad = answers(), says(401, {"error": {"message": "Incorrect API key provided"}})

    async def behave(exchange: Any) -> None:
        allowed = secret in exchange.request.headers["authorization"]
        await (good if allowed else bad)(exchange)

    return behave


def test_a_vendors_limit_is_kept_by_all_workers(shop: Shop) -> None:
    """Ten requests a minute: the vendor never sees more, and what is over goes to the next channel."""
    tight, wide = shop.vendor(), shop.vendor()
    model = shop.model()
    shop.channel(tight, model, priority=10, limits={"rpm": 10})
    shop.channel(wide, model)
    customer = shop.customer()
    started = time.monotonic()
    assert _ask(customer, model, 30) == {200: 30}
    allowed = 1 + (time.monotonic() - started) / 6
    assert 1 <= len(tight.served) <= allowed + 1
    assert len(tight.served) + len(wide.served) == 30
    reasons = [way["reason"] for way in _explain(shop, customer, model)["ways"]]
    assert any("at its vendor's limit until" in reason for reason in reasons) or len(tight.served) < allowed


def test_all_vendors_limited_says_when_to_come_back(shop: Shop) -> None:
    vendor = shop.vendor(says(429, {"error": {"message": "slow down"}}, retry_after="40"))
    model = shop.model(vendor)
    customer = shop.customer()
    answer = customer.chat(model)
    assert answer.status_code == 503
    assert 38 <= int(answer.headers["retry-after"]) <= 40
    until(lambda: "429 holds until" in _explain(shop, customer, model)["ways"][0]["reason"], "all workers know")
    asked = len(vendor.requests)
    assert _ask(customer, model, 6) == {503: 6}
    assert len(vendor.requests) <= asked + 1


def test_a_conversation_stays_on_one_channel_on_every_worker(shop: Shop) -> None:
    vendors = [shop.vendor() for _ in range(3)]
    model = _model_of(shop, *vendors, routing={"sticky": "on"})
    customer = shop.customer()
    for i in range(12):
        assert customer.chat(model, user="conversation 7", messages=[{"role": "user", "content": f"{i}"}]).is_success
    assert sorted(len(vendor.served) for vendor in vendors) == [0, 0, 12]
    (first, *_) = _explain(shop, customer, model, conversation="conversation 7")["ways"]
    serving = next(vendor for vendor in vendors if vendor.served)
    channels = {channel["id"]: channel for channel in shop.operator.get("/channels", limit=1000)["items"]}
    assert channels[first["channel_id"]]["base_url"] == serving.base_url


@pytest.mark.parametrize("by", ["id", "secret"])
def test_the_command_line_explains(shop: Shop, by: str) -> None:
    """Beside the running gateway, from the database and what its workers share; a secret is never printed."""
    model = _model_of(shop, shop.vendor(), shop.vendor())
    customer = shop.customer()
    key = customer.key_id if by == "id" else customer.key
    told = _run(shop, "route", "explain", "--key", key, "--model", model, "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout) == _explain(shop, customer, model)
    shown = _run(shop, "route", "explain", "--key", key, "--model", model)
    assert shown.returncode == 0, shown.stderr
    assert "weight 1 of 2" in " ".join(shown.stdout.split())
    assert customer.key not in told.stdout + shown.stdout


def _run(shop: Shop, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        cwd=ROOT,
        env=shop.gateway.process_environ | {"COLUMNS": "250"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_what_would_be_refused_is_said(shop: Shop) -> None:
    model = shop.model(shop.vendor())
    assert _explain(shop, shop.customer(models=["another"]), model)["problem"] == "the key may not use this model"
    assert _explain(shop, shop.customer(models=[model]), model)["problem"] is None


@pytest.mark.parametrize(
    ("asked", "status", "param"),
    [
        ({"model": "sandbox"}, 400, "key_id"),
        ({"key_id": "key_1"}, 400, "model"),
        ({"key_id": "key_1", "model": "sandbox"}, 404, None),
    ],
)
def test_a_question_that_makes_no_sense(shop: Shop, asked: dict[str, str], status: int, param: str | None) -> None:
    problem = assert_problem(shop.operator.http.get("/routes/explain", params=asked), status)
    assert problem.get("param") == param


def test_a_model_that_is_not_there(shop: Shop) -> None:
    customer = shop.customer()
    asked = {"key_id": customer.key_id, "model": "no-such-model"}
    assert_problem(shop.operator.http.get("/routes/explain", params=asked), 404)
