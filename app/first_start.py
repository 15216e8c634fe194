"""The first start: what is fixed for good is written down, and a newcomer gets something that works at once. In
production there is no demo customer, and no key is shown: what is printed there ends up in a log."""

from pathlib import Path

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.database import Database
from app.base.ids import digest
from app.base.money import NANO_PER_USD, parse_usd
from app.catalog.customers import create_account
from app.catalog.installation import read_installation, write_installation
from app.catalog.keys import create_key
from app.catalog.offers import create_channel, put_model
from app.catalog.pricing import Prices
from app.catalog.records import Timeouts
from app.ledger.journal import add_credit, open_wallet
from app.secret_settings import kept_secret, new_secret
from app.settings import Settings

__all__ = ["Welcome", "set_up"]

_DEMO_CREDIT = parse_usd("5.00", "credit")
_SANDBOX_PRICES = Prices(input=NANO_PER_USD, output=2 * NANO_PER_USD)


class Welcome(msgspec.Struct, frozen=True):
    """What a first start shows, once. `admin_key` is None where the environment sets it, and in production, where
    `admin_key_file` holds the one that was made; `demo_key` is None in production."""

    admin_key: str | None = None
    admin_key_file: Path | None = None
    demo_key: str | None = None


async def set_up(database: Database, settings: Settings) -> Welcome | None:
    """None at every start but the first."""
    async with database.write() as db:
        if await read_installation(db):
            return None
        admin_key, welcome = _admin_key(settings)
        await write_installation(db, {"shards": str(settings.shards), "admin": digest(admin_key).hex()})
        await create_channel(
            db,
            settings.sealer(),
            {
                "name": "sandbox",
                "provider": "sandbox",
                "base_url": "sandbox:",
                "credentials": [],
                "models": {"sandbox": "sandbox"},
                "timeouts": msgspec.to_builtins(Timeouts()),
                "priority": 0,
                "weight": 1,
                "enabled": True,
            },
        )
        await put_model(
            db,
            "sandbox",
            {
                "context_length": 8192,
                "max_output_tokens": 4096,
                "description": "Built in: says back what it hears, without a network.",
                "fallbacks": [],
            },
            _SANDBOX_PRICES,
        )
        if not settings.is_production:
            welcome = msgspec.structs.replace(welcome, demo_key=await _create_demo(db))
    return welcome


def _admin_key(settings: Settings) -> tuple[str, Welcome]:
    """The operator's key, and where the operator learns it."""
    if settings.admin_key:
        return settings.admin_key, Welcome()
    if not settings.is_production:
        made = f"tga-{new_secret()}"
        return made, Welcome(admin_key=made)
    file = settings.data_dir / "admin.key"
    return kept_secret(file, f"the admin key in {file}"), Welcome(admin_key_file=file)


async def _create_demo(db: AsyncConnection) -> str:
    """A customer with credit; the secret of its key."""
    account = await create_account(db, "demo")
    await open_wallet(db, account.id)
    await add_credit(db, account.id, _DEMO_CREDIT, "demo credit", "demo")
    _, demo_key = await create_key(db, account.id, {"name": "demo"})
    return demo_key
