"""Channels, models and their prices: what is on offer, and where it comes from."""

from collections.abc import Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any

import msgspec
from sqlalchemy import Row, bindparam, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import now_ms
from app.base.crypto import Sealer
from app.base.ids import new_id
from app.base.limits import Limits
from app.catalog.channel_changes import note_changes
from app.catalog.channel_events import add_event
from app.catalog.pricing import Cost, Prices
from app.catalog.records import Channel, Media, Model, Routing, Timeouts, VendorLimits
from app.catalog.sealed import open_credentials, open_shaping, seal_credentials, seal_shaping
from app.catalog.tables import channels, models, price_versions
from app.catalog.versions import add_version, add_versions, prices_of

__all__ = [
    "add_models",
    "create_channel",
    "find_channel",
    "find_model",
    "list_channels",
    "list_models",
    "lock_offers",
    "put_model",
    "set_prices",
    "update_channel",
]


_OFFERS_LOCK = 0x6F666665  # "offe"


async def lock_offers(db: AsyncConnection) -> None:
    """Until the end of the transaction nobody else who locks them is at work: names of channels and accounts are not
    unique, so two who add the same would not see each other."""
    if db.dialect.name == "postgresql":  # SQLite's write transaction is a lock already
        await db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _OFFERS_LOCK})


async def create_channel(
    db: AsyncConnection, sealer: Sealer, values: dict[str, Any], costs: Mapping[str, Prices] = MappingProxyType({})
) -> Channel:
    """`values` are the columns, but for `credentials` and `shaping`: records, sealed here. `costs` go by upstream
    name."""
    channel_id = new_id("chn")
    row = {**_sealed(sealer, channel_id, values), "cost_versions": await _versioned(db, channel_id, costs, {})}
    await db.execute(insert(channels).values(id=channel_id, created_at_ms=now_ms(), **row))
    channel = await find_channel(db, sealer, channel_id)
    assert channel is not None
    await add_event(db, channel_id, "created", f"serves {', '.join(channel.models)}")
    return channel


async def update_channel(
    db: AsyncConnection,
    sealer: Sealer,
    channel_id: str,
    values: dict[str, Any],
    costs: Mapping[str, Prices] | None = None,
) -> Channel | None:
    """`costs` replaces all of them: changed ones become new versions, equal ones keep theirs."""
    old = await find_channel(db, sealer, channel_id, for_change=True)
    if old is None:
        return None
    values = _sealed(sealer, channel_id, values)
    if costs is not None:
        versions = {name: cost.version for name, cost in old.costs.items()}
        values = {**values, "cost_versions": await _versioned(db, channel_id, costs, versions)}
    if values:
        await db.execute(update(channels).where(channels.c.id == channel_id).values(**values))
    channel = await find_channel(db, sealer, channel_id)
    assert channel is not None
    await note_changes(db, old, channel)
    return channel


async def _versioned(
    db: AsyncConnection, channel_id: str, costs: Mapping[str, Prices], old: Mapping[str, str]
) -> dict[str, str]:
    """The versions of a channel's costs, by upstream name."""
    known = await prices_of(db, old.values())
    kept = {name: old[name] for name in costs if name in old and known.get(old[name]) == costs[name]}
    added = {name: prices for name, prices in costs.items() if name not in kept}
    return kept | await add_versions(db, added, channel_id=channel_id)


async def find_channel(
    db: AsyncConnection, sealer: Sealer, channel_id: str, *, for_change: bool = False
) -> Channel | None:
    """`for_change` keeps others from changing it before the transaction ends."""
    query = select(channels).where(channels.c.id == channel_id)
    row = (await db.execute(query.with_for_update() if for_change else query)).first()
    return _channel(row, sealer, await prices_of(db, row.cost_versions.values())) if row else None


async def list_channels(db: AsyncConnection, sealer: Sealer, after: str = "", limit: int = 10_000) -> list[Channel]:
    query = select(channels).where(channels.c.id > after).order_by(channels.c.id).limit(limit)
    rows = (await db.execute(query)).all()
    prices = await prices_of(db, chain.from_iterable(row.cost_versions.values() for row in rows))
    return [_channel(row, sealer, prices) for row in rows]


async def put_model(
    db: AsyncConnection, name: str, values: dict[str, Any], prices: Prices | None
) -> tuple[Model, bool]:
    """Creates or replaces a model; whether it is new. Changed prices become a new version, equal ones keep theirs."""
    old = await find_model(db, name)
    version = None
    if prices is not None:
        version = old.price_version if old and old.prices == prices else await add_version(db, name, prices)
    row = {**values, "price_version": version}
    dialect_insert = sqlite.insert if db.dialect.name == "sqlite" else postgresql.insert
    adding = dialect_insert(models).values(name=name, created_at_ms=now_ms(), **row).on_conflict_do_nothing()
    is_new = old is None and (await db.execute(adding)).rowcount == 1
    if not is_new:  # or another made it just now
        await db.execute(update(models).where(models.c.name == name).values(**row))
    model = await find_model(db, name)
    assert model is not None
    return model, is_new


async def set_prices(db: AsyncConnection, prices: Mapping[str, Prices]) -> None:
    """New prices of models that are there, and nothing else of them."""
    versions = await add_versions(db, prices)
    if versions:
        statement = update(models).where(models.c.name == bindparam("model")).values(price_version=bindparam("version"))
        await db.execute(statement, [{"model": name, "version": version} for name, version in versions.items()])


async def add_models(db: AsyncConnection, rows: Sequence[dict[str, Any]], prices: Mapping[str, Prices]) -> None:
    """New models by their columns; those that `prices` leaves out are not on sale."""
    versions = await add_versions(db, prices)
    made_at_ms = now_ms()
    blank = {"description": "", "fallbacks": [], "created_at_ms": made_at_ms}
    if rows:
        await db.execute(insert(models), [{**blank, **row, "price_version": versions.get(row["name"])} for row in rows])


async def find_model(db: AsyncConnection, name: str) -> Model | None:
    row = (await db.execute(_priced_models.where(models.c.name == name))).first()
    return _model(row) if row else None


async def list_models(db: AsyncConnection, after: str = "", limit: int = 10_000) -> list[Model]:
    rows = await db.execute(_priced_models.where(models.c.name > after).order_by(models.c.name).limit(limit))
    return [_model(row) for row in rows]


def _sealed(sealer: Sealer, channel_id: str, values: dict[str, Any]) -> dict[str, Any]:
    rest = dict(values)
    if "credentials" in rest:
        rest["sealed_credentials"] = seal_credentials(sealer, channel_id, rest.pop("credentials"))
    if "shaping" in rest:
        rest["sealed_shaping"] = seal_shaping(sealer, channel_id, rest.pop("shaping"))
    return rest


def _channel(row: Row[Any], sealer: Sealer, prices: Mapping[str, Prices]) -> Channel:
    return Channel(
        id=row.id,
        name=row.name,
        provider=row.provider,
        base_url=row.base_url,
        credentials=open_credentials(sealer, row.id, row.sealed_credentials),
        models=row.models,
        costs={name: Cost(version, prices[version]) for name, version in row.cost_versions.items()},
        timeouts=msgspec.convert(row.timeouts, Timeouts),
        priority=row.priority,
        weight=row.weight,
        enabled=row.enabled,
        created_at_ms=row.created_at_ms,
        shaping=open_shaping(sealer, row.id, row.sealed_shaping),
        limits=msgspec.convert(row.limits, VendorLimits),
        draining=row.draining,
        test_every_s=row.test_every_s,
        limit_field=row.limit_field,
        priced_fields=row.priced_fields,
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
        routing=msgspec.convert(row.routing, Routing),
        limits=msgspec.convert(row.limits, Limits),
        total_limits=msgspec.convert(row.total_limits, VendorLimits),
        media=msgspec.convert(row.media, Media),
    )
