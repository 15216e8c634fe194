"""Brings a database to the schema of this version, and says where it differs."""

from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

import app.alerts.tables
import app.catalog.tables
import app.ledger.tables  # noqa: F401 (its tables join the metadata)
from app.base.database import Database, metadata
from app.ledger.partitions import is_partition

__all__ = ["include_name", "migrate", "schema_differences"]

_ADVISORY_LOCK = 0x746F6C6C  # "toll"


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent.parent / "migrations"))
    config.attributes["connection"] = connection
    return config


async def migrate(database: Database) -> None:
    """To the newest schema; two that start at once wait for each other."""
    async with database.write() as db:
        if not database.is_sqlite:  # SQLite's write transaction is a lock already
            await db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        await db.run_sync(lambda connection: command.upgrade(_config(connection), "head"))


def include_name(name: str | None, kind: str, _parents: object) -> bool:
    """What Alembic compares: the parts of a partitioned table are not in the code, they come with the months."""
    return kind != "table" or name is None or not is_partition(name)


async def schema_differences(database: Database) -> list[Any]:
    """What `alembic check` would find: empty where the migrations make the tables that the code says."""

    def compare(connection: Connection) -> list[Any]:
        options = {"compare_type": True, "include_name": include_name}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, metadata))

    async with database.read() as db:
        return await db.run_sync(compare)
