"""Tests on a schedule, and of parked credentials until they work again."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from app.base.database import Database
from app.catalog.channel_events import list_events
from app.warden.rounds import Rounds, pause_s
from tests.proxy.makers import credential, make_channel
from tests.warden.houses import Yard, fails, works

PARKED = ("chn_1", "crd_1")


async def rounds_until(rounds: Rounds, is_so: Callable[[], bool]) -> None:
    """Goes round, as the warden does, until it is so."""
    async with asyncio.timeout(10):
        while not is_so():
            await rounds.round()
            await asyncio.sleep(0.005)


async def kinds(db: Database) -> list[str]:
    """Of all events, oldest first."""
    async with db.read() as reading:
        return [each["kind"] for each in reversed(await list_events(reading, limit=100))]


def test_pauses_grow_to_an_hour() -> None:
    assert [pause_s(60, failures) for failures in range(8)] == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert pause_s(60, 10_000) == 3600


async def test_a_parked_credential_returns_when_its_test_is_answered(db: Database) -> None:
    """It is tested though nobody asked for tests of the channel, and no more once it is back."""
    yard = Yard(make_channel(credentials=(credential("a", "crd_1"), credential("b", "crd_2"))))
    yard.standing.add(PARKED)
    yard.results["crd_1"] = fails(401)
    rounds = Rounds(yard.house, db, first_pause_s=0.01)

    await rounds_until(rounds, lambda: len(yard.probed) >= 3)
    assert not yard.returns
    yard.results["crd_1"] = works()
    await rounds_until(rounds, lambda: bool(yard.returns))
    tests = len(yard.probed)
    for _ in range(20):
        await rounds.round()
        await asyncio.sleep(0.005)

    assert yard.returns == [PARKED]
    assert set(yard.probed) == {"crd_1"}
    assert len(yard.probed) == tests
    assert await kinds(db) == []
    await rounds.close()


UNTESTED = [
    pytest.param({"enabled": False}, id="off"),
    pytest.param({"draining": True}, id="draining"),
    pytest.param({"test_every_s": None}, id="not wanted"),
    pytest.param({"models": {}}, id="without models"),
    pytest.param({"credentials": (credential("a", "crd_1", enabled=False),)}, id="its only credential off"),
]


@pytest.mark.parametrize("fields", UNTESTED)
async def test_who_is_not_tested(db: Database, fields: dict[str, Any]) -> None:
    yard = Yard(make_channel(**{"test_every_s": 0, **fields}))
    rounds = Rounds(yard.house, db, first_pause_s=0.01)

    for _ in range(5):
        await rounds.round()
        await asyncio.sleep(0.01)

    assert not yard.probed
    await rounds.close()


async def test_only_a_change_is_an_event(db: Database) -> None:
    """A channel that works is no news, nor is one that is still broken."""
    yard = Yard(make_channel(test_every_s=0))
    rounds = Rounds(yard.house, db, first_pause_s=60)
    for result in (works(), fails(), works(), fails(None, "timeout")):
        yard.results["crd_1"] = result
        seen = len(yard.probed)
        await rounds_until(rounds, lambda seen=seen: len(yard.probed) > seen + 5)  # type: ignore[misc]

    assert await kinds(db) == ["test_failed", "test_passed", "test_failed"]
    await rounds.close()


@pytest.mark.parametrize(("status", "parks"), [(401, True), (402, True), (403, True), (429, False), (500, False)])
async def test_a_vendors_no_to_the_credential_parks_it(db: Database, status: int, parks: bool) -> None:
    """As it would if a customer's request had run into it."""
    yard = Yard(make_channel(test_every_s=0))
    yard.results["crd_1"] = fails(status)
    rounds = Rounds(yard.house, db, first_pause_s=60)

    await rounds_until(rounds, lambda: len(yard.probed) > 1)

    assert {way for way, _, _ in yard.parks} == ({PARKED} if parks else set())
    await rounds.close()


async def test_a_test_is_not_begun_before_the_last_has_ended(db: Database) -> None:
    """A vendor that hangs is asked once, and keeps nobody else from being tested; leaving ends it."""
    hanging = asyncio.Event()
    yard = Yard(make_channel(test_every_s=0))
    yard.hold = hanging.wait
    rounds = Rounds(yard.house, db, first_pause_s=60)
    await rounds_until(rounds, lambda: bool(yard.probed))
    yard.hold = None
    yard.channels.append(make_channel("chn_2", test_every_s=0, credentials=(credential("b", "crd_2"),)))

    await rounds_until(rounds, lambda: yard.probed.count("crd_2") > 2)

    assert yard.probed.count("crd_1") == 1
    await rounds.close()


async def test_a_fault_of_ours_does_not_end_the_tests(db: Database) -> None:
    async def breaks() -> None:
        raise RuntimeError("one of ours")

    yard = Yard(make_channel(test_every_s=0))
    yard.hold = breaks
    rounds = Rounds(yard.house, db, first_pause_s=60)

    await rounds_until(rounds, lambda: len(yard.probed) > 2)

    await rounds.close()
