"""Channels, models and their prices: what is on offer, and where it comes from."""

from typing import Any

import msgspec
from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import now_ms
from app.base.crypto import Sealer, Secret
from app.base.ids import new_id
from app.catalog.pricing import Prices
from app.catalog.records import Channel, Model, Timeouts
from app.catalog.tables import channels, models, price_versions

__all__ = [
    "create_channel",
    "find_channel",
    "find_model",
    "list_channels",
    "list_models",
    "prices_of",
    "put_model",
    "update_channel",
]


async def create_channel(db: AsyncConnection, sealer: Sealer, values: dict[str, Any]) -> Channel:
    """`values` are the columns, but for `credentials`: a list of texts, sealed here."""
    channel_id = new_id("chn")
    await db.execute(
        insert(channels).values(id=channel_id, created_at_ms=now_ms(), **_sealed(sealer, channel_id, values))
    )
    channel = await find_channel(db, sealer, channel_id)
    assert channel is not None
    return channel


async def update_channel(
    db: AsyncConnection, sealer: Sealer, channel_id: str, values: dict[str, Any]
) -> Channel | None:
    if values:
        await db.execute(
            update(channels).where(channels.c.id == channel_id).values(**_sealed(sealer, channel_id, values))
        )
    return await find_channel(db, sealer, channel_id)


async def find_channel(db: AsyncConnection, sealer: Sealer, channel_id: str) -> Channel | None:
    row = (await db.execute(select(channels).where(channels.c.id == channel_id))).first()
    return _channel(row, sealer) if row else None


async def list_channels(db: AsyncConnection, sealer: Sealer, after: str = "", limit: int = 10_000) -> list[Channel]:
    rows = await db.execute(select(channels).where(channels.c.id > after).order_by(channels.c.id).limit(limit))
    return [_channel(row, sealer) for row in rows]


async def put_model(
    db: AsyncConnection, name: str, values: dict[str, Any], prices: Prices | None
) -> tuple[Model, bool]:
    """Creates or replaces a model; whether it is new. Changed prices become a new version, equal ones keep theirs."""
    old = await find_model(db, name)
    version = None
    if prices is not None:
        version = old.price_version if old and old.prices == prices else await _add_prices(db, name, prices)
    row = {**values, "price_version": version}
    if old is None:
        await db.execute(insert(models).values(name=name, created_at_ms=now_ms(), **row))
    else:
        await db.execute(update(models).where(models.c.name == name).values(**row))
    model = await find_model(db, name)
    assert model is not None
    return model, old is None


async def _add_prices(db: AsyncConnection, model: str, prices: Prices) -> str:
    version = new_id("prc")
    await db.execute(
        insert(price_versions).values(
            id=version, model=model, prices=msgspec.to_builtins(prices), created_at_ms=now_ms()
        )
    )
    return version


async def find_model(db: AsyncConnection, name: str) -> Model | None:
    row = (await db.execute(_priced_models.where(models.c.name == name))).first()
    return _model(row) if row else None


async def list_models(db: AsyncConnection, after: str = "", limit: int = 10_000) -> list[Model]:
    rows = await db.execute(_priced_models.where(models.c.name > after).order_by(models.c.name).limit(limit))
    return [_model(row) for row in rows]


async def prices_of(db: AsyncConnection, versions: set[str]) -> dict[str, Prices]:
    """Price versions by id, for recomputing receipts."""
    rows = await db.execute(
        select(price_versions.c.id, price_versions.c.prices).where(price_versions.c.id.in_(versions))
    )
    return {row.id: msgspec.convert(row.prices, Prices) for row in rows}


def _sealed(sealer: Sealer, channel_id: str, values: dict[str, Any]) -> dict[str, Any]:
    if "credentials" not in values:
        return values
    rest = {name: value for name, value in values.items() if name != "credentials"}
    rest["sealed_credentials"] = sealer.seal(msgspec.json.encode(values["credentials"]), channel_id)
    return rest


def _channel(row: Row[Any], sealer: Sealer) -> Channel:
    credentials = msgspec.json.decode(sealer.open(row.sealed_credentials, row.id), type=list[str])
    return Channel(
        id=row.id,
        name=row.name,
        provider=row.provider,
        base_url=row.base_url,
        credentials=tuple(map(Secret, credentials)),
        models=row.models,
        costs=msgspec.convert(row.costs, dict[str, Prices]),
        timeouts=msgspec.convert(row.timeouts, Timeouts),
        priority=row.priority,
        weight=row.weight,
        enabled=row.enabled,
        created_at_ms=row.created_at_ms,
    )


_priced_models = select(models, price_versions.c.prices).outerjoin(
    price_versions, price_versions.c.id == models.c.price_version
)


def _model(row: Row[Any]) -> Model:
    return Model(
        name=row.name,
        context_length=row.context_length,
        max_output_tokens=row.max_output_tokens,
        description=row.description,
        fallbacks=tuple(row.fallbacks),
        prices=None if row.prices is None else msgspec.convert(row.prices, Prices),
        price_version=row.price_version,
        created_at_ms=row.created_at_ms,
    )
