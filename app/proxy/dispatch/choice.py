"""The order in which the channels of a model are tried: by priority, the highest first, and by weight within it."""

import random
from collections.abc import Sequence
from itertools import groupby

from app.catalog.records import Channel

__all__ = ["order_channels"]


def order_channels(channels: Sequence[Channel], rng: random.Random) -> tuple[Channel, ...]:
    """Every channel once. `channels` come sorted by priority, as the snapshot has them.

    Within a priority, a channel's chance to come next is its weight's share of those left; weight 0 comes last.
    """
    if len(channels) == 1:
        return (channels[0],)
    chosen: list[Channel] = []
    for _, tier in groupby(channels, key=lambda channel: channel.priority):
        # Efraimidis & Spirakis (2006), weighted random sampling: sorting by log(u)/weight draws without replacement.
        chosen += sorted(tier, key=lambda channel: _draw(channel.weight, rng))
    return tuple(chosen)


def _draw(weight: int, rng: random.Random) -> float:
    """Smaller comes first: an exponential variate with rate `weight`."""
    return rng.expovariate(weight) if weight > 0 else float("inf")
