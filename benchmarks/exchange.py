"""What goes into the load process and what comes out of it, as JSON: the order, and its figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from benchmarks.frames import StreamFigures

if TYPE_CHECKING:
    from collections.abc import Sequence

DRAIN_S = 15.0  # how long the load waits for what is in flight when its time is up
_MS = 1_000_000  # nanoseconds


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What to send, where and for how long. `body` empty means GET. `frames` is what a whole stream has."""

    host: str
    port: int
    path: str
    headers: dict[str, str] = {}
    body: str = ""
    connections: int = 1
    duration_s: float = 2.0
    requests_max: int = 200_000
    ramp_s: float = 0.0
    stream: bool = False
    frames: int = 30

    def payload(self) -> bytes:
        """The request as bytes, the same for all of them."""
        body = self.body.encode()
        lines = [f"{'POST' if body else 'GET'} {self.path} HTTP/1.1", f"host: {self.host}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if body:
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. `requests_per_s` counts answers from the end of the ramp to the end of the time."""

    requests: int
    requests_per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    statuses: dict[str, int]
    errors: dict[str, int]
    cpu_us_per_request: float
    stream: StreamFigures | None = None


def percentile_ms(sorted_ns: Sequence[int], share: float) -> float:
    """Nearest rank, in ms; 0.0 of nothing."""
    if not sorted_ns:
        return 0.0
    return sorted_ns[max(0, math.ceil(share * len(sorted_ns)) - 1)] / _MS
