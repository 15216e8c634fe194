"""What the receipt of a request would say if its worker died now. It is kept in the request's hold, for the sweeper.
Pure."""

import msgspec

from app.base.receipt import Draft
from app.catalog.pricing import Sale
from app.proxy.records import Caller, Order

__all__ = ["write_draft"]

_encode = msgspec.json.Encoder().encode


def write_draft(caller: Caller, order: Order, sale: Sale, output_bound: int) -> bytes:
    """The draft as JSON. `output_bound` is the output tokens of all answers that the hold pays for."""
    return _encode(
        Draft(
            created_at_ms=order.created_at_ms,
            dialect=order.dialect,
            model=order.model,
            stream=order.stream,
            price_version=sale.version,
            multiplier=sale.multiplier,
            input_bound=order.input_bound,
            output_bound=output_bound,
            member_id=caller.member_id,
            extras=order.held_extras,
        )
    )
