"""Why a request would go where it would: each way to a model, in order, taken or passed over, in words. Nothing of this
is on the way of a request."""

import random
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from app.base.clock import iso
from app.base.money import format_usd
from app.catalog.records import Channel, Model
from app.proxy.dispatch.change import WayHealth
from app.proxy.dispatch.choice import Candidate, Need, estimate_nano, is_crowded, rank, shares
from app.proxy.dispatch.health import Health
from app.proxy.dispatch.table import Table, make_table
from app.proxy.dispatch.way import Hindrance

__all__ = ["Verdict", "adopt", "explain"]

_ORDINALS = ("first", "second", "third")


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """`position` counts the ways that may be taken, from 1; None: it is passed over. `estimate` is what the request
    would cost there, in USD."""

    position: int | None
    reason: str
    channel_id: str
    channel: str
    credential_id: str
    credential: str
    priority: int
    weight: int
    credential_weight: int
    in_flight: int
    first_content_ms: int | None
    estimate: str | None


class _Middling(random.Random):
    """Chance left out: what is shared by weight comes in the order of the weights."""

    def random(self) -> float:
        return 0.5


def adopt(health: Health, views: Iterable[WayHealth]) -> None:
    """What workers wrote of the ways, as if it had been learnt here."""
    for view in views:
        for way in health.find(view.channel_id, view.credential_id):
            if way.stamp == view.stamp:
                health.adopt(way, view)


def explain(
    health: Health,
    model: Model,
    channels: Sequence[Channel],
    need: Need,
    key: bytes,
    full_ms: Mapping[str, int],
) -> tuple[Table, list[Verdict]]:
    """`key` is the conversation's; `full_ms` says how long vendors' limits hold back the ways that are named there as
    `channel/credential`."""
    table, now = make_table(model, channels, health), health.clock_ms()
    verdicts: list[Verdict] = []
    position = 0
    for tier in table.tiers:
        passed: list[tuple[Candidate, str]] = []
        free: list[Candidate] = []
        for each in tier:
            hindrance = each.way.hindrance(model.name, now)
            if hindrance is None and (wait_ms := full_ms.get(_name(each), 0)):
                hindrance = Hindrance("full", now + wait_ms)
            if hindrance is None:
                free.append(each)
            else:
                passed.append((each, f"passed over: {_obstacle(health, each, hindrance)}"))
        for each in rank(free, model, need, key if table.sticky else None, now, _Middling()):
            position += 1
            reason = f"{_ordinal(position)}: {_merit(table, each, free, need, now)}"
            verdicts.append(_verdict(each, model, need, position, reason))
        verdicts += [_verdict(each, model, need, None, reason) for each, reason in passed]
    return table, verdicts


def _obstacle(health: Health, candidate: Candidate, hindrance: Hindrance) -> str:
    way = candidate.way
    until = "" if hindrance.until_ms is None else f" until {iso(health.wall_of(hindrance.until_ms))}"
    because = f" ({way.open_reason})" if way.open_reason else ""
    match hindrance.kind:
        case "draining":
            return "draining"
        case "parked":
            return f"parked until a test passes ({way.parked})"
        case "cooling":
            return f"its vendor's 429 holds{until}"
        case "open":
            return f"breaker open{until}{because}"
        case "probed":
            return f"a probe is under way{because}"
        case _:
            return f"at its vendor's limit{until}"


def _merit(table: Table, candidate: Candidate, free: Sequence[Candidate], need: Need, now: int) -> str:
    """What gave it its place among those of its priority."""
    if len(free) == 1:
        merit = f"the only one of priority {candidate.channel.priority}"
    else:
        weight = dict(zip(map(_name, free), shares(free), strict=True))
        merit = f"weight {weight[_name(candidate)]:.4g} of {sum(weight.values()):.4g}"
        match table.model.routing.strategy:
            case "latency":
                figure = candidate.pace.expected_ms(now)
                known = "nothing is known of its pace yet" if figure is None else f"first content after {figure:.0f} ms"
                merit = f"{known}, {merit}"
            case "cost":
                cost = "no cost prices" if candidate.prices is None else f"{_estimate(candidate, need)} USD"
                merit = f"{cost}, {merit}"
            case "least_busy":
                merit = f"{candidate.way.load.in_flight} in flight, {merit}"
        if table.sticky:
            merit = f"by the conversation, {merit}"
            total = sum(each.way.load.in_flight for each in free)
            if is_crowded(candidate, total, sum(each.weight for each in free)):
                merit = f"more than its share is in flight, {merit}"
    if candidate.way.breaker.state != "closed":
        merit = f"as the probe of its breaker ({candidate.way.open_reason}), {merit}"
    return merit


def _verdict(candidate: Candidate, model: Model, need: Need, position: int | None, reason: str) -> Verdict:
    way = candidate.way
    return Verdict(
        position=position,
        reason=reason,
        channel_id=way.channel.id,
        channel=way.channel.name,
        credential_id=way.credential.id,
        credential=way.credential.name,
        priority=way.channel.priority,
        weight=way.channel.weight,
        credential_weight=way.credential.weight,
        in_flight=way.load.in_flight,
        first_content_ms=way.pace(model.name).latest_ms(),
        estimate=None if candidate.prices is None else _estimate(candidate, need),
    )


def _estimate(candidate: Candidate, need: Need) -> str:
    return format_usd(round(estimate_nano(candidate.prices, need)))


def _name(candidate: Candidate) -> str:
    return f"{candidate.way.channel.id}/{candidate.way.credential.id}"


def _ordinal(position: int) -> str:
    return _ORDINALS[position - 1] if position <= len(_ORDINALS) else f"{position}th"
