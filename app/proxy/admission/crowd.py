"""A model's limits over all customers together. Their counter has a hash slot of its own, which no wallet shares: it is
asked before the admission, in a call of its own, and only for models that have such limits."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.base.errors import RateLimited
from app.catalog.records import Model
from app.proxy.admission.estimate import output_bound
from app.proxy.admission.headers import duration
from app.proxy.records import Order
from app.quota.seats import Seat, Seats

__all__ = ["Crowd", "Place"]

_LEASE_MS = 3_600_000  # longer than any answer takes: of a worker that died


class Place:
    """Of one request. `tokens` is what it took in the end; None where nobody knows."""

    tokens: int | None = None


class Crowd:
    def __init__(self, seats: Seats) -> None:
        self._seats = seats

    @asynccontextmanager
    async def place(self, order: Order, model: Model) -> AsyncIterator[Place]:
        """For as long as the request runs. Raises RateLimited, with nothing used up."""
        limits = model.total_limits
        seat = Seat(
            credential=f"model/{model.name}",
            name=order.request_id,
            tokens=order.input_bound + output_bound(order, model),
            rpm=limits.rpm,
            tpm=limits.tpm,
            concurrency=limits.concurrency,
            lease_ms=_LEASE_MS,
        )
        if wait_ms := await self._seats.take(seat):
            raise RateLimited(
                f"`{model.name}` is as busy as it may be, with the requests of all customers. "
                f"Try again in {duration(wait_ms)}.",
                wait_ms,
            )
        place = Place()
        try:
            yield place
        except BaseException:
            place.tokens = place.tokens or 0
            raise
        finally:
            self._seats.free(seat, place.tokens)
