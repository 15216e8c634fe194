"""Pages of other origins that may call `/v1`: the answers to them say so, and their preflights are answered here.

The protocol is the WHATWG Fetch standard's, section 3.2. Keys come in a header that the page sets itself, so no
credentials of the browser's are ever allowed.
"""

from collections.abc import Awaitable, Callable, Collection
from typing import Any

from litestar.types import Receive, Scope, Send

__all__ = ["ANY_ORIGIN", "serve_origins"]

ANY_ORIGIN = "*"

_METHODS = b"GET, POST, DELETE"
_KEPT_S = b"7200"  # how long a browser may keep a preflight's answer: Chromium's most
_EXPOSED_BESIDE_X = frozenset({b"retry-after", b"retry-after-ms"})

Call = Callable[[Scope, Receive, Any], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


async def serve_origins(app: Call, origins: Collection[str], scope: Scope, receive: Receive, send: Send) -> None:
    """As `app` does; pages of these `origins` may read its answer, with all of its `x-` headers."""
    sent = {name: value for name, value in scope["headers"] if name in _READ}
    origin = sent.get(b"origin", b"")
    if not origin or not (ANY_ORIGIN in origins or origin.decode("latin-1") in origins):
        await app(scope, receive, _adding(send, lambda _: [(b"vary", b"origin")]))
    elif scope.get("method") == "OPTIONS" and b"access-control-request-method" in sent:
        preflight: Any = send
        headers = _preflight(origin, sent.get(b"access-control-request-headers", b""))
        await preflight({"type": "http.response.start", "status": 204, "headers": headers})
        await preflight({"type": "http.response.body", "body": b""})
    else:
        await app(scope, receive, _adding(send, lambda headers: _allowed(origin, headers)))


_READ = frozenset({b"origin", b"access-control-request-method", b"access-control-request-headers"})


def _preflight(origin: bytes, asked: bytes) -> Headers:
    """Any header may be sent: clients have some of their own."""
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-methods", _METHODS),
        *([(b"access-control-allow-headers", asked)] if asked else []),
        (b"access-control-max-age", _KEPT_S),
        (b"vary", b"origin, access-control-request-headers"),
    ]


def _allowed(origin: bytes, headers: Headers) -> Headers:
    names = {name.lower() for name, _ in headers}
    exposed = sorted(name for name in names if name.startswith(b"x-") or name in _EXPOSED_BESIDE_X)
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", b", ".join(exposed)),
        (b"vary", b"origin"),
    ]


def _adding(send: Any, more: Callable[[Headers], Headers]) -> Any:
    """`send`, with more headers in the head of the answer."""

    async def add(message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            message = {**message, "headers": [*headers, *more(headers)]}
        await send(message)

    return add
