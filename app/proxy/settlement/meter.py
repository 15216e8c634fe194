"""Watches what a stream has used against what is held for it, and has the hold grow in steps, so that an answer without
a limit never costs more than its wallet can pay.

The watch is cheap and errs on the wallet's side: it takes the larger of what the vendor counts as it goes and what the
bytes of the text come to. Only where the wallet can't pay for a longer hold is the text counted exactly.

An answer whose limit the customer set, or the model, never costs more than that, so its hold does not grow. A vendor
that goes far beyond is not listened to any longer.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from app.base.errors import ServiceUnavailable
from app.catalog.pricing import worst_case_nano
from app.proxy.drafts import write_draft
from app.proxy.settlement.clerk import Trip
from app.proxy.settlement.estimate import count_output
from app.quota.gate import Gate

__all__ = ["Meter"]

log = logging.getLogger("tollgate.settlement")

# A token is rarely less than three bytes of text.
_BYTES_A_TOKEN = 3
_STEP_TOKENS = 1024
_LAST_STEP_TOKENS = 32
# Vendors count a little differently, and some end an answer a little late.
_LIMITS_SLACK = 2
_TOKENS_SLACK = 64
# No model gives a longer answer: a vendor that counts more of them, as it goes, does not know.
_ANSWER_TOKENS_MOST = 262_144


class Event(Protocol):
    """One of a stream: how much text there was with it, and the output as the vendor had counted it by then."""

    @property
    def letters(self) -> int: ...
    @property
    def counted(self) -> int | None: ...


class Meter:
    """Of one stream. `held_tokens` is the output that the hold pays for; `beyond_limit` says that the vendor went far
    beyond the limit that it was sent."""

    def __init__(self, gate: Gate, trip: Trip) -> None:
        self._gate = gate
        self._trip = trip
        self.held_tokens = trip.hold.output_bound
        self.beyond_limit = False
        order, bound = trip.order, trip.hold.output_bound
        self._is_bounded = order.output_limit is not None or order.imposed_limit is None
        self._most = _LIMITS_SLACK * bound + _TOKENS_SLACK
        self._believed_most = max(bound, order.answers * _ANSWER_TOKENS_MOST)
        self._counted_tokens = self._counted_bytes = 0

    @property
    def trip(self) -> Trip:
        """The trip, with what its hold has grown to."""
        trip = self._trip
        if self.held_tokens == trip.hold.output_bound:
            return trip
        return msgspec.structs.replace(trip, hold=msgspec.structs.replace(trip.hold, output_bound=self.held_tokens))

    def covers(self, output_bytes: int, vendor_count: int | None) -> bool:
        """Whether what is held pays for so long an answer, and the answer for all that is known keeps its limit."""
        if self._is_bounded:
            return not self._may_be_beyond(output_bytes)
        return self._used(output_bytes, vendor_count) <= self.held_tokens

    async def extend(self, output_bytes: int, vendor_count: int | None, text: Callable[[], str]) -> bool:
        """For an answer that is not covered: a larger hold. False where it ends here: the wallet can't pay for what has
        come, or the vendor is `beyond_limit`."""
        if self._may_be_beyond(output_bytes):
            await self._count(output_bytes, text())
            self.beyond_limit = self._may_be_beyond(output_bytes)
        if self._is_bounded or self.beyond_limit:
            return not self.beyond_limit
        used = self._used(output_bytes, vendor_count)
        if await self._grow(max(0, used - self.held_tokens) + _STEP_TOKENS):
            return True
        await self._count(output_bytes, text())
        used = self._used(output_bytes, vendor_count)
        if used <= self.held_tokens or await self._grow(used - self.held_tokens + _LAST_STEP_TOKENS):
            return True
        await self._grow_at_most(used - self.held_tokens)
        return used <= self.held_tokens

    async def hold_rest(self, output_bytes: int, vendor_count: int | None, text: Callable[[], str]) -> None:
        """At the end of an answer without a limit: what was not watched, or only guessed from its bytes, is held too,
        as far as the wallet pays for it."""
        if self._is_bounded:
            return
        if vendor_count is not None and self._is_believed(vendor_count):
            used = vendor_count
        elif output_bytes > self.held_tokens:  # a token is a byte at least
            used = await self._count(output_bytes, text())
        else:
            return
        if used > self.held_tokens and not await self._grow(used - self.held_tokens):
            await self._grow_at_most(used - self.held_tokens)

    async def reach(self, events: Sequence[Event], text: str) -> int:
        """How many of the events, which came last, the hold pays for one by one; `text` is the answer up to them all.
        Those of an answer with a limit may go as far beyond that as any vendor's."""
        most = self._most if self._is_bounded else self.held_tokens
        low, high = 0, len(events)
        while low < high:
            middle = (low + high + 1) // 2
            event = events[middle - 1]
            used = await count_output(text[: event.letters])
            if not self._is_bounded and event.counted is not None and self._is_believed(event.counted):
                used = max(used, event.counted)
            if used <= most:
                low = middle
            else:
                high = middle - 1
        return low

    def _may_be_beyond(self, output_bytes: int) -> bool:
        """Exact where the text was just counted."""
        return self._counted_tokens + (output_bytes - self._counted_bytes) // _BYTES_A_TOKEN > self._most

    def _is_believed(self, vendor_count: int | None) -> bool:
        return vendor_count is not None and vendor_count <= self._believed_most

    async def _count(self, output_bytes: int, text: str) -> int:
        self._counted_tokens = await count_output(text)
        self._counted_bytes = output_bytes
        return self._counted_tokens

    def _used(self, output_bytes: int, vendor_count: int | None) -> int:
        """A vendor that counts too little as it goes (0 or 1 in every chunk) is not believed: the bytes are there. Nor
        is one that counts more than an answer can have."""
        by_text = self._counted_tokens + (output_bytes - self._counted_bytes) // _BYTES_A_TOKEN
        return max(vendor_count, by_text) if vendor_count is not None and self._is_believed(vendor_count) else by_text

    async def _grow(self, tokens: int) -> bool:
        trip = self._trip
        more = self._price(self.held_tokens + tokens) - self._price(self.held_tokens)
        draft = write_draft(trip.caller, trip.order, trip.sale, self.held_tokens + tokens)
        try:
            if not await self._gate.extend(
                trip.caller.slots, trip.order.request_id, more, trip.hold.rules.trace, draft
            ):
                return False
        except ServiceUnavailable:
            log.warning("the hold of %s could not be extended: Redis is away", trip.order.request_id)
        self.held_tokens += tokens
        return True

    async def _grow_at_most(self, tokens: int) -> None:
        """By as many of them as the wallet pays for: bytes are a guess, and tokens beyond the hold may have been sent
        before they were counted."""
        step = 1 << tokens.bit_length()
        while step := step >> 1:
            if step <= tokens and await self._grow(step):
                tokens -= step

    def _price(self, output_tokens: int) -> int:
        sale, order = self._trip.sale, self._trip.order
        return worst_case_nano(sale.prices, order.input_bound, output_tokens, sale.multiplier, order.held_extras)
