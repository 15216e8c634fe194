"""A model's limits over all customers together. Their counter has a hash slot of its own, which no wallet shares: it is
asked before the admission, in a call of its own, and only for models that have such limits."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.base.errors import RateLimited, ServiceUnavailable
from app.catalog.records import Model
from app.proxy.admission.estimate import held_output, output_bound
from app.proxy.admission.headers import duration
from app.proxy.records import Order
from app.quota.seats import Seat, Seats

__all__ = ["Crowd", "Place"]

_RENEWALS_A_LEASE = 3

log = logging.getLogger("tollgate.admission")


class Place:
    """Of one request. `tokens` is what it took in the end; None where nobody knows."""

    tokens: int | None = None


class Crowd:
    """A place whose worker has died is free when its lease ends; those that are used are renewed by `keep`."""

    def __init__(self, seats: Seats, lease_ms: int) -> None:
        self._seats = seats
        self._lease_ms = lease_ms
        self._taken: dict[str, Seat] = {}

    @asynccontextmanager
    async def place(self, order: Order, model: Model) -> AsyncIterator[Place]:
        """For as long as the request runs. Raises RateLimited, with nothing used up, or ServiceUnavailable."""
        limits = model.total_limits
        seat = Seat(
            credential=f"model/{model.name}",
            name=order.request_id,
            tokens=order.input_bound + held_output(order, output_bound(order, model)),
            rpm=limits.rpm,
            tpm=limits.tpm,
            concurrency=limits.concurrency,
            lease_ms=self._lease_ms,
        )
        try:
            wait_ms = await self._seats.take_strictly(seat)
        except BaseException:  # it may have been taken all the same
            self._seats.free(seat, None)
            raise
        if wait_ms:
            raise RateLimited(
                f"`{model.name}` is as busy as it may be, with the requests of all customers. "
                f"Try again in {duration(wait_ms)}.",
                wait_ms,
            )
        place = Place()
        if seat.concurrency:
            self._taken[seat.name] = seat
        try:
            yield place
        except BaseException:
            place.tokens = place.tokens or 0
            raise
        finally:
            self._taken.pop(seat.name, None)
            self._seats.free(seat, place.tokens)

    async def keep(self) -> None:
        """Renews the places that are taken, until cancelled."""
        while True:
            await asyncio.sleep(self._lease_ms / _RENEWALS_A_LEASE / 1000)
            try:
                await asyncio.gather(*(self._seats.renew(seat) for seat in [*self._taken.values()]))
            except ServiceUnavailable:
                log.warning("the places at busy models could not be renewed: Redis is away")
