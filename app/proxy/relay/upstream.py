"""What a transport to vendors is: calls in, answers out, and faults that have names."""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from app.catalog.records import Timeouts, Tls

__all__ = ["USER_AGENT", "Call", "Opened", "Plain", "Reach", "Route", "Transport", "UpstreamFault"]

USER_AGENT = "tollgate"


class UpstreamFault(Exception):
    """No answer, or no more of it: `kind` is connect, dns, tls, connect_timeout, timeout or network; or an answer that
    can't be taken: `kind` is `answer too large` or `headers too large` (see `bounds`), or `compressed`."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Reach(msgspec.Struct, frozen=True):
    """How a vendor is connected to. Routes of one reach share a pool of connections. `proxy` carries its password."""

    connect_ms: int
    proxy: str | None = None
    tls: Tls = Tls()
    http2: bool = False

    def __repr__(self) -> str:
        return "Reach(…)"


class Route(msgspec.Struct, frozen=True, weakref=True, eq=False):
    """What all calls over one way to a vendor share: made once, and kept for as long as nothing of it changes."""

    url: str
    headers: Mapping[str, str]
    timeouts: Timeouts
    reach: Reach

    def same(self, other: "Route") -> bool:
        return msgspec.structs.astuple(self) == msgspec.structs.astuple(other)

    def __repr__(self) -> str:
        """Its headers carry a credential."""
        return f"Route({self.url!r}, …)"


class Call(msgspec.Struct, frozen=True):
    """One request to a vendor."""

    route: Route
    body: bytes


class Plain(msgspec.Struct, frozen=True):
    """A whole answer."""

    status: int
    body: bytes
    retry_after: str | None = None
    retry_after_ms: str | None = None


class Opened(Protocol):
    """An answer whose body is still coming. `close` may be called more than once."""

    status: int
    retry_after: str | None
    retry_after_ms: str | None

    async def read(self) -> bytes | None:
        """The next bytes as they came, None at the end. Raises UpstreamFault."""

    async def close(self) -> None: ...


class Transport(Protocol):
    async def fetch(self, call: Call) -> Plain:
        """Raises UpstreamFault."""

    async def open(self, call: Call) -> Opened:
        """Raises UpstreamFault."""

    async def close(self) -> None: ...
