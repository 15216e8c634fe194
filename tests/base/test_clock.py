"""Times: whole milliseconds, and RFC 3339 text in UTC."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base.clock import iso, monotonic_ms, now_ms, parse_iso


@given(at_ms=st.integers(0, 253_402_300_799_999))
def test_a_time_survives_its_text(at_ms: int) -> None:
    """To the millisecond, up to the year 9999."""
    assert parse_iso(iso(at_ms)) == at_ms


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("1970-01-01T00:00:00.000Z", 0),
        ("1970-01-01", 0),
        ("1970-01-02T00:00:00", 86_400_000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("2026-01-31T12:00:00.123Z", 1_769_860_800_123),
    ],
)
def test_texts_that_are_times(text: str, at_ms: int) -> None:
    """A date is its first moment; without an offset it is UTC, and any offset is honoured."""
    assert parse_iso(text) == at_ms


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "2026-02-30", "12:00", "1769860800"])
def test_other_texts_are_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_iso(text)


def test_durations_do_not_go_backwards() -> None:
    """Two readings one after the other; and today is after the day this was written."""
    first = monotonic_ms()
    assert monotonic_ms() >= first
    assert now_ms() > 1_700_000_000_000
