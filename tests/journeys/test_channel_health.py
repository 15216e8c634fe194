"""Channels in trouble, through a real gateway: parked and returned, drained and resumed, tested and told."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.alerts.receivers import Receiver, receiver
from tests.answers import Answer
from tests.behaviours import Gate, answers, says
from tests.gateway import ROOT
from tests.operator_api import Json, assert_problem
from tests.servers import Fleet
from tests.shop import Shop
from tests.sse import read
from tests.upstreams import Street
from tests.waiting import until

UNPAID = says(402, {"error": {"message": "no money", "type": "billing"}})


@pytest.fixture
def shop(fleet: Fleet, database: str, street: Street) -> Iterator[Shop]:
    """Of a gateway whose parked credentials are tested soon."""
    shop = Shop(fleet.shared(database, "warden", TOLLGATE_RETEST_SECONDS="1"), street)
    yield shop
    shop.close()


@pytest.fixture
def inbox(street: Street) -> Iterator[Receiver]:
    with receiver(street) as opened:
        yield opened


def kinds(shop: Shop, channel: Json) -> list[str]:
    """Of what happened to a channel, oldest first."""
    return [each["kind"] for each in reversed(shop.operator.get(f"/channels/{channel['id']}/events")["items"])]


def health(shop: Shop, channel: Json) -> Json:
    items = shop.operator.get("/health/channels")["items"]
    return next(each for each in items if each["channel_id"] == channel["id"])


def tollgate(shop: Shop, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.cli", *words]
    environ = shop.gateway.process_environ
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_a_parked_credential_returns_when_its_vendor_heals(shop: Shop, inbox: Receiver) -> None:
    """The customer notices nothing; the operator is told of both, and nobody has to lift a hand."""
    hook = shop.operator.post("/webhooks", {"url": inbox.url, "kinds": ["channel.parked", "channel.returned"]})
    sick, well = shop.vendor(UNPAID), shop.vendor()
    model = shop.model()
    channel = shop.channel(sick, model, priority=2)
    shop.channel(well, model, priority=1)
    customer = shop.customer()

    assert customer.chat(model).status_code == 200
    until(lambda: "parked" in kinds(shop, channel), "it is parked", 10)
    until(lambda: health(shop, channel)["state"] == "parked", "its health says so", 10)
    assert "402" in health(shop, channel)["credentials"][0]["reason"]
    until(lambda: len(sick.requests) > 1, "it is tested", 15)
    sick.behaviour = answers()
    until(lambda: "returned" in kinds(shop, channel), "it returns", 30)
    served = len(sick.served)
    until(lambda: customer.chat(model).status_code == 200 and len(sick.served) > served, "it serves customers again")

    assert kinds(shop, channel)[:3] == ["created", "parked", "returned"]
    (returned,) = shop.operator.get(f"/channels/{channel['id']}/events", kind="returned")["items"]
    assert (returned["actor"], returned["credential_id"]) == (
        "schedule",
        health(shop, channel)["credentials"][0]["credential_id"],
    )

    def told() -> list[str]:
        about = [request.json for request in inbox.requests if request.json["data"]["subject"] == channel["id"]]
        return [each["type"] for each in about]

    until(lambda: len(told()) == 2, "both are told", 15)
    assert sorted(told()) == ["channel.parked", "channel.returned"]
    shop.operator.http.delete(f"/webhooks/{hook['id']}")


def test_an_operator_returns_it(shop: Shop) -> None:
    """By hand, without waiting for a test; asked for again it is no fault."""
    sick = shop.vendor(UNPAID)
    model = shop.model(shop.vendor())
    channel = shop.channel(sick, model, priority=9)
    shop.customer().chat(model)
    until(lambda: health(shop, channel)["state"] == "parked", "it is parked", 10)
    sick.behaviour = answers()

    for _ in range(2):
        shop.operator.post(f"/channels/{channel['id']}/return", {}, status=200)

    until(lambda: health(shop, channel)["state"] == "well", "it is back", 10)
    until(lambda: "returned" in kinds(shop, channel), "it is noted", 10)
    wrong = shop.operator.http.post(f"/channels/{channel['id']}/return", json={"credential_id": "crd_none"})
    assert assert_problem(wrong, 400)["param"] == "credential_id"


def test_a_drain_waits_for_its_last_stream(shop: Shop) -> None:
    """The stream ends as if nothing were; new requests go elsewhere; then the channel is off, and can be resumed."""
    gate = Gate()
    said = Answer(prompt_tokens=9, pieces=("one", " two", " three"))
    slow, other = shop.vendor(answers(said, after=2, then=gate)), shop.vendor()
    model = shop.model()
    channel = shop.channel(slow, model, priority=2)
    shop.channel(other, model, priority=1)
    customer = shop.customer()

    with customer.stream(model) as response:
        until(lambda: health(shop, channel)["in_flight"] == 1, "it is in flight", 10)
        shop.operator.post(f"/channels/{channel['id']}/drain", {}, status=200)
        assert customer.chat(model).status_code == 200
        assert (len(slow.requests), len(other.requests)) == (1, 1)
        assert health(shop, channel)["state"] == "draining"
        gate.open()
        told = read(response)
    assert (told.text, told.done, told.errors) == (said.text, True, [])

    until(lambda: kinds(shop, channel)[-1] == "drained", "the drain ends", 20)
    assert kinds(shop, channel) == ["created", "draining", "drained"]
    until(lambda: health(shop, channel)["state"] == "off", "it is off")
    shop.operator.post(f"/channels/{channel['id']}/resume", {}, status=200)
    assert kinds(shop, channel)[-1] == "resumed"
    customer.chat(model)
    assert len(slow.requests) == 2


def test_what_an_operator_changes_is_kept(shop: Shop) -> None:
    """Which fields, by whom and when, and nothing secret."""
    channel = shop.channel(shop.vendor(), shop.model())

    shop.operator.patch(f"/channels/{channel['id']}", {"weight": 7, "credentials": ["vendor-secret-new"]})

    page = shop.operator.get("/channel-events", channel_id=channel["id"], kind="changed")
    (event,) = page["items"]
    assert (event["reason"], event["actor"]) == ("weight from 1 to 7, credentials", "operator")
    assert page["next"] is None
    assert "vendor-secret" not in str(page)


def test_the_command_line_knows_the_same(shop: Shop) -> None:
    """What there is, how it is, and whether it answers: exit 1 where one does not."""
    good, bad = shop.vendor(), shop.vendor(says(500))
    model = shop.model()
    alive = shop.channel(good, model, credentials=["vendor-secret-1", "vendor-secret-2"])
    dead = shop.channel(bad, model)

    listed = tollgate(shop, "channel", "list", "--json")
    shown = tollgate(shop, "channel", "health", "--json")
    tested = tollgate(shop, "channel", "test", alive["name"], "--json")
    failed = tollgate(shop, "channel", "test", dead["id"], "--json")

    assert {alive["id"], dead["id"]} <= {each["id"] for each in json.loads(listed.stdout)}
    assert {alive["id"], dead["id"]} <= {each["channel_id"] for each in json.loads(shown.stdout)}
    results: list[dict[str, Any]] = json.loads(tested.stdout)
    assert (tested.returncode, [each["ok"] for each in results]) == (0, [True, True])
    assert [request.headers["authorization"] for request in good.requests] == [
        "Bearer vendor-secret-1",
        "Bearer vendor-secret-2",
    ]
    assert failed.returncode == 1
    assert json.loads(failed.stdout)[0]["http_status"] == 500
    for done in (listed, shown, tested, failed):
        assert "vendor-secret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("channel", "test", "nobody"), "nobody"),
        (("channel", "test"), "--all"),
        (("channel", "test", "a", "--all"), "--all"),
    ],
)
def test_the_command_line_says_what_is_wrong(shop: Shop, words: tuple[str, ...], said: str) -> None:
    done = tollgate(shop, *words)

    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
