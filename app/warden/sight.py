"""How all channels are, as operators look at it: what the workers know of each credential, and what its vendor says is
left."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from app.base.clock import iso
from app.catalog.records import Channel, Credential
from app.proxy.dispatch.change import WayHealth
from app.proxy.relay.balance import Balance
from app.warden.house import Way

__all__ = ["show_balance", "show_health"]

_WORST_FIRST = ("parked", "open", "half_open", "cooling", "well")


def show_health(
    channels: Iterable[Channel], ways: Iterable[WayHealth], balances: Mapping[Way, Balance], at_ms: int
) -> list[dict[str, Any]]:
    """Pure. A channel is `off`, `draining`, or as well as the best of its credentials; `unused` has none to use."""
    known = {(way.channel_id, way.credential_id): way for way in ways}
    shown = []
    for channel in channels:
        credentials = [
            _credential(each, known.get((channel.id, each.id)), balances.get((channel.id, each.id)), at_ms)
            for each in channel.ways
        ]
        states = [each["state"] for each in credentials]
        shown.append(
            {
                "channel_id": channel.id,
                "name": channel.name,
                "provider": channel.provider,
                "state": _state(channel, states),
                "in_flight": sum(each["in_flight"] for each in credentials),
                "test_every_s": channel.test_every_s,
                "credentials": credentials,
            }
        )
    return shown


def _state(channel: Channel, states: list[str]) -> str:
    if not channel.enabled:
        return "off"
    if channel.draining:
        return "draining"
    return max(states, key=_WORST_FIRST.index, default="unused")


def _credential(credential: Credential, way: WayHealth | None, balance: Balance | None, at_ms: int) -> dict[str, Any]:
    cooling = {} if way is None else {model: iso(until) for model, until in way.cooling.items() if until > at_ms}
    state, reason = _condition(way, bool(cooling))
    return {
        "credential_id": credential.id,
        "name": credential.name,
        "state": state,
        "reason": reason,
        "until": iso(way.open_until_ms) if way is not None and state == "open" and way.open_until_ms else None,
        "cooling": cooling,
        "in_flight": 0 if way is None else way.in_flight,
        "requests": 0 if way is None else way.requests,
        "failures": 0 if way is None else way.failures,
        "first_content_ms": {} if way is None else way.first_content_ms,
        "last_error": None if way is None else way.last_error,
        "last_error_at": iso(way.last_error_at_ms) if way is not None and way.last_error_at_ms else None,
        "balance": None if balance is None else show_balance(balance),
    }


def _condition(way: WayHealth | None, is_cooling: bool) -> tuple[str, str | None]:
    """Its state, and why."""
    if way is None:
        return "well", None
    if way.parked is not None:
        return "parked", way.parked
    if way.state != "closed":
        return way.state, way.open_reason
    return ("cooling", "its vendor's limit of rates") if is_cooling else ("well", None)


def show_balance(balance: Balance) -> dict[str, Any]:
    shown = msgspec.structs.asdict(balance)
    return {"at": iso(shown.pop("at_ms")), **shown}
