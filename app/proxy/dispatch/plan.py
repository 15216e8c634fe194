"""The plan of one request for one model."""

import asyncio
import random
from collections.abc import Collection, Sequence

from app.catalog.records import Channel, Model
from app.proxy.dispatch.choice import order_channels
from app.proxy.records import Order, Outcome, Pick

__all__ = ["SimpleDispatcher", "SimplePlan"]


class SimplePlan:
    """Every channel once, in the order of `order_channels`, with its first credential."""

    def __init__(
        self, model: Model, channels: Sequence[Channel], rng: random.Random, excluded: Collection[str] = ()
    ) -> None:
        routing = model.routing
        self.hedge_s = None if routing.hedge_ms is None else routing.hedge_ms / 1000
        self.deadline_at = (
            None if routing.deadline_ms is None else asyncio.get_running_loop().time() + routing.deadline_ms / 1000
        )
        usable = [channel for channel in channels if channel.id not in excluded and channel.ways]
        self._waiting = list(order_channels(usable, rng)[: routing.attempts])
        self._retry_after_ms: int | None = None

    async def next(self) -> Pick | None:
        if not self._waiting:
            return None
        channel = self._waiting.pop(0)
        return Pick(channel, channel.ways[0])

    def came(self, pick: Pick, ttft_ms: int) -> None: ...

    def ended(self, pick: Pick, outcome: Outcome) -> None:
        wait_ms = outcome.retry_after_ms
        if wait_ms is not None:
            self._retry_after_ms = wait_ms if self._retry_after_ms is None else min(wait_ms, self._retry_after_ms)

    @property
    def retry_after_ms(self) -> int | None:
        return self._retry_after_ms


class SimpleDispatcher:
    def __init__(self) -> None:
        self._rng = random.Random()  # noqa: S311 (a share of traffic, not a secret)

    def plan(
        self,
        caller_account_id: str,
        order: Order,
        model: Model,
        channels: Sequence[Channel],
        excluded: Collection[str] = (),
    ) -> SimplePlan:
        return SimplePlan(model, channels, self._rng, excluded)
