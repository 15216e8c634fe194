"""Ways to a model, a clock that only tests move, and short names for what befalls a pick."""

import random
from collections.abc import Sequence
from typing import Any

from app.base.clock import monotonic_ms, now_ms
from app.catalog.pricing import Cost, Prices
from app.catalog.records import Channel, Model, Routing
from app.proxy.dispatch import Change, Dispatcher, Health
from app.proxy.records import Outcome
from tests.proxy.makers import make_channel, order

__all__ = ["DENIED", "DOWN", "FULL", "GONE", "OK", "Clock", "House", "RunningClock", "costs", "make_model"]

OK = Outcome(http_status=200, tokens=10)
DOWN = Outcome(error="connect")
FULL = Outcome(http_status=429, error="status")
DENIED = Outcome(http_status=401, error="status")
GONE = Outcome(is_abandoned=True)


class Clock:
    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms

    def wall_ms(self) -> int:
        return self.now_ms + 1_700_000_000_000


class RunningClock(Clock):
    """The machine's, which tests may put forward; the wall clock goes on by itself."""

    def __init__(self) -> None:
        self._ahead_ms = 0

    @property
    def now_ms(self) -> int:  # type: ignore[override]
        return monotonic_ms() + self._ahead_ms

    @now_ms.setter
    def now_ms(self, to_ms: int) -> None:
        self._ahead_ms = to_ms - monotonic_ms()

    def wall_ms(self) -> int:
        return now_ms()


def make_model(**routing: Any) -> Model:
    return Model(
        name="small",
        context_length=None,
        max_output_tokens=None,
        description="",
        fallbacks=(),
        prices=None,
        price_version=None,
        created_at_ms=0,
        routing=Routing(**routing),
    )


def costs(**prices: Any) -> dict[str, Cost]:
    return {"vendor-small": Cost("v1", Prices(**prices))}


class House:
    """A dispatcher over some channels, by a clock of its own; what it tells others is kept."""

    def __init__(self, *channels: Channel, seed: int = 1, clock: Clock | None = None, **routing: Any) -> None:
        self.clock = clock or Clock()
        self.health = Health(random.Random(seed), self.clock, self.clock.wall_ms)
        self.dispatcher = Dispatcher(self.health, rng=random.Random(seed), sleep=self._nap)
        self.naps_s: list[float] = []
        self.model = make_model(**routing)
        self.channels: Sequence[Channel] = tuple(channels) or (make_channel(),)
        self.ttft_ms: dict[str, int] = {}  # by channel, 10 otherwise
        self.told: list[Change] = []
        self.health.listen(self.told.append)

    async def _nap(self, seconds: float) -> None:
        self.naps_s.append(seconds)
        self.clock.now_ms += round(seconds * 1000)

    @property
    def kinds(self) -> list[str]:
        return [change.kind for change in self.told]

    def plan(self, excluded: Sequence[str] = (), **fields: Any) -> Any:
        return self.dispatcher.plan("acc_1", order(**fields), self.model, self.channels, excluded)

    async def ask(self, outcome: Outcome = OK, **fields: Any) -> str | None:
        """One request that takes its first pick and ends like this: the channel's id."""
        plan = self.plan(**fields)
        pick = await plan.next()
        if pick is None:
            return None
        if outcome is OK:
            plan.came(pick, self.ttft_ms.get(pick.channel.id, 10))
        plan.ended(pick, outcome)
        return str(pick.channel.id)

    async def picks(self, *outcomes: Outcome, **fields: Any) -> list[str]:
        """What one request asks, each pick ending as told, the last again and again until nobody is left."""
        plan, asked = self.plan(**fields), []
        while (pick := await plan.next()) is not None:
            asked.append(f"{pick.channel.id}/{pick.credential.id}")
            plan.ended(pick, outcomes[min(len(asked), len(outcomes)) - 1])
        return asked

    async def fail(self, times: int, outcome: Outcome = DOWN) -> None:
        for _ in range(times):
            await self.ask(outcome)
