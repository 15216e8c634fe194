"""The database goes away: customers that are known are served, receipts wait in the streams, and all is posted."""

import asyncio
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import asyncpg

from tests.journeys.rough import OpenShop, works
from tests.shop import Shop
from tests.waiting import until

REQUESTS = 20
CONNECTIONS = 5


@contextmanager
def away(shop: Shop, database: str) -> Iterator[None]:
    """Nobody writes to the gateway's database: SQLite's file is locked, PostgreSQL lets nobody in at all."""
    if database == "sqlite":
        lock = sqlite3.connect(shop.gateway.data_dir / "tollgate.db", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        yield
        lock.execute("COMMIT")
        lock.close()
        return
    url = urlsplit(shop.gateway.environ["TOLLGATE_DATABASE_URL"])
    name = url.path.strip("/")
    host = parse_qs(url.query)["host"][0]
    asyncio.run(_execute(host, f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false"))
    asyncio.run(_execute(host, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"))
    yield
    asyncio.run(_execute(host, f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true"))


async def _execute(host: str, statement: str) -> None:
    connection = await asyncpg.connect(host=host, user="postgres", database="postgres")
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def test_customers_are_served_while_the_database_is_away(open_shop: OpenShop, database: str) -> None:
    """Streams too. Nothing is lost, and nothing is posted twice, once it is back."""
    shop = open_shop()
    model = shop.model(shop.vendor())
    customer, stranger = shop.customer(), shop.customer()
    connections = [shop.once_more(customer) for _ in range(CONNECTIONS)]
    until(lambda: all(works(each, model) for each in connections), "their workers know the key")
    before = len(list(shop.operator.receipts(account_id=customer.account_id)))

    with away(shop, database):
        answers = [connections[i % CONNECTIONS].chat(model, stream=i < REQUESTS / 2) for i in range(REQUESTS)]
        assert {answer.status_code for answer in answers} == {200}
        assert stranger.chat(model).status_code == (200 if database == "sqlite" else 503)  # its readers never wait
        until(lambda: re.search(r"waiting: |receipts wait", shop.gateway.log), "the bookkeeper waits", seconds=30)
        assert shop.gateway.ready() is (database == "sqlite")

    until(shop.gateway.ready, "the database is back", seconds=20)
    made = {answer.headers["x-request-id"] for answer in answers}

    def posted() -> bool:
        found = [receipt["request_id"] for receipt in shop.operator.receipts(account_id=customer.account_id)]
        return made <= set(found) and len(found) == len(set(found)) >= before + REQUESTS

    until(posted, "every receipt is posted, once", seconds=30)
    shop.operator.assert_books_agree()
