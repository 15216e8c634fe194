"""Server-sent events out of bytes that arrive in any pieces. Pure.

The format is the WHATWG HTML standard's, section 9.2: lines end in LF, CRLF or CR, an empty line ends an event, a line
that starts with a colon is a comment. Bytes are buffered and decoded by nobody: an event leaves whole.
"""

__all__ = ["EVENT_BYTES_MOST", "EventSplitter", "EventTooLarge"]

EVENT_BYTES_MOST = 32 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class EventTooLarge(Exception):
    """An event is larger than any honest one."""


class EventSplitter:
    """Feed it bytes, take the `data` of every event that is complete."""

    def __init__(self) -> None:
        self._rest = b""
        self._after_cr = False
        self._begun = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of each event that this chunk completes; several data lines are joined by LF."""
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
            chunk = self._rest + chunk
            self._rest = b""
            if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
                self._rest = chunk
                return []
            self._begun = True
            chunk = chunk.removeprefix(_BOM)
        # Only the seam can hide an event's end, so a large event is not searched from its start again.
        if self._rest:
            if b"\n\n" not in self._rest[-1:] + chunk:
                self._rest += chunk
                if len(self._rest) > EVENT_BYTES_MOST:
                    raise EventTooLarge
                return []
            chunk = self._rest + chunk
        *events, self._rest = chunk.split(b"\n\n")
        return [data for event in events if (data := _data(event)) is not None]

    def finish(self) -> list[bytes]:
        """What the end of the stream leaves: vendors forget the last empty line."""
        event, self._rest = self._rest, b""
        data = _data(event)
        return [] if data is None else [data]


def _data(event: bytes) -> bytes | None:
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]
    lines = [_value(line) for line in event.split(b"\n") if line == b"data" or line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


def _value(line: bytes) -> bytes:
    return line[5:].removeprefix(b" ")
