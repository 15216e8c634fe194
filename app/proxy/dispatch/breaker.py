"""A circuit breaker, pure: what happened and when are told to it, in milliseconds of any clock that never jumps.

closed      all requests; opened by the failures of a sliding window, never by one
open        none until `until_ms`, longer each time
half-open   one probe is under way: if it succeeds the breaker closes, else it opens for longer
"""

from typing import Literal

__all__ = ["Breaker", "State"]

State = Literal["closed", "open", "half_open"]

_BUCKET_MS = 3_000
_BUCKETS = 10
WINDOW_MS = _BUCKET_MS * _BUCKETS
# Open at so many failures that are at least half of what happened; or at so many without a success between them, over a
# time that is no blip: where requests are many, half of a window would be many customers.
_FAILURES_LEAST = 5
_STREAK_LEAST_MS = 100

_OPEN_FIRST_MS = 5_000
_OPEN_MOST_MS = 60_000
_JITTER = 0.2
# Another worker opened it, and probes first.
_BEHIND_MS = 1_000
# Another worker's probe is waited for so long: it may have died with its worker.
_OTHERS_PROBE_MS = 10_000
_PROBE_AGAIN_MS = 1_000


class Breaker:
    """`term` counts openings and closings: what began in an earlier term says nothing about this one. `jitter`, where a
    method takes it, is a random number from 0 to 1."""

    __slots__ = (
        "_at",
        "_bad",
        "_closed_at_ms",
        "_good",
        "_open_ms",
        "_streak",
        "_streak_from_ms",
        "probes_lost",
        "state",
        "term",
        "until_ms",
    )

    def __init__(self) -> None:
        self.state: State = "closed"
        self.term = 0
        self.until_ms = 0  # open: when a probe is due; half-open: when the probe is taken for lost
        self.probes_lost = 0  # since it opened: they were abandoned before they told anything
        self._open_ms = 0
        self._closed_at_ms: int | None = None
        self._streak = 0
        self._streak_from_ms = 0
        self._at = 0
        self._good = [0] * _BUCKETS
        self._bad = [0] * _BUCKETS

    def is_due(self, now_ms: int) -> bool:
        """A request may go as the probe."""
        return self.state != "closed" and now_ms >= self.until_ms

    def succeeded(self, now_ms: int, *, is_whole: bool = True) -> None:
        """One that is not whole yet has only begun to answer: it may be cut, and ends no streak."""
        self._good[self._turn(now_ms)] += 1
        if is_whole:
            self.completed()

    def completed(self) -> None:
        """One that began to answer did so to its end."""
        self._streak = 0

    def failed(self, now_ms: int, jitter: float, *, weight: int = 1, retracts: bool = False) -> bool:
        """Whether it opens. `retracts` takes back a success that was told too soon."""
        bucket = self._turn(now_ms)
        if retracts:
            self._good[bucket] = max(0, self._good[bucket] - 1)
        self._bad[bucket] += weight
        if not self._streak:
            self._streak_from_ms = now_ms
        self._streak += weight
        bad, good = sum(self._bad), sum(self._good)
        is_rate = bad >= _FAILURES_LEAST and bad >= good
        lasts = now_ms - self._streak_from_ms >= _STREAK_LEAST_MS or not good
        is_streak = self._streak >= _FAILURES_LEAST and lasts
        if not (is_rate or is_streak):
            return False
        self._open(now_ms, jitter)
        return True

    def begin_probe(self, now_ms: int, patience_ms: int) -> None:
        """One that does not report within `patience_ms` is lost, and the next request probes."""
        self.state = "half_open"
        self.until_ms = now_ms + patience_ms
        self.term += 1

    def probe_failed(self, now_ms: int, jitter: float) -> None:
        self._open(now_ms, jitter)

    def probe_lost(self, now_ms: int, jitter: float) -> None:
        """It was abandoned: the next one is due soon."""
        self.state = "open"
        self.until_ms = now_ms + round(_PROBE_AGAIN_MS * (0.5 + jitter))
        self.probes_lost += 1
        self.term += 1

    def close(self, now_ms: int) -> None:
        self.state = "closed"
        self.term += 1
        self.probes_lost = 0
        self._closed_at_ms = now_ms
        self._forget()

    def opened_elsewhere(self, now_ms: int, open_ms: int, jitter: float) -> None:
        """Another worker opened it for `open_ms`: it probes first, and this one a little later if nothing is heard."""
        self.state = "open"
        self.term += 1
        self._open_ms = max(_OPEN_FIRST_MS, min(open_ms, _OPEN_MOST_MS))
        wait_ms = min(open_ms, round(_OPEN_MOST_MS * (1 + _JITTER)))
        self.until_ms = now_ms + wait_ms + round(_BEHIND_MS * (1 + jitter))
        self._forget()

    def probed_elsewhere(self, now_ms: int, patience_ms: int) -> None:
        """Another worker's probe is under way."""
        if self.state == "open":
            self.until_ms = max(self.until_ms, now_ms + min(patience_ms, _OTHERS_PROBE_MS))

    def restore(self, state: State, until_ms: int) -> None:
        """As another worker's stood."""
        self.state = state
        self.until_ms = until_ms

    def counts(self, now_ms: int) -> tuple[int, int]:
        """Failures of the window, and all that happened in it."""
        self._turn(now_ms)
        bad = sum(self._bad)
        return bad, bad + sum(self._good)

    def _open(self, now_ms: int, jitter: float) -> None:
        soon = self.state != "closed" or (self._closed_at_ms is not None and now_ms - self._closed_at_ms < WINDOW_MS)
        self._open_ms = min(self._open_ms * 2, _OPEN_MOST_MS) if soon and self._open_ms else _OPEN_FIRST_MS
        self.state = "open"
        self.term += 1
        self.until_ms = now_ms + round(self._open_ms * (1 + _JITTER * (jitter - 0.5)))

    def _turn(self, now_ms: int) -> int:
        """The bucket of now; those that have left the window are emptied."""
        at = now_ms // _BUCKET_MS
        if at != self._at:
            for stale in range(max(self._at + 1, at - _BUCKETS + 1), at + 1):
                self._good[stale % _BUCKETS] = self._bad[stale % _BUCKETS] = 0
            self._at = at
        return at % _BUCKETS

    def _forget(self) -> None:
        self._streak = 0
        self._good = [0] * _BUCKETS
        self._bad = [0] * _BUCKETS
