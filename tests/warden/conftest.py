"""A warden's back room: a migrated database, and two processes' connections to one empty Redis."""

from collections.abc import AsyncIterator

import pytest

from app.base.database import Database
from app.base.wire import Wire
from app.warden.recorder import Recorder
from tests.ledger.conftest import database_url, migrated_postgres, migrated_sqlite
from tests.servers import RedisServer

__all__ = ["database_url", "migrated_postgres", "migrated_sqlite"]


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
def recorder(db: Database) -> Recorder:
    return Recorder(db, {"chn_1": "main"}.get)


@pytest.fixture
async def other_wire(wire: Wire, redis_server: RedisServer) -> AsyncIterator[Wire]:
    other = Wire(redis_server.url)
    await other.open()
    yield other
    await other.close()
