"""Windows of limits and budgets: they turn at the account's own midnight, also when its clocks change."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base.limits import Window
from app.quota.windows import window_starts

HOUR_MS = 3_600_000
ZONES = (
    *("UTC", "Europe/Berlin", "America/New_York", "America/St_Johns", "America/Sao_Paulo", "Africa/Cairo"),
    *("Asia/Beirut", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Chatham"),
)
_times = st.integers(
    int(datetime(2005, 1, 3, tzinfo=UTC).timestamp()), int(datetime(2037, 12, 1, tzinfo=UTC).timestamp())
)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("zone", "at", "begins", "hours"),
    [
        pytest.param("UTC", "2026-03-29T12:00+00:00", "2026-03-29T00:00+00:00", 24, id="no change"),
        pytest.param("Europe/Berlin", "2026-03-29T12:00+02:00", "2026-03-29T00:00+01:00", 23, id="an hour is skipped"),
        pytest.param("Europe/Berlin", "2026-10-25T02:30+01:00", "2026-10-25T00:00+02:00", 25, id="an hour twice"),
        pytest.param("Africa/Cairo", "2026-04-24T09:00+03:00", "2026-04-24T01:00+03:00", 23, id="no midnight"),
        pytest.param("Asia/Kolkata", "2026-06-01T00:00+05:30", "2026-06-01T00:00+05:30", 24, id="half an hour off"),
        pytest.param("Asia/Kolkata", "2026-05-31T18:29:59.999+00:00", "2026-05-31T00:00+05:30", 24, id="just before"),
    ],
)
def test_days_begin_where_their_date_does(zone: str, at: str, begins: str, hours: int) -> None:
    _, start, end, _ = window_starts("day", ZoneInfo(zone), ms(at))
    assert (start, (end - start) / HOUR_MS) == (ms(begins), hours)


@pytest.mark.parametrize(
    ("window", "at", "starts"),
    [
        pytest.param("hour", "2026-07-01T10:59:59+02:00", ["2026-07-01T10:00+02:00", "2026-07-01T11:00+02:00"]),
        pytest.param("week", "2026-07-05T23:59+02:00", ["2026-06-29T00:00+02:00", "2026-07-06T00:00+02:00"]),
        pytest.param("month", "2026-12-31T23:59+01:00", ["2026-12-01T00:00+01:00", "2027-01-01T00:00+01:00"]),
        pytest.param("month", "2026-10-31T23:59+01:00", ["2026-10-01T00:00+02:00", "2026-11-01T00:00+01:00"]),
    ],
)
def test_longer_windows_begin_at_midnight_too(window: Window, at: str, starts: list[str]) -> None:
    _, *now = window_starts(window, ZoneInfo("Europe/Berlin"), ms(at))
    assert now[:2] == [ms(start) for start in starts]


def test_a_lifetime_has_one_start() -> None:
    assert window_starts("lifetime", UTC, ms("2026-07-01T00:00+00:00")) == (0,)


@given(window=st.sampled_from(("hour", "day", "week", "month")), zone=st.sampled_from(ZONES), at_s=_times)
def test_every_moment_is_in_one_window_of_four(window: Window, zone: str, at_s: int) -> None:
    """They rise, and this moment is in the second; but for the odd hour that a zone goes through twice around its
    midnight, which is still between the first and the last."""
    starts = window_starts(window, ZoneInfo(zone), at_s * 1000)
    assert list(starts) == sorted(starts)
    assert starts[0] <= at_s * 1000 < starts[3]
    local = datetime.fromtimestamp(at_s, ZoneInfo(zone))
    if window != "hour" and local.fold == 0 and (local + timedelta(hours=1)).fold == 0:
        assert starts[1] <= at_s * 1000 < starts[2]


@given(zone=st.sampled_from(ZONES), day=st.dates(date(2006, 1, 1), date(2036, 12, 1)))
def test_a_day_of_minutes_turns_once(zone: str, day: date) -> None:
    """Looked at every ten minutes, a day in any zone is one window from its first moment to its last: workers that
    compute it at different moments agree."""
    tz = ZoneInfo(zone)
    begin = int(datetime(day.year, day.month, day.day, tzinfo=tz).timestamp()) * 1000
    _, start, end, _ = window_starts("day", tz, begin + 6 * HOUR_MS)
    seen = {window_starts("day", tz, at) for at in range(start + 2 * HOUR_MS, end - 2 * HOUR_MS, HOUR_MS // 6)}
    assert {starts[1] for starts in seen} == {start}
    assert {starts[2] for starts in seen} == {end}
