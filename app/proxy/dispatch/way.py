"""A way to a vendor: a channel with one of its credentials, and what this process knows of its health."""

import hashlib

import msgspec

from app.catalog.records import Channel, Credential, VendorLimits
from app.proxy.dispatch.breaker import Breaker
from app.proxy.dispatch.pace import Pace

__all__ = ["Cooling", "Hindrance", "Load", "Way", "stamp_of"]


class Load:
    """Requests in flight. It outlives a change of its channel, as they do."""

    __slots__ = ("in_flight",)

    def __init__(self) -> None:
        self.in_flight = 0


class Cooling(msgspec.Struct):
    """A vendor's 429: not before `until_ms`. `backoff_ms` is what the next one without a Retry-After takes."""

    until_ms: int
    backoff_ms: int


class Hindrance(msgspec.Struct, frozen=True):
    """Why a way can't be taken: draining, parked, cooling, open, probed or full. `until_ms` is when that ends, on the
    monotonic clock; None where nobody knows."""

    kind: str
    until_ms: int | None = None


_DRAINING = Hindrance("draining")
_PARKED = Hindrance("parked")


class Way:
    """Times are on the monotonic clock, but for `last_error_at_ms`. `is_well` says in one look that nothing is wrong;
    `review` keeps it so. One that is not current was changed by an operator, or removed: nothing is learnt of it."""

    __slots__ = (
        "breaker",
        "channel",
        "cooling",
        "credential",
        "is_current",
        "is_limited",
        "is_well",
        "last_error",
        "last_error_at_ms",
        "load",
        "open_reason",
        "paces",
        "parked",
        "patience_ms",
        "stamp",
    )

    def __init__(self, channel: Channel, credential: Credential, stamp: str, load: Load) -> None:
        self.stamp = stamp
        self.load = load
        self.breaker = Breaker()
        self.open_reason: str | None = None
        self.parked: str | None = None
        self.cooling: dict[str, Cooling] = {}
        self.paces: dict[str, Pace] = {}
        self.last_error: str | None = None
        self.last_error_at_ms: int | None = None
        self.is_current = False
        self.meet(channel, credential)

    def meet(self, channel: Channel, credential: Credential) -> None:
        """As the catalogue has them now."""
        self.channel = channel
        self.credential = credential
        self.is_limited = credential.limits != VendorLimits()
        self.patience_ms = channel.timeouts.total_ms
        self.review()

    def review(self) -> None:
        self.is_well = (
            self.breaker.state == "closed" and self.parked is None and not self.cooling and not self.channel.draining
        )

    def pace(self, model: str) -> Pace:
        if model not in self.paces:
            self.paces[model] = Pace()
        return self.paces[model]

    def hindrance(self, model: str, now_ms: int) -> Hindrance | None:
        """None: it may be taken, as a probe where its breaker is not closed."""
        if self.is_well:
            return None
        if self.channel.draining:
            return _DRAINING
        if self.parked is not None:
            return _PARKED
        cooling = self.cooling.get(model)
        if cooling is not None and cooling.until_ms > now_ms:
            return Hindrance("cooling", cooling.until_ms)
        breaker = self.breaker
        if breaker.state == "closed" or breaker.is_due(now_ms):
            return None
        return Hindrance("open" if breaker.state == "open" else "probed", breaker.until_ms)


def stamp_of(channel: Channel, credential: Credential) -> str:
    """What tells a way from the same one before an operator changed where it leads, or by what credential: health that
    was learnt of the one says nothing about the other. A secret's share in it is 32 bits of a hash."""
    secret = credential.secret.reveal() if credential.secret is not None else ""
    leads = msgspec.json.encode(
        [channel.provider, channel.base_url, channel.models, channel.timeouts, channel.shaping, credential.id],
        order="deterministic",
    )
    return hashlib.sha256(leads + b"\0" + secret.encode()).hexdigest()[:8]
