"""The courier: every alert reaches every webhook that wants it, signed, however often it must be tried."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import update

from app.alerts.courier import ATTEMPTS_MOST, Courier, wait_ms
from app.alerts.outbox import raise_alert
from app.alerts.tables import deliveries
from app.alerts.webhooks import Webhook, create_webhook, find_webhook, list_alerts, send_again, update_webhook
from app.base.crypto import Sealer
from app.base.database import Database
from tests.alerts.receivers import Receiver, is_genuine, receiver
from tests.behaviours import hangs, says
from tests.upstreams import Behaviour, Exchange, Street

SEALER = Sealer("a secret")


@pytest.fixture
async def courier(db: Database) -> AsyncIterator[Courier]:
    courier = Courier(db, SEALER)
    yield courier
    await courier.close()


async def hook(db: Database, inbox: Receiver, kinds: list[str] | None = None, account: str | None = None) -> Webhook:
    async with db.write() as writing:
        return await create_webhook(writing, SEALER, inbox.url, kinds, account)


async def alert(db: Database, once: str = "1", kind: str = "channel.parked", **options: Any) -> bool:
    async with db.write() as writing:
        return await raise_alert(writing, kind, "chn_1", {"reason": "401"}, once=once, **options)


async def told(db: Database) -> list[dict[str, Any]]:
    """All deliveries, newest alert first."""
    async with db.read() as reading:
        return [each for one in await list_alerts(reading, limit=100) for each in one["deliveries"]]


async def hurry(db: Database) -> None:
    """The next attempt of what waits is now."""
    async with db.write() as writing:
        await writing.execute(update(deliveries).where(deliveries.c.status == "waiting").values(next_at_ms=0))


async def test_an_alert_is_told_signed(db: Database, courier: Courier, inbox: Receiver) -> None:
    """The body says what happened, to whom and when; the signature is one that the receiver can check."""
    webhook = await hook(db, inbox)
    await alert(db)

    assert await courier.round() == 1

    (request,) = inbox.requests
    assert request.json["type"] == "channel.parked"
    assert request.json["data"] == {"subject": "chn_1", "account_id": None, "reason": "401"}
    assert is_genuine(request, webhook.secret.reveal())
    (delivery,) = await told(db)
    assert (delivery["status"], delivery["attempts"], delivery["next_at"]) == ("received", 1, None)
    assert await courier.round() == 0


async def test_what_was_raised_once_is_told_once(db: Database, courier: Courier, inbox: Receiver) -> None:
    await hook(db, inbox)

    assert [await alert(db), await alert(db), await alert(db, "2")] == [True, False, True]

    assert await courier.round() == 2


FAILURES: list[tuple[str, Behaviour]] = [
    ("status 500", says(500)),
    ("status 302", says(302, location="http://127.0.0.1:9/elsewhere")),
    ("status 404", says(404, b"<html>no such page</html>")),
]


@pytest.mark.parametrize(("fault", "behaviour"), FAILURES, ids=[name for name, _ in FAILURES])
async def test_what_is_not_taken_is_tried_again(
    db: Database, courier: Courier, inbox: Receiver, fault: str, behaviour: Behaviour
) -> None:
    """Later each time, under the same id, with what was wrong for the operator to see; a redirect is not followed."""
    webhook = await hook(db, inbox)
    inbox.then(behaviour, behaviour)
    await alert(db)

    for _ in range(2):
        assert await courier.round() == 1
        assert await courier.round() == 0, "the next attempt is not due yet"
        (delivery,) = await told(db)
        assert (delivery["status"], delivery["last_error"]) == ("waiting", fault)
        await hurry(db)
    assert await courier.round() == 1

    (delivery,) = await told(db)
    assert (delivery["status"], delivery["attempts"], delivery["last_error"]) == ("received", 3, None)
    assert len({request.headers["webhook-id"] for request in inbox.requests}) == 1
    assert all(is_genuine(request, webhook.secret.reveal()) for request in inbox.requests)


async def test_nobody_at_home(db: Database, courier: Courier, street: Street) -> None:
    """A refused connection is a failed attempt, and its text does not give the address away."""
    await hook(db, Receiver(street.refusing(says(204))))
    await alert(db)

    await courier.round()

    (delivery,) = await told(db)
    assert (delivery["status"], delivery["last_error"]) == ("waiting", "ConnectError")


def test_attempts_are_spread_over_a_day() -> None:
    """From seconds to an hour apart, a day in all."""
    waits = [wait_ms(attempts) for attempts in range(1, ATTEMPTS_MOST)]

    assert waits[:4] == [5_000, 10_000, 20_000, 40_000]
    assert max(waits) == 3_600_000
    assert 20 * 3_600_000 < sum(waits) < 28 * 3_600_000


async def test_it_is_given_up_in_the_end(db: Database, courier: Courier, inbox: Receiver) -> None:
    """After a day of attempts; asked to, it is sent again from the start."""
    await hook(db, inbox)
    inbox.then(says(500))
    await alert(db)
    async with db.write() as writing:
        await writing.execute(update(deliveries).values(attempts=ATTEMPTS_MOST - 1))

    await courier.round()

    (delivery,) = await told(db)
    assert (delivery["status"], delivery["next_at"]) == ("given_up", None)
    async with db.read() as reading:
        alert_id = (await list_alerts(reading, limit=1, status="given_up"))[0]["id"]
    async with db.write() as writing:
        assert await send_again(writing, alert_id) == 1
    await courier.round()
    assert (await told(db))[0]["status"] == "received"


async def test_gone_means_no_more(db: Database, courier: Courier, inbox: Receiver) -> None:
    """410 is the receiver's word that it wants to hear nothing more: the webhook is disabled."""
    webhook = await hook(db, inbox)
    inbox.then(says(410))
    await alert(db)

    await courier.round()
    await alert(db, "2")
    await courier.round()

    async with db.read() as reading:
        found = await find_webhook(reading, SEALER, webhook.id)
    assert found is not None
    assert not found.enabled
    assert len(inbox.requests) == 1
    assert [each["status"] for each in await told(db)] == ["given_up"]


async def test_disabled_is_told_nothing(db: Database, courier: Courier, inbox: Receiver) -> None:
    """Also not what was waiting for it, when it comes back later."""
    webhook = await hook(db, inbox)
    await alert(db)
    async with db.write() as writing:
        await update_webhook(writing, SEALER, webhook.id, {"enabled": False})
        await update_webhook(writing, SEALER, webhook.id, {"enabled": True})

    assert await courier.round() == 0
    assert not inbox.requests


CHOICES = [
    pytest.param(None, True, id="all"),
    pytest.param(["channel.parked"], True, id="this kind"),
    pytest.param(["channel.*"], True, id="this word"),
    pytest.param(["budget.*", "channel.opened"], False, id="others"),
    pytest.param(["chan.*"], False, id="half a word"),
]


@pytest.mark.parametrize(("kinds", "hears"), CHOICES)
async def test_a_webhook_hears_what_it_asked_for(
    db: Database, courier: Courier, inbox: Receiver, kinds: list[str] | None, hears: bool
) -> None:
    await hook(db, inbox, kinds)
    await alert(db)

    assert await courier.round() == int(hears)


LINEAGES = [
    pytest.param("acc_1", (), False, id="of no account"),
    pytest.param("acc_1", ("acc_1",), True, id="its own"),
    pytest.param("acc_1", ("acc_2", "acc_1"), True, id="of a member"),
    pytest.param("acc_2", ("acc_1",), False, id="of the account above"),
    pytest.param(None, ("acc_1",), True, id="the house hears all"),
]


@pytest.mark.parametrize(("account", "lineage", "hears"), LINEAGES)
async def test_an_accounts_webhook_hears_of_it_and_below(
    db: Database, courier: Courier, inbox: Receiver, account: str | None, lineage: tuple[str, ...], hears: bool
) -> None:
    await hook(db, inbox, account=account)
    await alert(db, account_id=lineage[0] if lineage else None, lineage=lineage)

    assert await courier.round() == int(hears)


async def test_two_couriers_send_nothing_twice(db: Database, courier: Courier, inbox: Receiver) -> None:
    """Whichever claims a delivery sends it; the other finds it taken."""
    await hook(db, inbox)
    for number in range(12):
        await alert(db, str(number))
    other = Courier(db, SEALER)

    tried = 0
    for _ in range(6):
        tried += sum(await asyncio.gather(courier.round(), other.round()))
    await other.close()

    assert tried == 12
    assert sorted(request.headers["webhook-id"] for request in inbox.requests) == sorted(
        {request.headers["webhook-id"] for request in inbox.requests}
    )


async def test_what_a_dead_courier_claimed_is_due_again(db: Database, courier: Courier, inbox: Receiver) -> None:
    """It was killed with the request on its way: nobody knows whether it arrived, so it is sent again."""
    await hook(db, inbox)
    inbox.then(hangs())
    await alert(db)
    dying = asyncio.create_task(courier.round())
    while not inbox.requests:
        await asyncio.sleep(0.01)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)

    assert await courier.round() == 0, "claimed"
    await hurry(db)
    assert await courier.round() == 1

    assert [each["status"] for each in await told(db)] == ["received"]


async def test_one_that_hangs_keeps_no_other_waiting(db: Database, courier: Courier, street: Street) -> None:
    """The rest of the round is told at once."""
    with receiver(street, hangs()) as slow, receiver(street) as quick:
        await hook(db, slow)
        await hook(db, quick)
        await alert(db)

        working = asyncio.create_task(courier.round())
        while not quick.requests or not slow.requests:
            await asyncio.sleep(0.01)

        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def test_an_endless_answer_is_not_read(db: Database, courier: Courier, inbox: Receiver) -> None:
    """The status is all that counts."""

    async def endless(exchange: Exchange) -> None:
        await exchange.head(200, transfer_encoding="chunked")
        while True:
            await exchange.chunk(b"x" * 65_536)

    await hook(db, inbox)
    inbox.then(endless)
    await alert(db)

    assert await courier.round() == 1
    assert [each["status"] for each in await told(db)] == ["received"]


async def test_an_accounts_operator_sees_what_is_theirs(db: Database, inbox: Receiver) -> None:
    """Alerts of their accounts, and deliveries to webhooks of these; nothing of the house's."""
    await hook(db, inbox)
    theirs = await hook(db, inbox, account="acc_1")
    await alert(db, "1", account_id="acc_1", lineage=("acc_1",))
    await alert(db, "2", account_id="acc_9", lineage=("acc_9",))
    await alert(db, "3")

    async with db.read() as reading:
        (found,) = await list_alerts(reading, limit=100, account_ids=("acc_1", "acc_2"))

    assert found["account_id"] == "acc_1"
    assert [each["webhook_id"] for each in found["deliveries"]] == [theirs.id]
