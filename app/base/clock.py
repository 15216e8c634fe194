"""Time, in whole milliseconds since 1970 UTC. Limits and leases use Redis's clock instead, so that workers agree."""

import time
from datetime import UTC, datetime

__all__ = ["iso", "monotonic_ms", "now_ms", "parse_iso"]


def now_ms() -> int:
    """Wall-clock milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """Milliseconds on a clock that never jumps: for durations only."""
    return time.monotonic_ns() // 1_000_000


def iso(at_ms: int) -> str:
    """RFC 3339 text of a millisecond time, always in UTC: `2026-01-31T12:00:00.123Z`."""
    moment = datetime.fromtimestamp(at_ms // 1000, UTC).replace(microsecond=at_ms % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_iso(text: str) -> int:
    """Milliseconds of an RFC 3339 time, or of a date (its first moment, UTC). Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)
