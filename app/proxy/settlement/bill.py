"""What a request comes to: for the customer at the sale price, for the reseller at each channel's cost. Pure, but for
the count of tokens where the vendor sent no usage.

The customer never pays for more than the request could cost: the vendor's figures are cut down to the bounds that were
held. What the vendor takes is another matter: its own figures stand on the attempt, and make its cost.
"""

import msgspec

from app.base.receipt import NO_EXTRAS, Attempt, Extras, Policy, Usage, UsageSource
from app.catalog.pricing import Cost, Prices, Sale, amount_nano, charged_tier
from app.catalog.records import Channel
from app.proxy.extras import passed_extras
from app.proxy.records import Delivered, Order, Try
from app.proxy.settlement.cap import cap_output, cap_usage, describe_excess, is_within
from app.proxy.settlement.estimate import at_least_the_text, count_output, estimate_usage
from app.proxy.settlement.policies import Policies

__all__ = ["Bill", "make_bill"]

# The tier of a vendor's own prices: to say so on every receipt would say nothing.
_STANDARD_TIER = "default"


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """`usage` and `extras` are what the customer is charged for, `cost_nano` the sum of all attempts' costs. `excess`
    says in which way the vendor went beyond what the request could cost, None where it did not."""

    usage: Usage
    source: UsageSource
    policy: Policy
    amount_nano: int
    cost_nano: int
    attempts: tuple[Attempt, ...]
    extras: Extras = NO_EXTRAS
    excess: str | None = None


class _Taken(msgspec.Struct, frozen=True):
    """What a vendor takes for an attempt."""

    usage: Usage
    extras: Extras


async def make_bill(order: Order, delivered: Delivered, sale: Sale, policies: Policies, output_bound: int) -> Bill:
    """A request that no channel answered is free, whatever its attempts cost; so are all attempts but the last.
    `output_bound` is the output tokens of all answers that the hold pays for."""
    policy = policies.of(delivered.ending, has_usage=delivered.usage is not None)
    if delivered.channel is None:
        attempts = _attempts(delivered.tries, order)
        return Bill(
            usage=Usage(), source="none", policy="free", amount_nano=0, cost_nano=_cost(attempts), attempts=attempts
        )
    used: Usage | None = delivered.usage
    source: UsageSource = "upstream"
    # Who leaves an answer chooses when: that must not be where its pictures are cheap.
    media = order.media_tokens if delivered.ending == "client_gone" else None
    if used is None:
        used, source = await estimate_usage(order, delivered.output, media=media), "estimated"
    elif not delivered.is_usage_final:
        used, source = await at_least_the_text(order, delivered.output, used, media=media)
    served = None if delivered.service_tier == _STANDARD_TIER else delivered.service_tier
    passed = NO_EXTRAS if order.extras is NO_EXTRAS else passed_extras(order, delivered.channel)
    taken = _Taken(used, _extras(passed, served))
    charged = taken
    if not is_within(used, order.input_bound, output_bound) or served is not None:
        usage = cap_usage(used, order.input_bound, output_bound)
        charged = _Taken(usage, _charged_extras(passed, sale.prices, served))
    excess = None if charged is taken else _excess(order, taken, charged, output_bound)
    # An answer that is finished, but was not delivered as a whole, was ended here: its vendor had ignored the limit.
    is_by_delivery = policy == "delivered" or (policy == "full" and delivered.ending == "finished")
    if is_by_delivery and delivered.delivered_letters is not None:
        reached = await count_output(delivered.output[: delivered.delivered_letters])
        charged, source = _Taken(cap_output(charged.usage, reached), charged.extras), "estimated"
    attempts = _attempts(delivered.tries, order, taken, charged)
    amount = 0 if policy == "free" else amount_nano(sale.prices, charged.usage, sale.multiplier, charged.extras)
    return Bill(
        usage=charged.usage,
        source=source,
        policy=policy,
        amount_nano=amount,
        cost_nano=_cost(attempts),
        attempts=attempts,
        extras=charged.extras,
        excess=excess,
    )


def _extras(passed: Extras, tier: str | None) -> Extras:
    """What a vendor takes beside the tokens that was passed so much, and served at this tier."""
    if tier is None and not passed.fields:
        return NO_EXTRAS
    return Extras(service_tier=tier, fields=passed.fields)


def _charged_extras(passed: Extras, prices: Prices, served: str | None) -> Extras:
    tier = None if served is None else charged_tier(prices, passed.service_tier, served)
    return _extras(passed, tier)


def _excess(order: Order, taken: _Taken, charged: _Taken, output_bound: int) -> str | None:
    """In which way the vendor went beyond what was held."""
    if taken.extras.service_tier != charged.extras.service_tier:
        return f"served at the tier {taken.extras.service_tier}, asked for {order.extras.service_tier or 'none'}"
    return describe_excess(taken.usage, order.input_bound, output_bound)


def _attempts(
    tries: tuple[Try, ...], order: Order, taken: _Taken | None = None, charged: _Taken | None = None
) -> tuple[Attempt, ...]:
    """`taken` is the last one's, where that one served; what is the receipt's own, `charged`, is not told again."""
    failed = tries if taken is None else tries[:-1]
    attempts = [_attempt(each, _taken_by(each, order), charged) for each in failed]
    if taken is not None:
        attempts.append(_attempt(tries[-1], taken, charged))
    return tuple(attempts)


def _taken_by(failed: Try, order: Order) -> _Taken | None:
    if failed.usage is None:
        return None
    return _Taken(failed.usage, _extras(passed_extras(order, failed.channel), None))


def _attempt(made: Try, taken: _Taken | None, charged: _Taken | None) -> Attempt:
    cost = _cost_of(made.channel, made.model)
    if taken is None:
        return Attempt(
            channel_id=made.channel.id, http_status=made.http_status, error=made.error, duration_ms=made.duration_ms
        )
    own = None if charged is None else charged.extras
    is_told = made.usage is not None or charged is None or taken.usage != charged.usage
    return Attempt(
        channel_id=made.channel.id,
        http_status=made.http_status,
        error=made.error,
        duration_ms=made.duration_ms,
        cost_nano=0 if cost is None else amount_nano(cost.prices, taken.usage, extras=taken.extras),
        cost_version=None if cost is None else cost.version,
        usage=taken.usage if is_told else None,
        extras=None if taken.extras == (own or NO_EXTRAS) else taken.extras,
    )


def _cost_of(channel: Channel, model: str) -> Cost | None:
    return channel.costs.get(channel.models.get(model, ""))


def _cost(attempts: tuple[Attempt, ...]) -> int:
    return sum([attempt.cost_nano for attempt in attempts])
