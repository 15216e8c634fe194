"""Server-sent events out of bytes that arrive in any pieces. Pure.

The format is the WHATWG HTML standard's, section 9.2: lines end in LF, CRLF or CR, an empty line ends an event, a line
that starts with a colon is a comment. Bytes are buffered and decoded by nobody: an event leaves whole.

The work is linear in the bytes, however they are split, and the memory is bounded by the largest event.
"""

from app.proxy.relay.bounds import EVENT_BYTES_MOST, EVENT_LINES_MOST

__all__ = ["EventSplitter", "EventTooLarge"]

_BOM = b"\xef\xbb\xbf"
_LF = 0x0A


class EventTooLarge(Exception):
    """An event is larger, or has more lines, than any honest one."""


class EventSplitter:
    """Feed it bytes, take the `data` of every event that is complete."""

    def __init__(self) -> None:
        self._rest = bytearray()  # of an event that has not ended: appending to one doesn't copy what is there
        self._after_cr = False
        self._begun = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of each event that this chunk completes; several data lines are joined by LF. Raises
        EventTooLarge."""
        if not chunk:
            return []
        if self._after_cr:
            # The CR before has ended its line already; an LF right behind it belongs to it.
            self._after_cr = False
            if chunk[:1] == b"\n":
                chunk = chunk[1:]
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if not self._begun:
            chunk = bytes(self._rest) + chunk
            self._rest.clear()
            if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
                self._rest += chunk
                return []
            self._begun = True
            chunk = chunk.removeprefix(_BOM)
        rest = self._rest
        if rest:
            # Only the seam can hide an event's end, so a large event is not searched from its start again.
            is_ended = (rest[-1] == _LF and chunk[:1] == b"\n") or b"\n\n" in chunk
            rest += chunk
            if not is_ended:
                if len(rest) > EVENT_BYTES_MOST:
                    raise EventTooLarge
                return []
            chunk = bytes(rest)
            rest.clear()
        *events, left = chunk.split(b"\n\n")
        rest += left
        return [data for event in events if event and (data := _data(event)) is not None]

    def finish(self) -> list[bytes]:
        """What the end of the stream leaves: vendors forget the last empty line. Raises EventTooLarge."""
        event = bytes(self._rest)
        self._rest.clear()
        data = _data(event)
        return [] if data is None else [data]


def _data(event: bytes) -> bytes | None:
    """Raises EventTooLarge."""
    if len(event) > EVENT_BYTES_MOST:
        raise EventTooLarge
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]
    if event.count(b"\n") >= EVENT_LINES_MOST:
        raise EventTooLarge
    lines = [_value(line) for line in event.split(b"\n") if line == b"data" or line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


def _value(line: bytes) -> bytes:
    return line[5:].removeprefix(b" ")
