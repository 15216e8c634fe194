"""A request that moves to another model takes its hold along, larger where that model is dearer."""

import logging

import msgspec

from app.base.errors import ServiceUnavailable
from app.catalog.pricing import Sale, worst_case_nano
from app.catalog.records import Model
from app.proxy.admission.estimate import output_bound
from app.proxy.drafts import write_draft
from app.proxy.records import Caller, Hold, Order
from app.quota.gate import Gate

__all__ = ["cover"]

log = logging.getLogger("tollgate.admission")


async def cover(gate: Gate, caller: Caller, order: Order, hold: Hold, model: Model, sale: Sale) -> Hold | None:
    """A hold that pays for the worst case at this model's price, for an order that is bounded for it, and whose draft
    names the model; None where the wallet or a budget can't, or nobody can be asked."""
    output = output_bound(order, model)
    needed = worst_case_nano(sale.prices, order.input_bound, output, sale.multiplier, extras=order.held_extras)
    more = max(0, needed - hold.amount_nano)
    draft = write_draft(caller, order, sale, output)
    try:
        if not await gate.extend(caller.slots, order.request_id, more, hold.rules.trace, draft):
            return None
    except ServiceUnavailable:
        log.warning("the hold of %s could not be extended: Redis is away", order.request_id)
        return None
    return msgspec.structs.replace(hold, amount_nano=hold.amount_nano + more, output_bound=output)
