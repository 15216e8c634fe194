"""Reading HTTP/1.1 responses, one at a time, at a few microseconds each.

Knows Content-Length and chunked bodies, split anywhere. Refuses what a keep-alive client can not follow: a
response with neither, and bytes after the end of a response that nobody asked for.
"""

from __future__ import annotations

import re

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)


class MalformedResponseError(Exception):
    """The bytes are no HTTP/1.1 response that this reader can follow."""


class ResponseReader:
    """Feed it bytes; it keeps the status, says when the response is whole, hands the body out as it comes.

    `status` is 0 until the head is there; `closing` says that the server will not take another request.
    """

    __slots__ = ("_buffer", "_in_chunks", "_left", "body", "closing", "status")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Get ready for the next response."""
        self.status = 0
        self.closing = False
        self.body = b""
        self._buffer = b""
        self._left = -1
        self._in_chunks = False

    def feed(self, data: bytes) -> bool:
        """Take bytes in; True when the response is whole. `body` holds what this call brought of it."""
        self.body = b""
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        if self.status == 0:
            body_at = data.find(b"\r\n\r\n") + 4
            if body_at < 4:
                self._buffer = data
                return False
            self._read_head(data[:body_at])
            data = data[body_at:]
        return self._feed_chunks(data) if self._in_chunks else self._feed_length(data)

    def _read_head(self, head: bytes) -> None:
        if not head.startswith(b"HTTP/1.1 "):
            raise MalformedResponseError(head[:40])
        self.status = int(head[9:12])
        self.closing = _CLOSE.search(head) is not None
        length = _LENGTH.search(head)
        if length is not None:
            self._left = int(length[1])
        elif _CHUNKED.search(head):
            self._in_chunks = True
            self._left = -1
        else:
            raise MalformedResponseError("neither content-length nor chunked")

    def _feed_length(self, data: bytes) -> bool:
        self.body = data
        self._left -= len(data)
        if self._left < 0:
            raise MalformedResponseError("bytes after the end")
        return self._left == 0

    def _feed_chunks(self, data: bytes) -> bool:
        """Take the framing off. `_left`: bytes of the chunk and its CRLF to come; -1: a size line is next."""
        parts: list[bytes] = []
        at = 0
        whole = False
        while at < len(data):
            if self._left >= 0:
                piece = data[at : at + self._left]
                at += len(piece)
                # The last two bytes of a chunk are its CRLF; they may arrive on their own.
                parts.append(piece[: max(0, self._left - 2)])
                self._left -= len(piece)
                if self._left > 0:
                    break
                self._left = -1
                continue
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                break
            size = int(data[at:line_end].split(b";", 1)[0], 16)
            if size == 0:
                if len(data) < line_end + 4:
                    break
                if len(data) > line_end + 4 or not data.endswith(b"\r\n\r\n"):
                    raise MalformedResponseError("trailers, or bytes after the end")
                whole = True
                break
            at = line_end + 2
            self._left = size + 2
        if not whole and self._left < 0:
            self._buffer = data[at:]
        self.body = b"".join(parts)
        return whole
