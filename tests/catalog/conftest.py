"""Databases with the schema of the code and nothing but what the migrations put in."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.base.database import Database
from app.schema import migrate
from tests.servers import DATABASES, Fleet


@pytest.fixture(params=DATABASES)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a database without a table in it."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'catalogue.db'}"
    fleet: Fleet = request.getfixturevalue("fleet")
    return fleet.postgres.new_database()


@pytest.fixture
async def db(empty_url: str) -> AsyncIterator[Database]:
    database = Database(empty_url)
    await migrate(database)
    yield database
    await database.close()
