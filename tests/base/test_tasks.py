"""Tasks in the background: a fault ends none of them for good, and being told to end does."""

import asyncio

import pytest

from app.base.tasks import begin, end_all


async def test_a_fault_is_logged_and_the_work_goes_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("app.base.tasks._AGAIN_S", 0)
    rounds = 0
    working = asyncio.Event()

    async def keep() -> None:
        nonlocal rounds
        rounds += 1
        if rounds < 3:
            raise LookupError("nobody thought of this")
        working.set()
        await asyncio.Event().wait()

    task = begin("the work", keep)
    await asyncio.wait_for(working.wait(), 10)
    await end_all(task)
    assert rounds == 3
    assert [record.getMessage() for record in caplog.records] == ["the work broke off, and begins again"] * 2


async def test_a_cancellation_that_is_lost_is_said_again():
    started = asyncio.Event()

    async def keep() -> None:
        started.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.sleep(3600)

    task = asyncio.create_task(keep())
    await started.wait()
    await end_all(task)
    assert task.cancelled()
