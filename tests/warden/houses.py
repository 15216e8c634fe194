"""A house for the warden's rounds: channels and vendors are what the test says; it notes what the warden does to it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from app.catalog.records import Channel, Credential
from app.proxy.dispatch.change import WayHealth
from app.warden.house import House, Way

__all__ = ["Yard", "fails", "works"]

Result = dict[str, object]


def works(model: str = "small") -> Result:
    return {"ok": True, "model": model, "latency_ms": 7, "http_status": 200, "error": None}


def fails(status: int | None = 500, error: str = "status") -> Result:
    return {"ok": False, "model": "small", "latency_ms": 7, "http_status": status, "error": error}


class Yard:
    """`results` are given to tests by credential; what was asked is in `probed`."""

    def __init__(self, *channels: Channel) -> None:
        self.channels = list(channels)
        self.standing: set[Way] = set()  # that are parked
        self.busy: dict[str, int] = {}
        self.results: dict[str, Result] = {}
        self.probed: list[str] = []
        self.parks: list[tuple[Way, str, int]] = []
        self.returns: list[Way] = []
        self.announced: list[str] = []
        self.hold: Callable[[], Awaitable[Any]] | None = None

    @property
    def house(self) -> House:
        return House(
            channels=lambda: self.channels,
            probe=self._probe,
            ways=self._ways,
            park=lambda way, reason, status: self.parks.append((way, reason, status)),
            unpark=self._unpark,
            announce=self._announce,
        )

    async def _probe(self, channel: Channel, model: str, credential: Credential) -> Result:
        assert model in channel.models
        self.probed.append(credential.id)
        await (self.hold() if self.hold else asyncio.sleep(0))
        return self.results.get(credential.id, works(model))

    async def _ways(self) -> list[WayHealth]:
        parked = [WayHealth(channel_id=way[0], credential_id=way[1], stamp="", parked="401") for way in self.standing]
        busy = [WayHealth(channel_id=name, credential_id="", stamp="", in_flight=n) for name, n in self.busy.items()]
        return parked + busy

    def _unpark(self, way: Way, _reason: str) -> None:
        self.standing.discard(way)
        self.returns.append(way)

    async def _announce(self, event: str) -> None:
        self.announced.append(event)
