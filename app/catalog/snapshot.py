"""What a worker knows of the offer, in memory: read once, read again when a change is announced. The proxy reads it
without a look-up in Redis or the database."""

from collections.abc import Iterable

import msgspec

from app.base.crypto import Sealer
from app.base.database import Database
from app.catalog.offers import list_channels, list_models
from app.catalog.records import Channel, Model

__all__ = ["EMPTY", "Snapshot", "build_snapshot", "load_snapshot"]


class Snapshot(msgspec.Struct, frozen=True):
    """Models on sale by name, and for each the enabled channels that serve it, highest priority first."""

    models: dict[str, Model]
    routes: dict[str, tuple[Channel, ...]]


EMPTY = Snapshot({}, {})


def build_snapshot(models: Iterable[Model], channels: Iterable[Channel]) -> Snapshot:
    """Pure: only models with a price are sold, and only enabled channels serve."""
    on_sale = {model.name: model for model in models if model.prices is not None}
    ranked = sorted((channel for channel in channels if channel.enabled), key=lambda channel: -channel.priority)
    routes: dict[str, list[Channel]] = {name: [] for name in on_sale}
    for channel in ranked:
        for name in channel.models:
            if name in routes:
                routes[name].append(channel)
    return Snapshot(on_sale, {name: tuple(route) for name, route in routes.items()})


async def load_snapshot(database: Database, sealer: Sealer) -> Snapshot:
    async with database.read() as db:
        return build_snapshot(await list_models(db), await list_channels(db, sealer))
