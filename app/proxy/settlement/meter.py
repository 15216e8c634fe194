"""Watches what a stream has used against what is held for it, and has the hold grow in steps, so that an answer without
a limit never costs more than its wallet can pay.

The watch is cheap and errs on the wallet's side: it takes the larger of what the vendor counts as it goes and what the
bytes of the text come to. Only where the wallet can't pay for a longer hold is the text counted exactly.
"""

import logging
from collections.abc import Callable

from app.base.errors import ServiceUnavailable
from app.base.tokens import count_tokens
from app.catalog.pricing import worst_case_nano
from app.proxy.settlement.clerk import Trip
from app.quota.gate import Gate

__all__ = ["Meter"]

log = logging.getLogger("tollgate.settlement")

# A token is rarely less than three bytes of text. A vendor that was told a limit keeps it, so there is less to suspect.
_BYTES_A_TOKEN = 3
_BYTES_A_TOKEN_LIMITED = 6
_STEP_TOKENS = 1024
_LAST_STEP_TOKENS = 32


class Meter:
    """Of one stream. `held_tokens` is the output that the hold pays for."""

    def __init__(self, gate: Gate, trip: Trip) -> None:
        self._gate = gate
        self._trip = trip
        self.held_tokens = trip.hold.output_bound
        limited = trip.order.output_limit is not None or trip.order.imposed_limit is not None
        self._bytes_a_token = _BYTES_A_TOKEN_LIMITED if limited else _BYTES_A_TOKEN
        self._counted_tokens = self._counted_bytes = 0

    def covers(self, output_bytes: int, vendor_count: int | None) -> bool:
        """Whether what is held pays for so long an answer."""
        return self._used(output_bytes, vendor_count) <= self.held_tokens

    async def extend(self, output_bytes: int, vendor_count: int | None, text: Callable[[], str]) -> bool:
        """For an answer that is not covered: a larger hold. False where the wallet can't pay for what has come."""
        used = self._used(output_bytes, vendor_count)
        if await self._grow(max(0, used - self.held_tokens) + _STEP_TOKENS):
            return True
        self._counted_tokens = await count_tokens((text(),))
        self._counted_bytes = output_bytes
        used = self._used(output_bytes, vendor_count)
        return used <= self.held_tokens or await self._grow(used - self.held_tokens + _LAST_STEP_TOKENS)

    def _used(self, output_bytes: int, vendor_count: int | None) -> int:
        """A vendor that counts too little as it goes (0 or 1 in every chunk) is not believed: the bytes are there."""
        by_text = self._counted_tokens + (output_bytes - self._counted_bytes) // self._bytes_a_token
        return max(vendor_count or 0, by_text)

    async def _grow(self, tokens: int) -> bool:
        trip = self._trip
        more = self._price(self.held_tokens + tokens) - self._price(self.held_tokens)
        try:
            if more and not await self._gate.extend(
                trip.caller.slots, trip.order.request_id, more, trip.hold.rules.trace
            ):
                return False
        except ServiceUnavailable:
            log.warning("the hold of %s could not be extended: Redis is away", trip.order.request_id)
        self.held_tokens += tokens
        return True

    def _price(self, output_tokens: int) -> int:
        sale = self._trip.sale
        return worst_case_nano(sale.prices, self._trip.order.input_bound, output_tokens, sale.multiplier)
