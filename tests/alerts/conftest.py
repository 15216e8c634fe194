"""An outbox on both databases, and receivers that take down what they are sent."""

from collections.abc import AsyncIterator, Iterator

import pytest

from app.base.database import Database
from tests.alerts.receivers import Receiver, receiver
from tests.ledger.conftest import database_url, migrated_postgres, migrated_sqlite
from tests.upstreams import Street

__all__ = ["database_url", "migrated_postgres", "migrated_sqlite"]


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
def inbox(street: Street) -> Iterator[Receiver]:
    with receiver(street) as opened:
        yield opened
