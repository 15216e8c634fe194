"""What a request comes to. Pure, but for the count of tokens where the vendor sent none."""

import msgspec

from app.base.receipt import Usage, UsageSource
from app.base.tokens import TOKENS_PER_TEXT, count_tokens
from app.catalog.pricing import FREE, Prices, amount_nano
from app.proxy.records import Delivered, Order

__all__ = ["Bill", "make_bill"]


class Bill(msgspec.Struct, frozen=True):
    usage: Usage
    source: UsageSource
    amount_nano: int
    cost_nano: int


_NOTHING = Bill(Usage(), "none", 0, 0)


async def make_bill(order: Order, delivered: Delivered, prices: Prices) -> Bill:
    """The vendor's usage at the sale price and at the channel's cost; counted here where the vendor sent none.

    A request that no channel answered is free.
    """
    channel = delivered.channel
    if channel is None:
        return _NOTHING
    usage, source = delivered.usage, "upstream"
    if usage is None:
        usage, source = await _estimate(order, delivered), "estimated"
    costs = channel.costs.get(channel.models.get(order.model, ""), FREE)
    return Bill(usage, source, amount_nano(prices, usage), amount_nano(costs, usage))  # type: ignore[arg-type]


async def _estimate(order: Order, delivered: Delivered) -> Usage:
    prompt = await count_tokens(order.prompt) + TOKENS_PER_TEXT * len(order.prompt)
    output = await count_tokens((delivered.output,))
    return Usage(input_tokens=min(prompt, order.input_bound), output_tokens=output)
