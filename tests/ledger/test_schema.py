"""The schema: the migrations, and nothing but them, make the tables that the code says."""

import asyncio
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

import migrations
from app.base.database import Database, metadata
from app.ledger.partitions import is_partition
from app.schema import migrate, schema_differences
from tests.servers import DATABASES, Fleet


@pytest.fixture(params=DATABASES)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'empty.db'}"
    fleet: Fleet = request.getfixturevalue("fleet")
    return fleet.postgres.new_database()


async def test_migrations_make_the_tables_of_the_code(empty_url: str) -> None:
    """From nothing to the newest schema: no table, column, type or index more or less than the code has."""
    database = Database(empty_url)
    assert await schema_differences(database) != []
    await migrate(database)
    assert await schema_differences(database) == []
    async with database.read() as db:
        names = await db.run_sync(lambda connection: inspect(connection).get_table_names())
    assert {name for name in names if not is_partition(name)} == {*metadata.tables, "alembic_version"}
    await database.close()


async def test_migrating_again_or_twice_at_once_is_harmless(empty_url: str) -> None:
    """Two that start at the same moment wait for each other; a third finds all done."""
    databases = [Database(empty_url) for _ in range(2)]
    await asyncio.gather(*(migrate(database) for database in databases))
    await migrate(databases[0])
    assert await schema_differences(databases[0]) == []
    for database in databases:
        await database.close()


def test_there_is_one_newest_revision() -> None:
    """Two branches of migrations would leave it to chance which one a database gets."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert len(ScriptDirectory.from_config(config).get_heads()) == 1
