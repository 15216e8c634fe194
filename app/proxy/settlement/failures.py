"""Spooled settlements that Redis answers with an error, one by one: when each is tried again, and when it is given up.
Pure: the caller says what time it is (monotonic ms)."""

from collections.abc import Collection

import msgspec

__all__ = ["Failures"]

_FIRST_PAUSE_MS = 1_000
_PAUSE_MOST_MS = 5 * 60_000
_LOG_EVERY_MS = 60_000
_GIVE_UP_AFTER_MS = 24 * 3_600_000


class _Failure(msgspec.Struct):
    first_at_ms: int
    next_at_ms: int
    pause_ms: int
    logged_at_ms: int | None = None


class Failures:
    """The failing settlements of this process, by their request's id."""

    def __init__(self) -> None:
        self._known: dict[str, _Failure] = {}

    def paused(self, at_ms: int) -> Collection[str]:
        """Those that are not to be tried yet."""
        return {request_id for request_id, failure in self._known.items() if at_ms < failure.next_at_ms}

    def note(self, request_id: str, at_ms: int) -> None:
        """It failed (again): the pause after it is twice the one before, up to five minutes."""
        failure = self._known.get(request_id)
        if failure is None:
            self._known[request_id] = _Failure(at_ms, at_ms + _FIRST_PAUSE_MS, _FIRST_PAUSE_MS)
        else:
            failure.pause_ms = min(2 * failure.pause_ms, _PAUSE_MOST_MS)
            failure.next_at_ms = at_ms + failure.pause_ms

    def is_hopeless(self, request_id: str, at_ms: int) -> bool:
        """Whether it has failed for a day."""
        failure = self._known.get(request_id)
        return failure is not None and at_ms - failure.first_at_ms >= _GIVE_UP_AFTER_MS

    def should_log(self, request_id: str, at_ms: int) -> bool:
        """Once a minute for each; asking counts as logging."""
        failure = self._known[request_id]
        if failure.logged_at_ms is not None and at_ms - failure.logged_at_ms < _LOG_EVERY_MS:
            return False
        failure.logged_at_ms = at_ms
        return True

    def forget(self, request_id: str) -> None:
        self._known.pop(request_id, None)
