"""The ways to one model, by priority: worked out once for each state of the catalogue."""

from collections.abc import Sequence
from hashlib import blake2b
from itertools import groupby

import msgspec

from app.catalog.records import Channel, Model
from app.proxy.dispatch.choice import Candidate
from app.proxy.dispatch.health import Health

__all__ = ["Table", "make_table"]


class Table(msgspec.Struct, frozen=True):
    """`tiers` are of falling priority. `sticky`: conversations stay where they are."""

    model: Model
    channels: Sequence[Channel]
    tiers: tuple[tuple[Candidate, ...], ...]
    sticky: bool

    @property
    def candidates(self) -> list[Candidate]:
        return [each for tier in self.tiers for each in tier]


def make_table(model: Model, channels: Sequence[Channel], health: Health) -> Table:
    """`channels` come sorted by priority, as the snapshot has them."""
    tiers = tuple(
        tuple(candidate for channel in tier for candidate in _candidates(channel, model, health))
        for _, tier in groupby(channels, key=lambda channel: channel.priority)
    )
    return Table(model, channels, tiers, _is_sticky(model, tiers))


def _candidates(channel: Channel, model: Model, health: Health) -> list[Candidate]:
    ways = health.ways_of(channel)
    weights = sum(way.credential.weight for way in ways)
    cost = channel.costs.get(channel.models[model.name])
    return [
        Candidate(
            way=way,
            weight=channel.weight * way.credential.weight / weights if weights else 0.0,
            salt=blake2b(f"{channel.id}/{way.credential.id}".encode(), digest_size=16).digest(),
            pace=way.pace(model.name),
            prices=None if cost is None else cost.prices,
            shares_channel=len(ways) > 1,
        )
        for way in ways
    ]


def _is_sticky(model: Model, tiers: Sequence[Sequence[Candidate]]) -> bool:
    """`auto`: where a vendor takes less for what it has in its cache, and the strategy leaves it a choice."""
    routing = model.routing
    if routing.sticky != "auto":
        return routing.sticky == "on"
    if routing.strategy not in ("weighted", "least_busy"):
        return False
    rates = [each.prices for tier in tiers for each in tier if each.prices is not None]
    return any(rate.cached_input is not None and rate.cached_input < rate.input for rate in rates)
