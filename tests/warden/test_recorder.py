"""The record of what happened to channels: complete, in order, and told once."""

import asyncio
from typing import Any

import pytest

from app.alerts.webhooks import list_alerts
from app.base.clock import now_ms
from app.base.database import Database
from app.base.errors import ServiceUnavailable
from app.catalog.channel_events import Kind, add_event, add_events, last_event, list_events, new_event
from app.proxy.dispatch import change
from app.warden.recorder import Recorder


def heard(kind: change.Kind, credential_id: str = "crd_1", model: str | None = None) -> change.Change:
    """As the health of a worker reports it."""
    return change.Change(
        channel_id="chn_1", credential_id=credential_id, model=model, kind=kind, reason=f"why it {kind}"
    )


async def events(db: Database, **filters: Any) -> list[dict[str, Any]]:
    async with db.read() as reading:
        return await list_events(reading, **{"limit": 100, **filters})


async def alerts(db: Database) -> list[str]:
    """Their kinds, sorted."""
    async with db.read() as reading:
        return sorted(each["kind"] for each in await list_alerts(reading, limit=100))


async def test_what_was_heard_is_written(db: Database, recorder: Recorder) -> None:
    kinds: tuple[change.Kind, ...] = ("opened", "half_open", "closed")
    for kind in kinds:
        recorder.heard(heard(kind))
    await recorder.close()

    found = await events(db)

    assert [each["kind"] for each in found] == ["closed", "half_open", "opened"]
    assert found[-1] | {"id": "", "created_at": ""} == {
        "id": "",
        "created_at": "",
        "channel_id": "chn_1",
        "credential_id": "crd_1",
        "model": None,
        "kind": "opened",
        "reason": "why it opened",
        "actor": "traffic",
    }


OUTAGES = [
    pytest.param(["opened", "opened", "opened"], ["channel.opened"], id="one outage"),
    pytest.param(
        ["opened", "closed", "opened"], ["channel.opened", "channel.closed", "channel.opened"], id="two outages"
    ),
    pytest.param(["parked", "parked", "returned"], ["channel.parked", "channel.returned"], id="parked"),
    pytest.param(["cooling", "half_open"], [], id="what passes by itself"),
]


@pytest.mark.parametrize(("kinds", "told"), OUTAGES)
async def test_an_outage_is_told_once(
    db: Database, recorder: Recorder, kinds: list[change.Kind], told: list[str]
) -> None:
    """However often its breaker is tried in between, until it has ended."""
    for kind in kinds:
        recorder.heard(heard(kind))
    await recorder.close()

    assert await alerts(db) == sorted(told)


async def test_workers_that_run_into_one_outage_tell_it_once(db: Database, recorder: Recorder) -> None:
    """Each keeps its own event; the alert is one, and names the channel for people."""
    other = Recorder(db, {"chn_1": "main"}.get)
    for each in (recorder, other):
        each.heard(heard("parked"))

    await asyncio.gather(recorder.close(), other.close())

    assert [each["kind"] for each in await events(db)] == ["parked", "parked"]
    assert await alerts(db) == ["channel.parked"]
    async with db.read() as reading:
        (alert,) = await list_alerts(reading, limit=10)
    assert alert["details"]["channel"] == "main"
    assert (alert["subject"], alert["details"]["reason"]) == ("chn_1", "why it parked")


async def test_credentials_are_told_apart(db: Database, recorder: Recorder) -> None:
    recorder.heard(heard("parked", "crd_1"))
    recorder.heard(heard("parked", "crd_2"))
    await recorder.close()

    assert await alerts(db) == ["channel.parked"] * 2


async def test_a_cool_down_is_noted_once_a_minute(db: Database, recorder: Recorder) -> None:
    """For each credential and model: a vendor that limits rates asks for one a second."""
    for model in ("small", "large", "small", "small"):
        recorder.heard(heard("cooling", model=model))
    await recorder.close()

    assert sorted(each["model"] for each in await events(db)) == ["large", "small"]


async def test_a_vendor_that_counts_too_much_is_told_once_an_hour(db: Database, recorder: Recorder) -> None:
    """However many requests see it, and on however many workers; another channel's is another matter."""
    other = Recorder(db, {"chn_1": "main"}.get)
    for each in (recorder, recorder, other):
        each.went_beyond("chn_1", "small", "900000000 output tokens where at most 10 were possible")
    recorder.went_beyond("chn_2", "small", "11 output tokens where at most 10 were possible")
    await asyncio.gather(recorder.close(), other.close())

    found = [each for each in await events(db) if each["channel_id"] == "chn_1"]
    hours = {each["created_at"][:13] for each in found}  # two, where one ended in the middle of the test
    assert {each["kind"] for each in found} == {"usage_beyond_bound"}
    async with db.read() as reading:
        told = [each for each in await list_alerts(reading, limit=10) if each["subject"] == "chn_1"]
    assert len(told) == len(hours)
    assert told[0]["kind"] == "channel.usage_beyond_bound"
    assert (told[0]["details"]["channel"], told[0]["details"]["model"]) == ("main", "small")
    assert "900000000 output tokens" in told[0]["details"]["reason"]


class Flaky(Database):
    """A database that is away at times."""

    def __init__(self, real: Database, times: int) -> None:
        self.__dict__ = real.__dict__
        self.left = times

    def write(self) -> Any:
        if self.left:
            self.left -= 1
            raise ServiceUnavailable("away")
        return super().write()


async def test_what_the_database_could_not_take_is_kept(db: Database) -> None:
    """In order, with the times at which it happened; what came meanwhile follows."""
    flaky = Flaky(db, 2)
    recorder = Recorder(flaky, {}.get, retry_s=0.02)
    before = now_ms()
    recorder.heard(heard("opened"))
    running = asyncio.create_task(recorder.run())
    while flaky.left:
        await asyncio.sleep(0.01)
    recorder.heard(heard("closed"))
    async with asyncio.timeout(10):
        while len(found := await events(db)) < 2:
            await asyncio.sleep(0.01)

    running.cancel()
    assert [each["kind"] for each in found] == ["closed", "opened"]
    assert [each["kind"] for each in await events(db, from_ms=before)] == ["closed", "opened"]


async def test_events_are_listed_by_what_is_asked(db: Database) -> None:
    """By channel, kind and time, newest first, page after page."""
    made = [new_event(f"chn_{number % 2}", "opened" if number < 4 else "closed", "x", "traffic") for number in range(6)]
    async with db.write() as writing:
        await add_events(writing, made)
        await add_events(writing, made[:2])  # a batch whose commit was not heard of is written again

    ids = [event.id for event in reversed(made)]
    assert [each["id"] for each in await events(db)] == ids
    assert [each["id"] for each in await events(db, limit=2, before=ids[1])] == ids[2:4]
    assert {each["channel_id"] for each in await events(db, channel_id="chn_1")} == {"chn_1"}
    assert len(await events(db, kind="closed")) == 2
    assert await events(db, from_ms=now_ms() + 60_000) == []
    assert await events(db, to_ms=now_ms() - 60_000) == []
    assert len(await events(db, from_ms=-1, to_ms=now_ms() + 60_000)) == 6


async def test_the_last_of_a_kind(db: Database) -> None:
    """Of this credential alone; None where the whole channel is meant."""
    async with db.write() as writing:
        first = await add_event(writing, "chn_1", "test_failed", "500", "schedule", credential_id="crd_1")
        second = await add_event(writing, "chn_1", "test_passed", "ok", "schedule", credential_id="crd_1")
        whole = await add_event(writing, "chn_1", "created", "made\0so")
    kinds: tuple[Kind, ...] = ("test_failed", "test_passed")
    async with db.read() as reading:
        assert await last_event(reading, "chn_1", "crd_1", kinds) == second
        assert await last_event(reading, "chn_1", "crd_1", kinds, before=second.id) == first
        assert await last_event(reading, "chn_1", "crd_2", kinds) is None
        assert await last_event(reading, "chn_1", None, ["created"]) == whole
    assert whole.reason == "madeso"


async def test_who_made_a_change(db: Database, recorder: Recorder) -> None:
    """Traffic, unless the warden or an operator did."""
    with recorder.acting("operator"):
        recorder.heard(heard("returned"))
    recorder.heard(heard("parked"))
    await recorder.close()

    assert [(each["kind"], each["actor"]) for each in await events(db)] == [
        ("parked", "traffic"),
        ("returned", "operator"),
    ]
