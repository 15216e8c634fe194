"""Marks of budgets become alerts: once each, whoever hears them, and also where the database comes later."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from app.alerts.tables import alerts
from app.base.database import Database
from app.base.limits import NO_LIMITS, Budget
from app.budget_alerts import BudgetAlerts
from app.proxy.records import BudgetMark, Caller
from app.quota.rules import Subject
from app.quota.slots import slots_of

HUNDRED = 2_000_000_000
SUBJECT = Subject("key", "key_1", NO_LIMITS, (Budget("usd", HUNDRED, "day"),))
TODAY_MS = 1_782_856_800_000
CALLER = Caller(
    account_id="acc_1",
    key_id="key_1",
    book="default",
    slots=slots_of("acc_1", "key_1", 4),
    limits=NO_LIMITS,
    models=None,
    networks=None,
    expires_at_ms=None,
)


def mark(percent: int, *, refused: bool = False, start_ms: int = TODAY_MS) -> BudgetMark:
    return BudgetMark(SUBJECT, "usd.day", HUNDRED * percent // 100, HUNDRED, start_ms, refused=refused)


@asynccontextmanager
async def kept(alerts: BudgetAlerts) -> AsyncIterator[None]:
    keeping = asyncio.create_task(alerts.keep())
    try:
        yield
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping


async def raised(database: Database, count: int) -> list[tuple[int, str]]:
    """Percent and start of its window, of so many alerts and no more."""
    async with asyncio.timeout(10):
        while True:
            async with database.read() as db:
                found = (await db.scalars(select(alerts.c.details).order_by(alerts.c.once))).all()
            if len(found) >= count:
                break
            await asyncio.sleep(0.02)
    return sorted((details["percent"], details["window_start"]) for details in found)


@pytest.mark.parametrize(
    ("marks", "told"),
    [
        pytest.param([mark(50)], [50], id="half"),
        pytest.param([mark(50), mark(79), mark(79), mark(80)], [50, 80], id="once each"),
        pytest.param([mark(130)], [50, 80, 100], id="a leap over all of them"),
        pytest.param([mark(97, refused=True)], [50, 80, 100], id="as good as used up"),
        pytest.param([mark(60, refused=True)], [50], id="a request that asked for too much"),
    ],
)
async def test_each_step_is_told_once_by_however_many_workers(
    db: Database, marks: list[BudgetMark], told: list[int]
) -> None:
    workers = [BudgetAlerts(db), BudgetAlerts(db)]
    async with kept(workers[0]), kept(workers[1]):
        for each in marks:
            for worker in workers:
                worker.mark(CALLER, each)
        workers[0].mark(CALLER, mark(50, start_ms=TODAY_MS + 86_400_000))  # the last to be written
        found = await raised(db, len(told) + 1)
    assert [percent for percent, start in found if start.startswith("2026-06-30T22:00")] == told
    assert len(found) == len(told) + 1


async def test_an_alert_waits_for_a_database_that_is_away(migrated_sqlite: Path, tmp_path: Path) -> None:
    path, ready = tmp_path / "later" / "tollgate.db", tmp_path / "ready"
    ready.mkdir()
    shutil.copy(migrated_sqlite, ready / path.name)
    database = Database(f"sqlite+aiosqlite:///{path}")
    worker = BudgetAlerts(database)
    async with kept(worker):
        worker.mark(CALLER, mark(50))
        await asyncio.sleep(0.1)
        ready.rename(path.parent)
        assert [percent for percent, _ in await raised(database, 1)] == [50]
    await database.close()
