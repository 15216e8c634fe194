"""What a strategy came to, against who knows everything beforehand: which vendor is down, slow or cheap. Pure.

The ideal of a strategy is worked out for the same requests, each with what the vendors had in flight in the real run.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from app.catalog.records import Routing
from benchmarks.day.simulate import Memory, Served
from benchmarks.day.world import VENDORS, Request, Vendor


class Strategy(msgspec.Struct, frozen=True):
    """`what` it is after, smaller being better. Its excess over the ideal must stay below `bound`: as a part of the
    ideal, or, of a share, as it is."""

    name: str
    routing: Routing
    what: str
    bound: float
    is_share: bool = False


STRATEGIES = (
    Strategy("weighted", Routing(strategy="weighted", sticky="off"), "share in the wrong place", 0.03, is_share=True),
    Strategy("latency", Routing(strategy="latency", sticky="off"), "mean first content, ms", 0.20),
    Strategy("cost", Routing(strategy="cost", sticky="off"), "USD a thousand", 0.05),
    Strategy("least_busy", Routing(strategy="least_busy", sticky="off"), "busiest over mean", 0.15),
    Strategy("sticky", Routing(strategy="weighted", sticky="on"), "later turns not cached", 0.05, is_share=True),
)


class Outcome(msgspec.Struct, frozen=True):
    """What a run came to: USD a thousand requests, milliseconds of first content, what share of later turns found their
    prompt cached; and what its strategy is after, its own and the ideal."""

    split: dict[str, float]
    usd: float
    first_mean_ms: float
    first_p95_ms: float
    cached: float
    failed: int
    own: float
    ideal: float
    excess: float


def judge(strategy: Strategy, served: Sequence[Served]) -> Outcome:
    own, ideal = _MEASURES[strategy.name](served)
    done = [one for one in served if one.vendor is not None]
    firsts = sorted(one.first_ms for one in done)
    later = [one for one in done if one.request.shared_tokens]
    return Outcome(
        split={name: count / len(done) for name, count in sorted(Counter(one.vendor or "" for one in done).items())},
        usd=sum(one.usd for one in done) / len(done) * 1000,
        first_mean_ms=sum(firsts) / len(firsts),
        first_p95_ms=firsts[math.ceil(0.95 * len(firsts)) - 1],
        cached=sum(one.is_cached for one in later) / len(later),
        failed=len(served) - len(done),
        own=own,
        ideal=ideal,
        excess=own - ideal if strategy.is_share else own / ideal - 1,
    )


def _weights(served: Sequence[Served]) -> tuple[float, float]:
    """The share of requests that are not where the weights of those that are up would have them."""
    expected: Counter[str] = Counter()
    for one in served:
        up = _up(one.request)
        for vendor in up:
            expected[vendor.name] += vendor.weight / sum(each.weight for each in up)  # type: ignore[assignment]
    found = Counter(one.vendor for one in served)
    return sum(max(0.0, found[name] - expected[name]) for name in found if name) / len(served), 0.0


def _latency(served: Sequence[Served]) -> tuple[float, float]:
    """Against the quickest vendor for each, as busy as they were."""
    best = [min(one.request.first_ms(each, one.in_flight[each.name]) for each in _up(one.request)) for one in served]
    return sum(one.first_ms for one in served) / len(served), sum(best) / len(best)


def _cost(served: Sequence[Served]) -> tuple[float, float]:
    """Against the cheapest vendor that is up, with what its cache would hold."""
    memory, best = Memory(), 0.0
    for one in served:
        usd, name = min(
            (each.usd(one.request, is_cached=memory.knows(each.name, one.request)), each.name)
            for each in _up(one.request)
        )
        memory.learn(name, one.request)
        best += usd
    return sum(one.usd for one in served) / len(served) * 1000, best / len(served) * 1000


def _busyness(served: Sequence[Served]) -> tuple[float, float]:
    """The busiest vendor's requests in flight for its weight, against all of them for all weights, in the mean."""
    ratios = []
    for one in served:
        up = _up(one.request)
        mean = sum(one.in_flight[each.name] for each in up) / sum(each.weight for each in up)
        if mean >= 1:  # below, single requests make the ratio
            ratios.append(max(one.in_flight[each.name] / each.weight for each in up) / mean)
    return sum(ratios) / len(ratios), 1.0


def _cache(served: Sequence[Served]) -> tuple[float, float]:
    """Later turns that came where their prompt was not, against one vendor a conversation until it is down."""
    homes: dict[int, str] = {}
    memory, later, missed = Memory(), 0, 0
    for one in sorted(served, key=lambda one: one.request.at_ms):
        request = one.request
        names = [each.name for each in _up(request)]
        if homes.get(request.conversation) not in names:
            homes[request.conversation] = names[request.conversation % len(names)]
        home = homes[request.conversation]
        if request.shared_tokens:
            later += 1
            missed += not memory.knows(home, request)
        memory.learn(home, request)
    return sum(bool(one.request.shared_tokens) and not one.is_cached for one in served) / later, missed / later


_MEASURES: dict[str, Callable[[Sequence[Served]], tuple[float, float]]] = {
    "weighted": _weights,
    "latency": _latency,
    "cost": _cost,
    "least_busy": _busyness,
    "sticky": _cache,
}


def _up(request: Request) -> list[Vendor]:
    return [vendor for vendor in VENDORS if not vendor.is_down(request.at_ms)]
