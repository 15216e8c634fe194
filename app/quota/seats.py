"""A vendor's own limits, kept over all workers, so that we do not run into them: requests and tokens a minute, and
requests at the same time, for each credential. Where Redis is away nobody is kept from a vendor.
"""

import asyncio
import logging
from pathlib import Path

import msgspec

from app.base.clock import monotonic_ms
from app.base.errors import ServiceUnavailable
from app.base.wire import Script, StoreError, Wire

__all__ = ["Seat", "Seats"]

log = logging.getLogger("tollgate.seats")

_SEAT = Script((Path(__file__).parent / "seat.lua").read_text())
_RENEW = Script((Path(__file__).parent / "seat_renew.lua").read_text())
_FREE = Script((Path(__file__).parent / "seat_free.lua").read_text())

_PATIENCE_S = 0.25
_AWAY_MS = 1_000


class Seat(msgspec.Struct, frozen=True):
    """One request's place at a vendor. `credential` is a credential's name in Redis, `name` the request's own."""

    credential: str
    name: str
    tokens: int
    rpm: int
    tpm: int
    concurrency: int
    lease_ms: int


class Seats:
    """Redis is taken to be away, for a second, where it does not answer within `patience_s`."""

    def __init__(self, wire: Wire, patience_s: float = _PATIENCE_S) -> None:
        self._wire = wire
        self._patience_s = patience_s
        self._away_until_ms = 0
        self._freeing: set[asyncio.Task[None]] = set()

    async def take(self, seat: Seat) -> int:
        """0: it is taken. Else how many milliseconds to wait for one, nothing having been used up."""
        return await self._ask(seat, seat.name)

    async def take_strictly(self, seat: Seat) -> int:
        """The same, but where Redis is away ServiceUnavailable is raised: for limits that are ours."""
        _, wait_ms = await self._wire.run(_SEAT, _keys(seat), *_arguments(seat, seat.name))
        return int(wait_ms)

    async def renew(self, seat: Seat) -> None:
        """Moves on the lease of a seat that is still used. Raises ServiceUnavailable."""
        await self._wire.run(_RENEW, _keys(seat)[1:], seat.name, seat.lease_ms)

    async def look(self, seat: Seat) -> int:
        """How long there is to wait, without taking it."""
        return await self._ask(seat, "")

    def free(self, seat: Seat, tokens: int | None) -> None:
        """In the background. `tokens` is what it really took; None: as much as was held."""
        task = asyncio.get_running_loop().create_task(self._free(seat, 0 if tokens is None else tokens - seat.tokens))
        self._freeing.add(task)
        task.add_done_callback(self._freeing.discard)

    async def close(self) -> None:
        """Waits for what is still being given back."""
        await asyncio.gather(*self._freeing)

    async def _ask(self, seat: Seat, name: str) -> int:
        if self._away_until_ms > monotonic_ms():
            return 0
        try:
            async with asyncio.timeout(self._patience_s):
                _, wait_ms = await self._wire.run(_SEAT, _keys(seat), *_arguments(seat, name))
        except (ServiceUnavailable, StoreError, TimeoutError):
            log.warning("Redis can't be asked for the vendors' limits: requests go on without")
            self._away_until_ms = monotonic_ms() + _AWAY_MS
            return 0
        return int(wait_ms)

    async def _free(self, seat: Seat, more_tokens: int) -> None:
        try:
            await self._wire.run(_FREE, _keys(seat), seat.name, more_tokens if seat.tpm else 0)
        except (ServiceUnavailable, StoreError):
            log.warning("a seat at a vendor was not given back; its lease ends by itself")


def _arguments(seat: Seat, name: str) -> tuple[str | int, ...]:
    return (name, seat.rpm, seat.tpm, seat.concurrency, seat.tokens, seat.lease_ms)


def _keys(seat: Seat) -> tuple[bytes, bytes]:
    tag = f"{{v:{seat.credential}}}"
    return f"{tag}:rate".encode(), f"{tag}:live".encode()
