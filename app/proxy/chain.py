"""Models in one another's place: where none of a model's channels can serve, those that the client or the operator
named are tried, each once. The customer pays for the model that served."""

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol, TypeVar

import msgspec

from app.base.errors import Forbidden, InvalidField, NoChannel, UnknownModel
from app.base.receipt import NO_EXTRAS
from app.catalog.records import Channel, Model
from app.catalog.snapshot import Snapshot
from app.proxy.access import check_model
from app.proxy.admission import bounded, check_media, cover, takes_media
from app.proxy.extras import refused_field, refusing_channels
from app.proxy.records import Caller, Offer, Order, Plan, Try
from app.proxy.relay import RelayFailed, has_passed
from app.proxy.relay.providers import count_like_ours
from app.proxy.settlement import Trip
from app.quota.gate import Gate

__all__ = ["Chain", "ModelChain", "Planner", "check_taken", "find_offer"]

T = TypeVar("T")
Ask = Callable[[Order, Plan, Sequence[Try], float | None], Awaitable[T]]


class Planner(Protocol):
    def plan(
        self,
        caller_account_id: str,
        order: Order,
        model: Model,
        channels: Sequence[Channel],
        excluded: Collection[str] = (),
    ) -> Plan:
        """The picks for a request. `excluded` are ids of channels that it has tried."""


def find_offer(snapshot: Snapshot, caller: Caller, name: str, param: str = "model") -> Offer:
    """Raises UnknownModel, or Forbidden where the key may not use it; `param` is where the request names it."""
    model, sale = snapshot.models.get(name), snapshot.sale(name, caller.book)
    if model is None or sale is None:
        unknown = UnknownModel(name)
        unknown.param = param
        raise unknown
    check_model(caller, name)
    return Offer(model, sale, snapshot.routes[name])


def takes(order: Order, offer: Offer) -> bool:
    """Whether the model declares a bound for each of the order's media, and one of its channels takes its fields."""
    return takes_media(order, offer.model) and refused_field(order, offer.channels) is None


class ModelChain:
    """Which model is next. Pure.

    After one that nobody could serve come the client's own list, then the fallbacks of the model it asked for, then
    theirs. After one that the prompt was too long for come its `context_fallbacks` alone, and from there on no model
    whose window is known to be as short.
    """

    def __init__(self, snapshot: Snapshot, caller: Caller, order: Order) -> None:
        self._snapshot = snapshot
        self._caller = caller
        self._requested = order.model
        self._seen = {order.model}
        self._waiting = deque(order.also)
        self._too_short = 0

    def failed(self, model: Model, *, is_overflow: bool) -> None:
        """`model` could not serve the request; what may stand in for it is taken up."""
        if not is_overflow:
            self._waiting.extend(model.fallbacks)
            return
        self._too_short = max(self._too_short, model.context_length or 0)
        if model.name == self._requested:
            self._waiting.clear()
        self._waiting.extendleft(reversed(model.routing.context_fallbacks))

    def next(self) -> Offer | None:
        """None where nobody is left. Models that the caller can't have are passed over."""
        while self._waiting:
            name = self._waiting.popleft()
            if name in self._seen:
                continue
            self._seen.add(name)
            try:
                offer = find_offer(self._snapshot, self._caller, name)
            except (UnknownModel, Forbidden):
                continue
            window = offer.model.context_length
            if window is None or window > self._too_short:
                return offer
        return None


def check_taken(snapshot: Snapshot, caller: Caller, order: Order, offer: Offer) -> None:
    """Raises InvalidField where the model declares no bound for a part of the request, or where a field has a price of
    its own and no channel takes it, of this model or of those that may stand in for it. Pure."""
    if order.media:
        check_media(order, offer.model)
    if order.extras is NO_EXTRAS or (field := refused_field(order, offer.channels)) is None:
        return
    chain, current = ModelChain(snapshot, caller, order), offer
    while True:
        chain.failed(current.model, is_overflow=False)
        other = chain.next()
        if other is None:
            raise InvalidField(field, "has a price of its own, and is not passed on here")
        if other.channels and takes(order, other):
            return
        current = other


class Chain:
    """Serves a request with the model it asks for, or else with those that may stand in."""

    def __init__(self, planner: Planner, gate: Gate, snapshot: Callable[[], Snapshot]) -> None:
        self._planner = planner
        self._gate = gate
        self._snapshot = snapshot

    async def serve(self, trip: Trip, offer: Offer, ask: Ask[T]) -> tuple[Trip, T]:
        """The answer, and the trip with the model that gave it, its price and a hold that covers it. `ask` is the
        relay's. Raises RelayFailed with what the requested model came to, and every try."""
        plan = self._plan(trip, offer)
        try:
            return trip, await ask(trip.order, plan, (), None)
        except RelayFailed as failed:
            if failed.is_refused and not failed.is_overflow:
                raise
            return await self._serve_otherwise(trip, offer, ask, failed, plan.deadline_at)

    async def _serve_otherwise(
        self, trip: Trip, offer: Offer, ask: Ask[T], first: RelayFailed, not_after: float | None
    ) -> tuple[Trip, T]:
        """The deadline of the requested model stands for all."""
        chain = ModelChain(self._snapshot(), trip.caller, trip.order)
        chain.failed(offer.model, is_overflow=first.is_overflow)
        tries, errors = first.tries, [first.error]
        while not has_passed(not_after) and (other := chain.next()) is not None:
            moved = await self._move(trip, other)
            if moved is None:
                continue
            trip = moved
            plan = self._plan(trip, other, {each.channel.id for each in tries})
            try:
                return trip, await ask(trip.order, plan, tries, not_after)
            except RelayFailed as failed:
                tries = failed.tries
                errors.append(failed.error)
                if failed.is_overflow or not failed.is_refused:
                    chain.failed(other.model, is_overflow=failed.is_overflow)
        if first.is_refused:
            raise RelayFailed(first.error, tries, is_overflow=first.is_overflow)
        raise RelayFailed(NoChannel(min(each.retry_after_s for each in errors if isinstance(each, NoChannel))), tries)

    def _plan(self, trip: Trip, offer: Offer, tried: Collection[str] = ()) -> Plan:
        excluded = tried
        if trip.order.extras is not NO_EXTRAS:
            excluded = {*tried, *refusing_channels(trip.order, offer.channels)}
        return self._planner.plan(trip.caller.account_id, trip.order, offer.model, offer.channels, excluded)

    async def _move(self, trip: Trip, offer: Offer) -> Trip | None:
        """The trip with another model; None where that does not take what the request has, or the wallet can't pay for
        it."""
        order = trip.order
        if not takes(order, offer):
            return None
        order = msgspec.structs.replace(
            order, model=offer.model.name, requested_model=order.requested_model or order.model
        )
        is_counted = order.counted_tokens is not None and count_like_ours(offer.channels, offer.model.name)
        order = bounded(order, offer, is_counted=is_counted)
        hold = await cover(self._gate, trip.caller, order, trip.hold, offer.model, offer.sale)
        if hold is None:
            return None
        return msgspec.structs.replace(trip, order=order, sale=offer.sale, hold=hold)
