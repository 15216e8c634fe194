"""Webhooks and alerts through a real gateway: set up by the operator, told by its warden."""

import os
import re
import signal
from collections.abc import Iterator

import pytest

from tests.alerts.receivers import Receiver, is_genuine, receiver
from tests.behaviours import says
from tests.journeys.rough import OpenShop
from tests.operator_api import Json, Operator, assert_problem
from tests.shop import Shop
from tests.upstreams import Street
from tests.waiting import until

WARDEN = re.compile(r"\[(\d+)\]: this worker is the warden now")


@pytest.fixture
def inbox(street: Street) -> Iterator[Receiver]:
    with receiver(street) as opened:
        yield opened


def new_hook(operator: Operator, inbox: Receiver, **fields: object) -> Json:
    return operator.post("/webhooks", {"url": inbox.url, **fields})


def alert_of(operator: Operator, alert_id: str) -> Json:
    return next(each for each in operator.get("/alerts", limit=1000)["items"] if each["id"] == alert_id)


def test_a_webhook_is_tested(shop: Shop, inbox: Receiver) -> None:
    """The test arrives signed with the secret that was shown once; a receiver that fails is tried again."""
    operator = shop.operator
    hook = new_hook(operator, inbox, kinds=["channel.parked"])
    inbox.then(says(503))

    alert_id = operator.post(f"/webhooks/{hook['id']}/test", {}, status=202)["alert_id"]

    def received() -> bool:
        return alert_of(operator, alert_id)["deliveries"][0]["status"] == "received"

    until(received, "the test is received", seconds=20)
    (delivery,) = alert_of(operator, alert_id)["deliveries"]
    assert (delivery["webhook_id"], delivery["attempts"]) == (hook["id"], 2)
    assert inbox.kinds == ["webhook.test"] * 2
    assert all(is_genuine(request, hook["secret"]) for request in inbox.requests)
    again = operator.post(f"/alerts/{alert_id}/resend", {}, status=202)
    assert again["deliveries"] == 1
    until(lambda: len(inbox.requests) == 3, "it is sent again")
    operator.http.delete(f"/webhooks/{hook['id']}")


def test_a_webhooks_secret_is_shown_once(shop: Shop, inbox: Receiver) -> None:
    """Afterwards nobody is told it, and nothing keeps it as it is."""
    operator = shop.operator
    hook = new_hook(operator, inbox)

    shown = [
        operator.http.get("/webhooks").text,
        operator.http.get(f"/webhooks/{hook['id']}").text,
        operator.http.patch(f"/webhooks/{hook['id']}", json={"kinds": None}).text,
        operator.http.delete(f"/webhooks/{hook['id']}").text,
    ]

    assert hook["secret"].startswith("whsec_")
    for text in [*shown, shop.gateway.log]:
        assert hook["secret"] not in text
        assert hook["secret"].removeprefix("whsec_") not in text


def test_a_webhook_is_changed_and_disabled(shop: Shop, inbox: Receiver) -> None:
    """A disabled one is sent nothing, not even a test, until it is enabled again."""
    operator = shop.operator
    hook = new_hook(operator, inbox)
    path = f"/webhooks/{hook['id']}"

    changed = operator.patch(path, {"kinds": ["budget.*"], "url": "https://example.com/hook"})
    disabled = operator.http.delete(path).json()

    assert (changed["kinds"], changed["url"]) == (["budget.*"], "https://example.com/hook")
    assert disabled["enabled"] is False
    assert_problem(operator.http.post(f"{path}/test"), 400)
    assert operator.patch(path, {"enabled": True})["enabled"] is True
    operator.http.delete(path)


BAD: list[tuple[Json, str]] = [
    ({}, "url"),
    ({"url": "ftp://example.com"}, "url"),
    ({"url": "https://"}, "url"),
    ({"url": "https://me:secret@example.com"}, "url"),
    ({"url": "http://[::1"}, "url"),
    ({"url": "https://example.com/a b"}, "url"),
    ({"url": "https://example.com", "kinds": []}, "kinds"),
    ({"url": "https://example.com", "kinds": ["channel.parked", "Not a kind"]}, "kinds[1]"),
    ({"url": "https://example.com", "account_id": "acc_none"}, "account_id"),
    ({"url": "https://example.com", "secret": "mine"}, "secret"),
]


@pytest.mark.parametrize(("body", "named"), BAD, ids=[f"{named}-{i}" for i, (_, named) in enumerate(BAD)])
def test_a_bad_webhook_is_a_problem(shop: Shop, body: Json, named: str) -> None:
    """It names the field, and repeats no password."""
    problem = assert_problem(shop.operator.http.post("/webhooks", json=body), 400)

    assert problem["param"] == named
    assert "secret@" not in str(problem)


@pytest.mark.parametrize(
    ("path", "params", "named"),
    [
        ("/alerts", {"status": "lost"}, "status"),
        ("/alerts", {"cursor": "x"}, "cursor"),
        ("/channel-events", {"kind": "exploded"}, "kind"),
        ("/channel-events", {"from": "noon"}, "from"),
        ("/channel-events", {"limit": "0"}, "limit"),
        ("/channels/chn_1/events", {"to": "noon"}, "to"),
    ],
)
def test_a_bad_filter_is_a_problem(shop: Shop, path: str, params: Json, named: str) -> None:
    assert assert_problem(shop.operator.http.get(path, params=params), 400)["param"] == named


@pytest.mark.parametrize("path", ["/webhooks/whk_none", "/channels/chn_none/balance"])
def test_what_is_not_there(shop: Shop, path: str) -> None:
    assert_problem(shop.operator.http.get(path), 404)


def test_another_worker_takes_over(open_shop: OpenShop, inbox: Receiver) -> None:
    """The warden is killed: within seconds another one tells the alerts."""
    shop = open_shop()
    hook = new_hook(shop.operator, inbox, kinds=["channel.*"])
    first = int(until(lambda: WARDEN.findall(shop.gateway.log), "there is a warden", seconds=10)[0])

    os.kill(first, signal.SIGKILL)

    shop.operator.close()
    shop.operator = Operator(shop.gateway.url)
    until(lambda: WARDEN.findall(shop.gateway.log)[1:], "there is another warden", seconds=15)
    shop.operator.post(f"/webhooks/{hook['id']}/test", {}, status=202)
    until(lambda: inbox.kinds == ["webhook.test"], "it tells the test", seconds=15)
    shop.gateway.stop()
