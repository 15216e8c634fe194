"""From the visits of all rounds to the figures of a report: the median over rounds, with the lowest and the
highest.

Differences and ratios are taken inside a round, between two visits that followed each other, and only then
summed up.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.rounds import Point, Visit


class Spread(msgspec.Struct, frozen=True):
    """A figure over the rounds."""

    median: float
    low: float
    high: float

    @staticmethod
    def over(values: list[float]) -> Spread:
        """Of at least one value."""
        return Spread(statistics.median(values), min(values), max(values))


class Line(msgspec.Struct, frozen=True):
    """A named figure of a point, with its unit."""

    name: str
    unit: str
    value: Spread


Measure = tuple[str, str, "Callable[[Visit], float]"]


def _per_request_ms(role: str | None = None) -> Callable[[Visit], float]:
    def measure(visit: Visit) -> float:
        cpu_s = visit.cpu_s.get(role, 0.0) if role else sum(visit.cpu_s.values())
        return cpu_s * 1000 / max(1, visit.gateway.requests)

    return measure


_LATENCY: list[Measure] = [
    ("direct p50", "ms", lambda v: v.direct.p50_ms),
    ("added p50", "ms", lambda v: v.gateway.p50_ms - v.direct.p50_ms),
    ("added p99", "ms", lambda v: v.gateway.p99_ms - v.direct.p99_ms),
]
_RATE: list[Measure] = [
    ("direct", "requests/s", lambda v: v.direct.requests_per_s),
    ("gateway", "requests/s", lambda v: v.gateway.requests_per_s),
    ("gateway / direct", "%", lambda v: 100 * v.gateway.requests_per_s / max(1e-9, v.direct.requests_per_s)),
]
_BUSY: list[Measure] = [
    ("gateway's processes", "% of a core", lambda v: 100 * sum(v.cpu_s.values()) / v.elapsed_s),
    ("its core, all users", "% busy", lambda v: 100 * v.gateway_core_busy_s / v.elapsed_s),
]


def _stream_measures() -> list[Measure]:
    def of(side: str, field: str) -> Callable[[Visit], float]:
        return lambda v: float(getattr(getattr(v, side).stream, field))

    def added(field: str) -> Callable[[Visit], float]:
        return lambda v: of("gateway", field)(v) - of("direct", field)(v)

    return [
        ("direct", "frames/s", of("direct", "frames_per_s")),
        ("gateway", "frames/s", of("gateway", "frames_per_s")),
        ("added to first frame p50", "ms", added("first_frame_p50_ms")),
        ("added to first frame p99", "ms", added("first_frame_p99_ms")),
        ("added to a frame, mean", "ms", added("delay_mean_ms")),
        ("lost frames", "", of("gateway", "lost")),
        (
            "CPU a frame, all in",
            "us",
            lambda v: sum(v.cpu_s.values()) * 1e6 / max(1.0, of("gateway", "frames")(v)),
        ),
    ]


def lines(point: Point, visits: list[Visit]) -> list[Line]:
    """The figures of one point. Raises StatisticsError without visits."""
    if point.stream:
        measures = _stream_measures()
    else:
        measures = (_LATENCY if point.connections == 1 else [*_RATE, *_LATENCY[1:]]) + [
            ("CPU a request, total", "ms", _per_request_ms()),
            *((f"CPU a request, {role}", "ms", _per_request_ms(role)) for role in roles(visits)),
        ]
    return [
        Line(name, unit, Spread.over([measure(visit) for visit in visits])) for name, unit, measure in measures + _BUSY
    ]


def roles(visits: list[Visit]) -> list[str]:
    """Roles of the processes that took any CPU at all."""
    return sorted({role for visit in visits for role, cpu_s in visit.cpu_s.items() if cpu_s > 0})


def memory_lines(visits: list[Visit]) -> list[Line]:
    """Memory by role and in total, over all visits; the last is usually the highest."""
    by_role = [
        Line(f"memory, {role}", "MB", Spread.over([visit.memory_mb.get(role, 0.0) for visit in visits]))
        for role in sorted({role for visit in visits for role in visit.memory_mb})
    ]
    total = Spread.over([sum(visit.memory_mb.values()) for visit in visits])
    return [*by_role, Line("memory, total", "MB", total)]
