"""The clerk ends every hold exactly once. Settling is idempotent by the request's id, so it is repeated until Redis has
answered, for as long as the lease can last; after that the sweeper's receipt stands."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import msgspec

from app.base.clock import monotonic_ms
from app.base.errors import ServiceUnavailable
from app.base.receipt import Receipt
from app.catalog.records import Model
from app.proxy.records import Caller, Delivered, Hold, Order
from app.proxy.settlement.bill import Bill, make_bill
from app.proxy.settlement.leases import Leases
from app.quota.gate import Gate, Settled

__all__ = ["Clerk", "Trip"]

log = logging.getLogger("tollgate.settlement")

_encode = msgspec.json.Encoder().encode
_RETRY_FIRST_S = 0.05
_RETRY_MOST_S = 2.0


class Trip(msgspec.Struct, frozen=True):
    """A request under way: who, what, at which prices, and what is held for it. `started_ms` is monotonic."""

    caller: Caller
    order: Order
    model: Model
    hold: Hold
    started_ms: int


class Clerk:
    def __init__(self, gate: Gate, leases: Leases) -> None:
        self._gate = gate
        self._leases = leases
        self._late: set[asyncio.Task[Any]] = set()

    async def settle(self, trip: Trip, delivered: Delivered) -> Bill:
        """Ends the hold of a request; what it came to, and was charged. Does not fail: what Redis could not take now is
        tried again in the background."""
        assert trip.model.prices is not None
        bill = await make_bill(trip.order, delivered, trip.model.prices)
        receipt = _encode(_receipt(trip, delivered, bill))
        try:
            settled = await self._call(trip, bill, receipt)
        except ServiceUnavailable:
            self._in_background(self._settle_later(trip, bill, receipt))
            return bill
        self._leases.end(trip.order.request_id)
        if settled is None:
            log.error("request %s had ended before it was settled", trip.order.request_id)
        elif settled.unpaid_nano:
            return msgspec.structs.replace(bill, amount_nano=bill.amount_nano - settled.unpaid_nano)
        return bill

    async def settle_surely(self, trip: Trip, delivered: Delivered) -> None:
        """The same where the request itself is being cancelled: it goes on without it, and `drain` waits for it."""
        await asyncio.shield(self._in_background(self.settle(trip, delivered)))

    async def drain(self) -> None:
        """Waits for settlements that are still under way."""
        while self._late:
            await asyncio.wait(self._late)

    def _in_background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        return task

    async def _call(self, trip: Trip, bill: Bill, receipt: bytes) -> Settled | None:
        usage = bill.usage
        return await self._gate.settle(
            trip.caller.slots,
            trip.order.request_id,
            bill.amount_nano,
            usage.input_tokens + usage.output_tokens,
            receipt,
            trip.hold.generation,
        )

    async def _settle_later(self, trip: Trip, bill: Bill, receipt: bytes) -> None:
        pause_s = _RETRY_FIRST_S
        while True:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _RETRY_MOST_S)
            try:
                # Where the first call had run after all, this one finds no hold and does nothing.
                await self._call(trip, bill, receipt)
            except ServiceUnavailable:
                continue
            self._leases.end(trip.order.request_id)
            return


def _receipt(trip: Trip, delivered: Delivered, bill: Bill) -> Receipt:
    order, channel = trip.order, delivered.channel
    return Receipt(
        request_id=order.request_id,
        created_at_ms=order.created_at_ms,
        account_id=trip.caller.account_id,
        key_id=trip.caller.key_id,
        dialect=order.dialect,
        model=order.model,
        stream=order.stream,
        status=delivered.status,
        http_status=delivered.http_status,
        price_version=trip.model.price_version or "",
        amount_nano=bill.amount_nano,
        upstream_cost_nano=bill.cost_nano,
        upstream_model=None if channel is None else channel.models.get(order.model),
        channel_id=None if channel is None else channel.id,
        finish_reason=delivered.finish_reason,
        usage=bill.usage,
        usage_source=bill.source,
        attempts=delivered.attempts,
        ttft_ms=delivered.ttft_ms,
        duration_ms=monotonic_ms() - trip.started_ms,
    )
