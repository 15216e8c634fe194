"""A back office on both databases: migrated once for each process that runs tests, and empty for each test."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from app.base.database import Database, metadata
from app.books import Books
from app.quota.epochs import Epochs
from app.schema import migrate
from app.settings import Settings
from tests.ledger.office import Office, drop_guard
from tests.servers import DATABASES, Fleet, RedisServer


async def _migrated(url: str) -> None:
    database = Database(url)
    await migrate(database)
    await database.close()


@pytest.fixture(scope="session")
def migrated_sqlite(home: Path) -> Path:
    path = home / "ledger.db"
    asyncio.run(_migrated(f"sqlite+aiosqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def migrated_postgres(fleet: Fleet) -> str:
    url = fleet.postgres.new_database()
    asyncio.run(_migrated(url))
    return url


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a migrated database without a row in it: a copy of SQLite's file, PostgreSQL's tables emptied."""
    if request.param == "sqlite":
        path = shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "tollgate.db")
        return f"sqlite+aiosqlite:///{path}"
    url = str(request.getfixturevalue("migrated_postgres"))
    asyncio.run(_emptied(url))
    return url


async def _emptied(url: str) -> None:
    names = ", ".join(metadata.tables)
    database = Database(url)
    async with database.write() as db:
        await drop_guard(db)
        await db.execute(text(f"TRUNCATE {names}"))
    await database.close()


@pytest.fixture
async def office(database_url: str, redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Office]:
    settings = Settings(
        data_dir=tmp_path,
        database_url=database_url,
        redis_url=redis_server.url,
        secret_key="secret",
        lease_seconds=0,  # the sweeper need not wait for one
    )
    office = Office(Books(settings, {"shards": "4", "admin": "00" * 32}, Epochs(4, settling_ms=0)))
    await office.open()
    await office.books.wire.call("FLUSHALL")
    await office.books.epochs.look(office.books.wire, range(4))
    yield office
    await office.books.close()
