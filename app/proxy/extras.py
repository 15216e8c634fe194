"""What becomes of a request's fields that have a price of their own, channel by channel. Pure.

A channel passes such a field on, leaves it out, or can't serve the request; see `app.base.priced_fields`.
"""

from collections.abc import Iterable, Sequence

from app.base.json_path import parse_path
from app.base.priced_fields import LEFT_OUT_FOR, PRICED_FIELDS, Action
from app.base.receipt import NO_EXTRAS, Extras
from app.catalog.records import Channel
from app.proxy.records import Order

__all__ = ["dropped_fields", "passable_extras", "passed_extras", "refused_field", "refusing_channels"]

_TIER = "service_tier"


def passed_extras(order: Order, channel: Channel) -> Extras:
    """What of `order.extras` reaches the vendor behind this channel, and is priced."""
    return passable_extras(order, (channel,))


def passable_extras(order: Order, channels: Iterable[Channel]) -> Extras:
    """What of `order.extras` one of these channels passes on, at least: a hold has to cover it."""
    asked = order.extras
    if asked is NO_EXTRAS:
        return asked
    passed = {name for channel in channels for name in _names(asked) if _passes(channel, name)}
    return Extras(
        service_tier=asked.service_tier if _TIER in passed else None,
        fields=tuple(name for name in asked.fields if name in passed),
    )


def dropped_fields(order: Order, channel: Channel) -> tuple[str, ...]:
    """Names of the fields that this channel leaves out, sorted."""
    if order.extras is NO_EXTRAS:
        return ()
    return tuple(sorted(name for name in _names(order.extras) if _action(channel, name) == "drop"))


def refusing_channels(order: Order, channels: Iterable[Channel]) -> set[str]:
    """Ids of those that can't serve a request with such fields."""
    return {channel.id for channel in channels if _refused(order.extras, channel) is not None}


def refused_field(order: Order, channels: Sequence[Channel]) -> str | None:
    """A field that keeps the request from all of these channels; None where one of them takes it, or there is none."""
    refused = [_refused(order.extras, channel) for channel in channels]
    return None if None in refused else next(iter(refused), None)


def _refused(extras: Extras, channel: Channel) -> str | None:
    return next((name for name in _names(extras) if _action(channel, name) == "refuse"), None)


def _passes(channel: Channel, name: str) -> bool:
    """An operator's rule may drop what `priced_fields` passes."""
    is_dropped = any(parse_path(path) == (name,) for path in channel.shaping.params.drop)
    return _action(channel, name) == "pass" and not is_dropped


def _action(channel: Channel, name: str) -> Action:
    """A field that never reaches the vendor is dropped where the operator would pass it."""
    action = channel.priced_fields.get(name) or PRICED_FIELDS[name]
    return "drop" if action == "pass" and channel.provider in LEFT_OUT_FOR.get(name, ()) else action


def _names(extras: Extras) -> tuple[str, ...]:
    return extras.fields if extras.service_tier is None else (*extras.fields, _TIER)
