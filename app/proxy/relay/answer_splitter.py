"""The payloads of an answer to a request for a stream: those of its events, or, from a vendor that has not understood,
its whole answer as the only one. Pure.
"""

from app.proxy.relay.bounds import EVENT_BYTES_MOST
from app.proxy.relay.dialects.openai_odd import as_chunk
from app.proxy.relay.sse import EventSplitter, EventTooLarge

__all__ = ["AnswerSplitter"]

_BOM = b"\xef\xbb\xbf"
_BLANKS = b" \t\r\n"


class AnswerSplitter:
    """As an EventSplitter. `is_whole`: the answer is one JSON object. No line of an event begins with a brace, so the
    first byte that is not blank tells which it is."""

    def __init__(self) -> None:
        self.is_whole = False
        self._events = EventSplitter()
        self._is_known = False
        self._start = b""
        self._body = bytearray()  # pieces may be a byte each

    def feed(self, chunk: bytes) -> list[bytes]:
        """The payloads that this chunk completes. Raises EventTooLarge."""
        if not self._is_known:
            chunk = self._begin(chunk)
        if not self.is_whole:
            return self._events.feed(chunk)
        if len(self._body) + len(chunk) > EVENT_BYTES_MOST:
            raise EventTooLarge
        self._body += chunk
        return []

    def finish(self) -> list[bytes]:
        """What the end of the answer leaves."""
        if not self.is_whole:
            return self._events.finish()
        body, self._body = bytes(self._body), bytearray()
        return [as_chunk(body)]

    def _begin(self, chunk: bytes) -> bytes:
        """What is to be read now: nothing while there are blanks alone, or a part of a byte order mark."""
        chunk, self._start = self._start + chunk, b""
        if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
            self._start = chunk
            return b""
        begun = chunk.removeprefix(_BOM).lstrip(_BLANKS)
        self._is_known = bool(begun)
        self.is_whole = begun.startswith(b"{")
        return begun
