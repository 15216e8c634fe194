"""From the first schema to price books: what was set stays as it was."""

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

import app.catalog.tables
import migrations
from app.base.crypto import Sealer
from app.base.database import Database, metadata
from app.catalog.customers import find_account
from app.catalog.keys import KeyFilter, list_keys
from app.catalog.offers import list_channels
from app.catalog.pricing import Prices
from app.catalog.snapshot import load_snapshot
from app.catalog.tables import DEFAULT_BOOK
from app.catalog.versions import list_versions
from app.schema import schema_differences

OLD_ROWS: list[tuple[str, dict[str, Any]]] = [
    ("accounts", {"id": "acc_1", "name": "acme", "created_at_ms": 1}),
    ("keys", {"id": "key_1", "account_id": "acc_1", "name": "laptop", "models": None, "allowed_cidrs": None}),
    ("key_secrets", {"digest": b"x" * 32, "key_id": "key_1", "hint": "sk-ab", "created_at_ms": 1}),
    ("models", {"name": "small", "description": "", "fallbacks": "[]", "price_version": "prc_1", "created_at_ms": 1}),
    ("price_versions", {"id": "prc_1", "model": "small", "prices": '{"input":5,"output":7}', "created_at_ms": 1}),
]
OLD_COSTS = {
    "chn_1": '{"vendor-small":{"input":3,"output":4,"cached_input":null,"request":1},"large":{"input":8,"output":9}}',
    "chn_2": "{}",
}
KEY_LIMITS = {"rpm": 0, "tpm": 0, "concurrency": 0, "enabled": True, "created_at_ms": 1}
CHANNEL = {
    "name": "main",
    "provider": "openai",
    "base_url": "https://vendor.example",
    "models": '{"small":"vendor-small"}',
}


def _upgrade(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _insert(table: str, row: dict[str, Any]) -> str:
    return f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})"


async def test_costs_and_customers_outlive_the_migration(empty_url: str) -> None:
    """Each cost becomes a version of its channel; keys, prices and models are untouched; everybody pays by the default
    book."""
    sealer, database = Sealer("secret"), Database(empty_url)
    async with database.write() as db:
        await db.run_sync(_upgrade, "0001")
        for table, row in OLD_ROWS:
            values = row | KEY_LIMITS if table == "keys" else row
            await db.execute(text(_insert(table, values)), values)
        for channel_id, costs in OLD_COSTS.items():
            credentials = sealer.seal(b'["vendor-secret"]', channel_id)
            values = {"id": channel_id, **CHANNEL, "sealed_credentials": credentials, "costs": costs, "timeouts": "{}"}
            values |= {"priority": 0, "weight": 1, "enabled": True, "created_at_ms": 1}
            await db.execute(text(_insert("channels", values)), values)

    async with database.write() as db:
        await db.run_sync(_upgrade, "head")

    async with database.read() as db:
        first, second = await list_channels(db, sealer)
        prices = {name: cost.prices for name, cost in first.costs.items()}
        assert prices == {
            "vendor-small": Prices(input=3, output=4, request=1),
            "large": Prices(input=8, output=9),
        }
        assert second.costs == {}
        assert (first.credentials[0].secret.reveal(), first.models) == ("vendor-secret", {"small": "vendor-small"})
        history = await list_versions(db, model=None, book=None, channel_id="chn_1", before=None, limit=10)
        assert {each.id for each in history} == {cost.version for cost in first.costs.values()}
        account = await find_account(db, "acc_1")
        (key,) = await list_keys(db, KeyFilter(account_ids=["acc_1"]), "", 10)
    assert account is not None and (account.book, key.book) == (DEFAULT_BOOK, DEFAULT_BOOK)
    sale = (await load_snapshot(database, sealer)).sale("small", key.book)
    assert sale is not None and (sale.version, sale.prices) == ("prc_1", Prices(input=5, output=7))
    await database.close()


async def test_the_catalogues_tables_are_those_of_the_code(empty_url: str) -> None:
    """After the migrations, no table, column or index of the catalogue differs."""
    database = Database(empty_url)
    async with database.write() as db:
        await db.run_sync(_upgrade, "head")
    own = {name for name, table in metadata.tables.items() if table in vars(app.catalog.tables).values()}
    differing = [str(each) for each in await schema_differences(database)]
    assert own and not [each for each in differing if any(f"'{name}'" in each or f"<{name}>" in each for name in own)]
    await database.close()
