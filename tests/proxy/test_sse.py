"""Server-sent events: whatever the framing, and wherever the bytes are cut, the same data comes out."""

import tracemalloc
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.proxy.relay.bounds import EVENT_BYTES_MOST, EVENT_LINES_MOST
from app.proxy.relay.sse import EventSplitter, EventTooLarge

_lines = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12)


@dataclass(frozen=True)
class Framed:
    """One event: the lines of its data, and what else a vendor may put around them."""

    lines: tuple[str, ...]
    space: bool
    before: tuple[str, ...]
    blank_lines: int

    def render(self, newline: str) -> str:
        # Without the space, a value that begins with one would lose it.
        prefix = "data: " if self.space or any(line.startswith(" ") for line in self.lines) else "data:"
        lines = [*self.before, *(prefix + line for line in self.lines)]
        return newline.join([*lines, *[""] * (self.blank_lines + 1), ""])

    @property
    def data(self) -> bytes:
        return "\n".join(self.lines).encode()


_noise = st.sampled_from([":", ": ping", ":data: no", "event: message", "id: 7", "retry: 10", "dat: a", "data-x: b"])
_events = st.builds(
    Framed,
    lines=st.lists(_lines, min_size=1, max_size=4).filter(any).map(tuple),
    space=st.booleans(),
    before=st.lists(_noise, max_size=3).map(tuple),
    blank_lines=st.integers(0, 3),
)


def _split(raw: bytes, cuts: list[int]) -> list[bytes]:
    splitter = EventSplitter()
    edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    found = []
    for start, end in pairwise(edges):
        found += splitter.feed(raw[start:end])
    return found + splitter.finish()


@given(
    events=st.lists(_events, max_size=6),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    bom=st.booleans(),
    cuts=st.lists(st.integers(0, 10_000), max_size=30),
)
def test_framing_and_cuts_do_not_matter(events: list[Framed], newline: str, bom: bool, cuts: list[int]) -> None:
    """Cut anywhere, inside a character too: events leave whole, in order, with their bytes as they came."""
    raw = ("\ufeff" if bom else "").encode() + "".join(event.render(newline) for event in events).encode()
    expected = [event.data for event in events]
    assert _split(raw, cuts) == expected
    assert _split(raw, list(range(len(raw)))) == expected, "a byte at a time"


@given(events=st.lists(_events, min_size=1, max_size=4), newline=st.sampled_from(["\n", "\r\n", "\r"]))
def test_an_event_leaves_with_its_last_byte(events: list[Framed], newline: str) -> None:
    """Nothing is held back: when the empty line has come, the event is there."""
    splitter = EventSplitter()
    for event in events:
        assert splitter.feed(event.render(newline).encode()) == [event.data]
    assert splitter.finish() == []


@pytest.mark.parametrize(
    ("raw", "data"),
    [
        (b"", []),
        (b"\n\n\n\n", []),
        (b": ping\n\n", []),
        (b"event: ping\n\n", []),
        (b"data: a", [b"a"]),
        (b"data: a\n", [b"a"]),
        (b"data: a\n\ndata: b", [b"a", b"b"]),
        (b"data: [DONE]\n\n", [b"[DONE]"]),
        (b"data:  two spaces\n\n", [b" two spaces"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\n\r\ndata: b\r\n\n", [b"a", b"b"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data\ndata: b\n\n", [b"\nb"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"\xef\xbb", []),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
        (b"id: 1\ndata: a\nevent: x\n\n", [b"a"]),
    ],
)
def test_what_vendors_send(raw: bytes, data: list[bytes]) -> None:
    """Pings, forgotten last lines, mixed line ends, a byte order mark at the start and nowhere else."""
    assert _split(raw, []) == data
    assert _split(raw, list(range(len(raw)))) == data


def test_a_large_event_passes_whole() -> None:
    """A picture in a data URL is a long line, and an honest one."""
    data = b"x" * (EVENT_BYTES_MOST // 2)
    splitter = EventSplitter()
    raw = b"data: " + data + b"\n\ndata: end\n\n"
    found = [each for start in range(0, len(raw), 1 << 20) for each in splitter.feed(raw[start : start + (1 << 20)])]
    assert [len(each) for each in found] == [len(data), 3]
    assert found[0] == data


def test_an_event_without_end_is_refused() -> None:
    """A vendor that never ends its event cannot fill the memory."""
    splitter = EventSplitter()
    piece = b"x" * (1 << 20)
    splitter.feed(b"data: ")
    with pytest.raises(EventTooLarge):
        for _ in range(EVENT_BYTES_MOST // len(piece) + 1):
            assert splitter.feed(piece) == []


@pytest.mark.parametrize("piece", [b"x", b"xy", b"x\n", b"\nx", b"\r\nx"])
def test_a_long_event_is_not_copied_for_each_of_its_pieces(piece: bytes) -> None:
    """An event that does not end, in however many pieces, costs linear time: what is there already is left in place."""
    size, pieces = 8 * 1024 * 1024, 400
    splitter = EventSplitter()
    splitter.feed(b"data: " + b"x" * size)
    tracemalloc.start()
    copied = 0
    for _ in range(pieces):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        assert splitter.feed(piece) == []
        copied += max(0, tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    assert copied < 4 * size


def test_an_event_of_too_many_lines_is_refused() -> None:
    """Each of its lines would be an object of its own, twenty times as large as it is."""
    assert EventSplitter().feed(b"data: a\n" * EVENT_LINES_MOST + b"\n") == [b"\n".join([b"a"] * EVENT_LINES_MOST)]
    for line in (b"data: a\n", b"a\n"):
        splitter = EventSplitter()
        assert splitter.feed(line * (EVENT_LINES_MOST + 1)) == []
        with pytest.raises(EventTooLarge):
            splitter.feed(b"\n")


def test_an_event_that_comes_whole_is_bounded_too() -> None:
    for ending in (b"\n\n", b""):
        splitter = EventSplitter()
        with pytest.raises(EventTooLarge):
            splitter.feed(b"data: " + b"x" * EVENT_BYTES_MOST + ending)
            splitter.finish()
