"""A worker's dispatcher: makes a plan for each request out of the catalogue and the health of the ways."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

from app.catalog.records import Channel, Model
from app.proxy.dispatch.change import WayHealth
from app.proxy.dispatch.health import Health
from app.proxy.dispatch.plan import RoutePlan
from app.proxy.dispatch.table import Table, make_table
from app.proxy.records import Order
from app.quota.seats import Seats

__all__ = ["Dispatcher"]


class Dispatcher:
    """Without `seats` the vendors' limits are not looked at. `sleep` takes seconds, by the clock of `health`."""

    def __init__(
        self,
        health: Health,
        seats: Seats | None = None,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.health = health
        self._seats = seats
        self._rng = rng or random.Random()  # noqa: S311 (a share of traffic, not a secret)
        self._sleep = sleep
        self._tables: dict[str, Table] = {}

    def plan(
        self,
        caller_account_id: str,
        order: Order,
        model: Model,
        channels: Sequence[Channel],
        excluded: Collection[str] = (),
    ) -> RoutePlan:
        """`channels` serve the model, highest priority first; those whose id is `excluded` are not asked."""
        table = self._tables.get(model.name)
        if table is None or table.channels is not channels or table.model is not model:
            table = self._tables[model.name] = make_table(model, channels, self.health)
        return RoutePlan(self.health, self._seats, self._rng, table, caller_account_id, order, excluded, self._sleep)

    def reconcile(self, channels: Iterable[Channel]) -> None:
        """The catalogue was read anew: what is not in it any more is forgotten."""
        self._tables.clear()
        self.health.reconcile(channels)

    def unpark(self, channel_id: str, credential_id: str | None, reason: str) -> None:
        """The credential may be used again; None: all of the channel's."""
        self.health.unpark(channel_id, credential_id, reason)

    def view(self) -> list[WayHealth]:
        """The ways as this worker sees them; `news.read_health` has all workers'."""
        return self.health.view()

    async def close(self) -> None:
        if self._seats is not None:
            await self._seats.close()
