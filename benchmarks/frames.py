"""Reading the numbered frames of a stream: which were lost, doubled or out of order, and how late they came.

Works on the decoded body of a response, split anywhere. The time stamps are CLOCK_MONOTONIC, which processes
of one machine share; it says nothing about streams that come from another one.
"""

from __future__ import annotations

import re
from array import array
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_FRAME = re.compile(rb'"#(\d+)@(\d+) "')
_DONE = b"data: [DONE]"
_ERROR = b'data: {"error"'
_MS = 1_000_000


class StreamFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Streams that ended with a [DONE] and those that did not, and their content frames."""

    streams: int
    incomplete: int
    error_events: int
    frames: int
    frames_per_s: float
    first_frame_p50_ms: float
    first_frame_p99_ms: float
    lost: int
    duplicated: int
    out_of_order: int
    delay_mean_ms: float


class FrameTally:
    """The sums over all streams of a run."""

    def __init__(self, frames_each: int) -> None:
        self.frames_each = frames_each
        self.first_ns = array("q")
        self.streams = 0
        self.incomplete = 0
        self.error_events = 0
        self.frames = 0
        self.in_window = 0
        self.delay_ns = 0
        self.lost = 0
        self.duplicated = 0
        self.out_of_order = 0

    def open(self) -> FrameReader:
        """A reader for one connection."""
        return FrameReader(self)

    def figures(self, window_s: float, percentile_ms: Callable[[Sequence[int], float], float]) -> StreamFigures:
        """The sums as rates and percentiles."""
        first_ns = sorted(self.first_ns)
        return StreamFigures(
            streams=self.streams,
            incomplete=self.incomplete,
            error_events=self.error_events,
            frames=self.frames,
            frames_per_s=self.in_window / window_s,
            first_frame_p50_ms=percentile_ms(first_ns, 0.50),
            first_frame_p99_ms=percentile_ms(first_ns, 0.99),
            lost=self.lost,
            duplicated=self.duplicated,
            out_of_order=self.out_of_order,
            delay_mean_ms=self.delay_ns / max(1, self.frames) / _MS,
        )


class FrameReader:
    """Reads one stream after another. `start`, then `read` for each piece of the body, then `end`."""

    __slots__ = ("_deadline_ns", "_done", "_highest", "_seen", "_started_ns", "_tail", "_tally", "_window_ns")

    def __init__(self, tally: FrameTally) -> None:
        self._tally = tally

    def start(self, now_ns: int, window_ns: int, deadline_ns: int) -> None:
        """A request was sent. Frames between `window_ns` and `deadline_ns` make the rate."""
        self._started_ns = now_ns
        self._window_ns = window_ns
        self._deadline_ns = deadline_ns
        self._seen: set[int] = set()
        self._highest = -1
        self._tail = b""
        self._done = False

    def read(self, body: bytes, now_ns: int) -> None:
        """Take a piece of the body in; an event counts once its blank line is there."""
        text = self._tail + body
        cut = text.rfind(b"\n\n") + 2
        if cut < 2:
            self._tail = text
            return
        self._tail = text[cut:]
        for number, written_ns in _FRAME.findall(text, 0, cut):
            self._take(int(number), int(written_ns), now_ns)
        if text.find(_DONE, 0, cut) >= 0:
            self._done = True
        self._tally.error_events += text.count(_ERROR, 0, cut)

    def _take(self, number: int, written_ns: int, now_ns: int) -> None:
        tally = self._tally
        if not self._seen:
            tally.first_ns.append(now_ns - self._started_ns)
        if number in self._seen:
            tally.duplicated += 1
            return
        if number < self._highest:
            tally.out_of_order += 1
        self._highest = max(self._highest, number)
        self._seen.add(number)
        tally.frames += 1
        tally.delay_ns += now_ns - written_ns
        if self._window_ns <= now_ns < self._deadline_ns:
            tally.in_window += 1

    def end(self) -> None:
        """The response is over, whole or not."""
        tally = self._tally
        tally.lost += tally.frames_each - len(self._seen)
        if self._done:
            tally.streams += 1
        else:
            tally.incomplete += 1
