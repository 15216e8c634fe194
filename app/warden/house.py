"""What the warden asks of the rest of the house: filled by whoever builds a worker."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

import msgspec

from app.catalog.records import Channel, Credential

__all__ = ["House", "Probe", "Way"]

Way = tuple[str, str]  # ids of a channel and of one of its credentials


class Probe(Protocol):
    async def __call__(self, channel: Channel, model: str, credential: Credential, /) -> Mapping[str, object]:
        """One tiny real request: `ok`, `latency_ms`, `http_status`, `error`. Never raises for what the vendor did."""


class House(msgspec.Struct, frozen=True, kw_only=True):
    """`parked` and `in_flight` are those of all workers, and raise ServiceUnavailable where Redis is away."""

    channels: Callable[[], Iterable[Channel]]  # all of them, also those that are off
    probe: Probe
    parked: Callable[[], Awaitable[set[Way]]]
    in_flight: Callable[[], Awaitable[Mapping[str, int]]]  # requests by channel id
    park: Callable[[Way, str, int], None]  # with the reason and the vendor's status
    unpark: Callable[[Way, str], None]
    announce: Callable[[str], Awaitable[None]]
