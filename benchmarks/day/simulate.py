"""One strategy through the day: the gateway's dispatcher with a virtual clock, and vendors that answer as `world` says.

Nothing waits: a plan is stepped by hand, for it suspends only for vendors' limits, of which there are none here.
"""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import msgspec

from app.catalog.pricing import Cost, Prices
from app.catalog.records import Channel, Credential, Model, Routing, Timeouts
from app.proxy.dispatch.dispatcher import Dispatcher
from app.proxy.dispatch.health import Health
from app.proxy.dispatch.plan import RoutePlan
from app.proxy.records import Order, Outcome, Pick
from benchmarks.day.world import CACHE_MS, FAILS_AFTER_MS, VENDORS, Request, Vendor

MODEL = "day"
_NANO = 1_000_000_000
_BY_NAME = {vendor.name: vendor for vendor in VENDORS}


class Served(msgspec.Struct, frozen=True):
    """What became of a request. `vendor` is None where nobody could serve it; `first_ms` counts from its arrival, tries
    that failed included. `in_flight` is what every vendor had when it came."""

    request: Request
    vendor: str | None
    first_ms: int
    usd: float
    is_cached: bool
    tries: int
    in_flight: dict[str, int]


class Memory:
    """What each vendor has in its prompt cache."""

    def __init__(self) -> None:
        self._at_ms: dict[tuple[str, int], int] = {}

    def knows(self, vendor: str, request: Request) -> bool:
        at_ms = self._at_ms.get((vendor, request.conversation))
        return at_ms is not None and request.at_ms - at_ms < CACHE_MS

    def learn(self, vendor: str, request: Request) -> None:
        self._at_ms[vendor, request.conversation] = request.at_ms


class Day:
    """The events of one run, by virtual time."""

    def __init__(self, routing: Routing, seed: int) -> None:
        self.now_ms = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = count()
        rng = random.Random(seed)
        health = Health(rng, clock_ms=lambda: self.now_ms, wall_ms=lambda: self.now_ms)
        self._dispatcher = Dispatcher(health, rng=rng)
        self._model = _model(routing)
        self._channels = tuple(_channel(vendor) for vendor in VENDORS)
        self._in_flight: defaultdict[str, int] = defaultdict(int)
        self._memory = Memory()
        self.served: list[Served] = []

    def run(self, requests: Sequence[Request]) -> list[Served]:
        for request in requests:
            self._at(request.at_ms, lambda request=request: self._arrive(request))  # type: ignore[misc]
        while self._events:
            self.now_ms, _, happen = heapq.heappop(self._events)
            happen()
        return self.served

    def _at(self, at_ms: int, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at_ms, next(self._numbers), happen))

    def _arrive(self, request: Request) -> None:
        plan = self._dispatcher.plan("account", _order(request), self._model, self._channels)
        seen = {vendor.name: self._in_flight[vendor.name] for vendor in VENDORS}
        self._try(request, plan, seen, tries=1)

    def _try(self, request: Request, plan: RoutePlan, seen: dict[str, int], tries: int) -> None:
        pick = _step(plan.next())
        if pick is None:
            self.served.append(Served(request, None, self.now_ms - request.at_ms, 0.0, False, tries - 1, seen))
            return
        vendor = _BY_NAME[pick.channel.name]
        began_ms = self.now_ms
        self._in_flight[vendor.name] += 1
        if vendor.is_down(began_ms):

            def fail() -> None:
                self._in_flight[vendor.name] -= 1
                plan.ended(pick, Outcome(error="connect"))
                self._try(request, plan, seen, tries + 1)

            self._at(began_ms + FAILS_AFTER_MS, fail)
            return
        first_ms = request.first_ms(vendor, self._in_flight[vendor.name] - 1)

        def begin() -> None:
            plan.came(pick, first_ms)
            is_cached = self._memory.knows(vendor.name, request)
            self._memory.learn(vendor.name, request)
            usd = vendor.usd(request, is_cached=is_cached)
            self.served.append(Served(request, vendor.name, self.now_ms - request.at_ms, usd, is_cached, tries, seen))

        def end() -> None:
            self._in_flight[vendor.name] -= 1
            plan.ended(pick, Outcome(http_status=200, tokens=request.input_tokens + request.output_tokens))

        self._at(began_ms + first_ms, begin)
        self._at(began_ms + first_ms + round(request.output_tokens * vendor.token_ms), end)


def _step(waiting: Any) -> Pick | None:
    """The result of a coroutine that does not wait. Raises RuntimeError where it does."""
    try:
        waiting.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise RuntimeError("the plan waits")


def _model(routing: Routing) -> Model:
    return Model(
        name=MODEL,
        context_length=None,
        max_output_tokens=None,
        description="",
        fallbacks=(),
        prices=None,
        price_version=None,
        created_at_ms=0,
        routing=routing,
    )


def _channel(vendor: Vendor) -> Channel:
    prices = Prices(
        input=round(vendor.input * _NANO),
        cached_input=round(vendor.cached_input * _NANO),
        output=round(vendor.output * _NANO),
    )
    return Channel(
        id=vendor.name,
        name=vendor.name,
        provider="openai",
        base_url="http://127.0.0.1/v1",
        credentials=(Credential(id=f"of-{vendor.name}", secret=None),),
        models={MODEL: MODEL},
        costs={MODEL: Cost(prices=prices, version="1")},
        timeouts=Timeouts(),
        priority=0,
        weight=vendor.weight,
        enabled=True,
        created_at_ms=0,
    )


def _order(request: Request) -> Order:
    return Order(
        request_id=str(request.number),
        created_at_ms=request.at_ms,
        dialect="openai_chat",
        model=MODEL,
        stream=True,
        wants_usage=False,
        answers=1,
        output_limit=None,
        input_bound=request.input_tokens * 4,
        body={},
        prompt=(),
        conversation=str(request.conversation),
    )
