"""What the warden asks of the rest of the house, and how a worker's rooms answer it."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

import msgspec
import redis.asyncio as redis
from redis.exceptions import RedisError

from app.base.errors import ServiceUnavailable
from app.catalog.records import Channel, Credential
from app.proxy.dispatch.change import WayHealth
from app.proxy.dispatch.figures import read_health
from app.proxy.dispatch.health import Health
from app.proxy.relay import Relay
from app.proxy.relay.probe import probe_channel

__all__ = ["House", "Probe", "Way", "in_flight", "make_house", "read_ways"]

Way = tuple[str, str]  # ids of a channel and of one of its credentials


class Probe(Protocol):
    async def __call__(self, channel: Channel, model: str, credential: Credential, /) -> Mapping[str, object]:
        """One tiny real request: `ok`, `latency_ms`, `http_status`, `error`. Never raises for what the vendor did."""


class House(msgspec.Struct, frozen=True, kw_only=True):
    """`ways` are those of all workers."""

    channels: Callable[[], Iterable[Channel]]  # all of them, also those that are off
    ways: Callable[[], Awaitable[list[WayHealth]]]  # raises ServiceUnavailable
    probe: Probe
    park: Callable[[Way, str, int], None]  # with the reason and the vendor's status
    unpark: Callable[[Way, str], None]
    announce: Callable[[str], Awaitable[None]]


def make_house(
    channels: Callable[[], Iterable[Channel]],
    relay: Relay,
    health: Health,
    client: redis.Redis,
    announce: Callable[[str], Awaitable[None]],
) -> House:
    return House(
        channels=channels,
        ways=lambda: read_ways(client),
        probe=lambda channel, model, credential: probe_channel(relay, channel, model, credential),
        park=lambda way, reason, status: health.park(*way, reason, status),
        unpark=lambda way, reason: health.unpark(*way, reason),
        announce=announce,
    )


async def read_ways(client: redis.Redis) -> list[WayHealth]:
    """Raises ServiceUnavailable."""
    try:
        return await read_health(client)
    except (RedisError, OSError) as error:
        raise ServiceUnavailable("Redis can't be reached.") from error


def in_flight(ways: Iterable[WayHealth]) -> Counter[str]:
    """Requests by channel."""
    sums: Counter[str] = Counter()
    for way in ways:
        sums[way.channel_id] += way.in_flight
    return sums
