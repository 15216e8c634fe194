"""What the database keeps sealed: all of it is looked at, and what does not open is named."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import LargeBinary, update

from app.alerts.tables import webhooks
from app.alerts.webhooks import create_webhook
from app.base.crypto import Sealer, UnsealError
from app.base.database import Database, metadata
from app.catalog.tables import channels
from app.first_start import set_up
from app.schema import migrate
from app.sealed_rows import SEALED, check_secret_key, seal_anew
from app.settings import Settings

KEY = "the secret key of this deployment, 1"
OTHER_KEY = "the secret key of another one, and 2"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """With the sandbox's channel and a webhook, sealed with KEY."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'tollgate.db'}"
    database = Database(url)
    await migrate(database)
    await set_up(database, Settings(database_url=url, data_dir=tmp_path, secret_key=KEY))
    async with database.write() as db:
        await create_webhook(db, Sealer(KEY), "https://example.com/hook", None, None)
    yield database
    await database.close()


def test_every_sealed_column_is_known() -> None:
    """A table that gets a sealed column is checked and sealed anew like the others."""
    sealed = {
        column
        for table in metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, LargeBinary) and column.name.startswith("sealed_")
    }
    assert {each.column for each in SEALED} == sealed


async def test_the_right_key_opens_everything(database: Database) -> None:
    """A start goes on."""
    await check_secret_key(database, Sealer(KEY))


async def test_a_wrong_key_opens_nothing(database: Database) -> None:
    """The error says how much it is, and which variable to set."""
    with pytest.raises(UnsealError, match="none of its 2 sealed credentials") as refused:
        await check_secret_key(database, Sealer(OTHER_KEY))
    assert "TOLLGATE_SECRET_KEY_FILE" in str(refused.value)


async def test_a_row_that_was_altered_is_named(database: Database) -> None:
    """The key opens the rest, so that it is not the key that is wrong."""
    async with database.write() as db:
        channel_id = await db.scalar(update(channels).values(sealed_credentials=b"altered").returning(channels.c.id))
    with pytest.raises(UnsealError, match="does not open 1 of the 2") as refused:
        await check_secret_key(database, Sealer(KEY))
    assert f"channels {channel_id}" in str(refused.value)


async def test_both_keys_are_known_during_a_rotation(database: Database) -> None:
    """Before it, a sealer with both opens what the old one sealed; after it, the new one alone opens everything."""
    both = Sealer(OTHER_KEY, KEY)
    await check_secret_key(database, both)
    assert await seal_anew(database, both) == 2
    await check_secret_key(database, both)
    await check_secret_key(database, Sealer(OTHER_KEY))
    with pytest.raises(UnsealError):
        await check_secret_key(database, Sealer(KEY))


async def test_a_rotation_that_was_done_may_be_done_again(database: Database) -> None:
    """Whoever is not sure whether it ran runs it."""
    both = Sealer(OTHER_KEY, KEY)
    for _ in range(2):
        assert await seal_anew(database, both) == 2
    await check_secret_key(database, Sealer(OTHER_KEY))


async def test_a_rotation_without_the_old_key_changes_nothing(database: Database) -> None:
    """All or nothing: the last text is the one that can't be opened, and the first is as it was."""
    async with database.write() as db:
        await db.execute(update(webhooks).values(sealed_secret=b"altered"))
    with pytest.raises(UnsealError):
        await seal_anew(database, Sealer(OTHER_KEY, KEY))
    with pytest.raises(UnsealError, match="does not open 1 of the 2"):
        await check_secret_key(database, Sealer(KEY))
