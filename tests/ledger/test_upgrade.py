"""A database of the first version is brought to this one: its receipts, in their months, and their sums by day."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Column, Connection, MetaData, Table, insert, select, text

from app.base.database import Database
from app.ledger.tables import receipts, usage_days
from app.schema import _config, migrate, schema_differences
from tests.servers import DATABASES, Fleet


@pytest.fixture(params=DATABASES)
def old_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'old.db'}"
    fleet: Fleet = request.getfixturevalue("fleet")
    return fleet.postgres.new_database()


def _receipt(at: datetime, number: int, **fields: Any) -> dict[str, Any]:
    """A row as the first version wrote it."""
    at_ms = int(at.timestamp()) * 1000
    row = {
        "request_id": f"req_{at_ms:012x}{number:016x}",
        "entry_id": None,
        "created_at_ms": at_ms,
        "account_id": "acc_1",
        "key_id": "key_1",
        "dialect": "openai_chat",
        "model": "small",
        "channel_id": "chn_1",
        "stream": False,
        "status": "ok",
        "http_status": 200,
        "input_tokens": 10,
        "output_tokens": 5,
        "cached_input_tokens": 2,
        "cache_write_tokens": 0,
        "reasoning_tokens": 0,
        "usage_source": "upstream",
        "price_version": "prc_1",
        "amount_nano": 100,
        "unpaid_nano": 1,
        "upstream_cost_nano": 7,
        "attempts": [],
        "duration_ms": 9,
    }
    return row | fields


_ROWS = [
    _receipt(datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC), 1),
    _receipt(datetime(2026, 2, 1, tzinfo=UTC), 2),
    _receipt(datetime(2026, 2, 1, 12, tzinfo=UTC), 3, amount_nano=50, unpaid_nano=0),
    _receipt(datetime(2026, 2, 1, 13, tzinfo=UTC), 4, status="failed", channel_id=None, amount_nano=0, unpaid_nano=0),
    _receipt(datetime(2026, 2, 1, 14, tzinfo=UTC), 5, status="failed", key_id="key_2"),
    _receipt(datetime(2026, 2, 2, tzinfo=UTC), 6, status="cancelled"),
    _receipt(datetime(2026, 2, 3, tzinfo=UTC), 7, status="expired", channel_id=None, amount_nano=0, unpaid_nano=0),
    _receipt(datetime(2026, 2, 4, tzinfo=UTC), 8, request_id="a stray"),
]
_ENDINGS = ["finished", "finished", "finished", "failed", "cut", "client_gone", "expired", "finished"]


_OLD = Table("receipts", MetaData(), *(Column(name, receipts.c[name].type) for name in _ROWS[0]))


async def _old_database(url: str) -> Database:
    """At the first version, with receipts in it."""
    database = Database(url)
    async with database.write() as db:
        await db.run_sync(_to_the_first_version)
        await db.execute(insert(_OLD), _ROWS)
    return database


def _to_the_first_version(connection: Connection) -> None:
    command.upgrade(_config(connection), "0001")


async def test_receipts_are_carried_over(old_url: str) -> None:
    """All of them, whatever their id; how each ended is told from what the first version knew."""
    database = await _old_database(old_url)
    await migrate(database)
    assert await schema_differences(database) == []
    async with database.read() as db:
        rows = (await db.execute(select(receipts).order_by(receipts.c.created_at_ms))).all()
    assert [row.request_id for row in rows] == [row["request_id"] for row in _ROWS]
    assert [row.ending for row in rows] == _ENDINGS
    assert [row.policy for row in rows] == ["free" if ending == "expired" else "full" for ending in _ENDINGS]
    assert {(row.multiplier, row.audio_input_tokens, row.cache_write_1h_tokens) for row in rows} == {(1_000_000, 0, 0)}
    assert [row.amount_nano for row in rows] == [row["amount_nano"] for row in _ROWS]
    await database.close()


async def test_receipts_are_put_into_their_months(old_url: str) -> None:
    """From the oldest one's on, and an id of no month into the default part."""
    database = await _old_database(old_url)
    await migrate(database)
    if database.is_sqlite:
        async with database.read() as db:
            assert await db.scalar(text("SELECT count(*) FROM receipts")) == len(_ROWS)
    else:
        async with database.read() as db:
            query = text("SELECT tableoid::regclass::text FROM receipts ORDER BY created_at_ms")
            parts = list(await db.scalars(query))
        assert parts == ["receipts_2026_01", *["receipts_2026_02"] * 6, "receipts_default"]
    await database.close()


async def test_days_are_summed(old_url: str) -> None:
    """By account, day of UTC, key, model and channel, as posting keeps them from now on."""
    database = await _old_database(old_url)
    await migrate(database)
    columns = usage_days.c
    async with database.read() as db:
        rows = await db.execute(
            select(columns.day, columns.key_id, columns.channel_id, columns.requests, columns.amount_nano).order_by(
                columns.day, columns.key_id, columns.channel_id
            )
        )
        assert [tuple(row) for row in rows] == [
            (date(2026, 1, 31), "key_1", "chn_1", 1, 100),
            (date(2026, 2, 1), "key_1", "", 1, 0),
            (date(2026, 2, 1), "key_1", "chn_1", 2, 150),
            (date(2026, 2, 1), "key_2", "chn_1", 1, 100),
            (date(2026, 2, 2), "key_1", "chn_1", 1, 100),
            (date(2026, 2, 3), "key_1", "", 1, 0),
            (date(2026, 2, 4), "key_1", "chn_1", 1, 100),
        ]
        sums = (columns.input_tokens, columns.output_tokens, columns.cached_input_tokens, columns.unpaid_nano)
        query = select(*sums, columns.upstream_cost_nano).where(columns.requests == 2)
        assert tuple((await db.execute(query)).one()) == (20, 10, 4, 1, 14)
    await database.close()
