"""Windows of limits and budgets, in an account's time zone: where the one before, this one, the next and the one after
that begin. Pure.

All four go to Redis, whose clock decides which of them it is in: workers whose clocks differ by less than a window
agree, and nobody has to be asked when a window turns.
"""

from datetime import date, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from app.base.limits import Window

__all__ = ["window_starts", "zone_of"]

_HOUR_MS = 3_600_000
_AROUND = (-1, 0, 1, 2)


@lru_cache(maxsize=600)
def zone_of(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def window_starts(window: Window, zone: tzinfo, at_ms: int) -> tuple[int, ...]:
    """Milliseconds since 1970, rising; just 0 for a lifetime. A day begins with the first moment that has its date, so
    that one on which the clocks change has 23 or 25 hours; weeks begin on Mondays."""
    if window == "lifetime":
        return (0,)
    local = datetime.fromtimestamp(at_ms / 1000, zone)
    if window == "hour":
        begun_ms = at_ms - at_ms % 1000 - (local.minute * 60 + local.second) * 1000
        return tuple(begun_ms + step * _HOUR_MS for step in _AROUND)
    today = local.date()
    return tuple(_midnight_ms(_first_day(window, today, step), zone) for step in _AROUND)


def _first_day(window: Window, today: date, step: int) -> date:
    """Of the window that is `step` after the one that today is in."""
    if window == "day":
        return today + timedelta(days=step)
    if window == "week":
        return today + timedelta(days=7 * step - today.weekday())
    months = today.year * 12 + today.month - 1 + step
    return date(months // 12, months % 12 + 1, 1)


def _midnight_ms(day: date, zone: tzinfo) -> int:
    """Where the clocks skip midnight, the moment at which they do; where they show it twice, the first."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * 1000
