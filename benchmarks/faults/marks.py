"""What a request says to its upstream, what that upstream says back, and what both sides wrote down of it.

A request carries its serial in its prompt. Every piece of an answer says which channel wrote it, for which request, and
which piece it is: an answer that was put together from two is seen at once.
"""

from __future__ import annotations

import re

import msgspec

MODEL = "fleet"
PIECES = 6
PROMPT_TOKENS = 23
_MARK = re.compile(r"#(\d+):(\d+):(\d+) ")
_SERIAL = re.compile(rb"serial (\d+)\.")


def mark(channel: int, serial: int, piece: int) -> str:
    return f"#{channel}:{serial}:{piece} "


def prompt(serial: int) -> str:
    return f"This is serial {serial}. Say who you are."


def read_serial(body: bytes) -> int:
    """The serial of a request, from 1; 0 of one that is not the load's, as a channel's test is."""
    found = _SERIAL.search(body)
    return int(found[1]) if found else 0


class Said(msgspec.Struct, frozen=True):
    """What the content of an answer comes to. `spliced`: pieces of several channels or requests, or out of order."""

    channel: int | None
    pieces: int
    spliced: bool


def read_said(content: str, serial: int) -> Said:
    """Anything but marks in it counts as spliced, too."""
    found = [tuple(map(int, mark)) for mark in _MARK.findall(content)]
    channel = found[0][0] if found else None
    expected = [(channel, serial, piece) for piece in range(len(found))]
    return Said(channel, len(found), spliced=found != expected or _MARK.sub("", content) != "")


class Visit(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A request as the upstream saw it: when it came, the fault it met, if any, and whether its last byte went out."""

    channel: int
    serial: int
    at_s: float
    fault: str
    whole: bool


class Sent(msgspec.Struct, kw_only=True):
    """A request as its client saw it. `outcome`: whole, broken (it ended before its end, and said so), false end (it
    ended as if it were whole), an HTTP status, or unanswered. `first_ms` is the time to the first content."""

    serial: int
    stream: bool
    at_s: float
    outcome: str = "unanswered"
    code: str = ""
    request_id: str = ""
    said: Said = Said(None, 0, spliced=False)
    first_ms: float = 0.0
    took_ms: float = 0.0
