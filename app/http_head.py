"""What the head of a request must be, beyond what the parser checks: it says in one way only where the request ends.
Two readers of the same bytes, a proxy and this gateway, could otherwise take them for different requests. Pure.

Source: RFC 9112, sections 3.2 (Host), 6.1 and 6.3 (Transfer-Encoding and Content-Length); RFC 9110, section 7.8
(Upgrade).
"""

from collections.abc import Iterable, Sequence

__all__ = ["HEAD_BYTES_MOST", "HeadTooLarge", "RefusedHead", "check_head", "check_size", "without_offer"]

HEAD_BYTES_MOST = 64 * 1024
HEADERS_MOST = 128

Header = tuple[bytes, bytes]

_VERSIONS = frozenset({"1.0", "1.1"})
# Of an offer to speak another protocol; `http2-settings` belongs to `h2c`.
_OFFERS = frozenset({b"upgrade", b"http2-settings"})


class RefusedHead(Exception):
    """`status` and a sentence for the client. Nothing that comes after such a head on its connection is read."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class HeadTooLarge(RefusedHead):
    def __init__(self) -> None:
        super().__init__(431, f"The head of a request has at most {HEAD_BYTES_MOST} bytes.")


def check_size(target: bytes, headers: Iterable[Header]) -> None:
    """Raises RefusedHead."""
    if len(target) + sum(len(name) + len(value) + len(b": \r\n") for name, value in headers) > HEAD_BYTES_MOST:
        raise HeadTooLarge


def check_head(method: bytes, version: str, headers: Sequence[Header]) -> None:
    """`headers` have names in lower case. Raises RefusedHead."""
    if version not in _VERSIONS:
        raise RefusedHead(505, "This is HTTP/1.1.")
    if method == b"CONNECT":
        raise RefusedHead(405, "This is no proxy.")
    if len(headers) > HEADERS_MOST:
        raise RefusedHead(431, f"A request has at most {HEADERS_MOST} headers.")
    hosts = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding" and (version == "1.0" or value.lower() != b"chunked"):
            raise RefusedHead(501, "The only transfer encoding that is known here is `chunked`, of HTTP/1.1.")
    if hosts > 1 or (hosts == 0 and version != "1.0"):
        raise RefusedHead(400, "A request has one `host` header.")


def without_offer(method: bytes, target: bytes, version: str, headers: Iterable[Header]) -> bytes:
    """The head of a request once more, without its offer to upgrade: a server that does not take an offer serves the
    request as it is."""
    lines = [b"%b %b HTTP/%b" % (method, target, version.encode())]
    for name, value in headers:
        if name in _OFFERS:
            continue
        if name == b"connection":
            kept = [token for token in value.split(b",") if token.strip().lower() not in _OFFERS]
            if not kept:
                continue
            value = b",".join(kept)  # noqa: PLW2901
        lines.append(b"%b: %b" % (name, value))
    return b"\r\n".join(lines) + b"\r\n\r\n"
