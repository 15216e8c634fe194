"""The database: one async engine, and the two ways to use it. Tables belong to the rooms; their metadata is joined here
so that Alembic sees one schema."""

import sqlite3
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
from sqlalchemy import MetaData, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoneFree
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.base.errors import ServiceUnavailable

__all__ = ["Database", "in_parts", "metadata"]

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_IDS_A_QUERY = 10_000
_SQLITE_BUSY_MS = 10_000
_WAL_RETRY_MS = 10
# PostgreSQL's codes: a connection lost (while it is made, SQLAlchemy does not say so), serialization failure, deadlock,
# and a server that shuts down or starts up.
_TRY_AGAIN = frozenset({"08000", "08001", "08003", "08004", "08006", "40001", "40P01", "57P01", "57P02", "57P03"})


class Database:
    """`read()` sees one snapshot and changes nothing; `write()` is one transaction, committed at the end of the block.

    Both raise ServiceUnavailable when the database can't be reached.
    """

    def __init__(self, url: str, pool_size: int = 5) -> None:
        self.is_sqlite = url.startswith("sqlite")
        options: dict[str, Any] = {"json_serializer": _to_json}
        if not self.is_sqlite:
            options |= {"pool_size": pool_size, "pool_pre_ping": True}
        self.engine: AsyncEngine = create_async_engine(url, **options)
        if self.is_sqlite:
            _tune_sqlite(self.engine)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        # SQLite in WAL mode gives a snapshot by itself; its driver knows no other level.
        level = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        async with _translated(), self._connect() as connection:
            await connection.execution_options(**level)
            async with connection.begin():
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        async with _translated(), self._connect() as connection:
            await connection.execution_options(tollgate_write=True)
            async with connection.begin():
                yield connection

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[AsyncConnection]:
        """Whatever a server says to a connection that it refuses (the codes are many), there is no database."""
        async with AsyncExitStack() as stack:
            try:
                connection = await stack.enter_async_context(self.engine.connect())
            except (DBAPIError, NoneFree) as error:
                raise ServiceUnavailable("The database can't be reached.") from error
            yield connection

    async def ping(self) -> None:
        """Raises ServiceUnavailable."""
        async with self.read() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        await self.engine.dispose()


def in_parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many at a time as a statement takes parameters for."""
    for start in range(0, len(ids), _IDS_A_QUERY):
        yield ids[start : start + _IDS_A_QUERY]


def _to_json(value: object) -> str:
    return msgspec.json.encode(value).decode()


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, OSError) as error:
        raise ServiceUnavailable("The database can't be reached.") from error
    except DBAPIError as error:
        if error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _TRY_AGAIN:
            raise ServiceUnavailable("The database could not finish; it may be tried again.") from error
        raise


def _enter_wal(cursor: Any) -> None:
    """The switch of a new file to WAL wants it alone, and SQLite refuses a second at once rather than let it wait."""
    for remaining in reversed(range(_SQLITE_BUSY_MS // _WAL_RETRY_MS)):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or not remaining:
                raise
        time.sleep(_WAL_RETRY_MS / 1000)


def _tune_sqlite(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def _connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # BEGIN is said below, not by the driver
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={_SQLITE_BUSY_MS}",
            "synchronous=FULL",  # a committed posting survives a power cut
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        _enter_wal(cursor)
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begun(connection: Any) -> None:
        # A transaction that will write takes the lock at once: upgrading later fails when another got there first.
        writes = connection.get_execution_options().get("tollgate_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
