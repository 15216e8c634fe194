"""The clerk ends every hold exactly once. Settling is idempotent by the request's id; what Redis can't take now goes to
the spool, and from there to Redis as soon as that is back."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import msgspec

from app.base.clock import monotonic_ms, now_ms
from app.base.errors import ServiceUnavailable
from app.base.receipt import Receipt
from app.base.wire import StoreError
from app.catalog.pricing import Sale
from app.catalog.records import Channel
from app.proxy.records import BudgetMark, Caller, Delivered, Hold, MarkBudget, Order
from app.proxy.settlement.bill import Bill, make_bill
from app.proxy.settlement.failures import Failures
from app.proxy.settlement.leases import Leases
from app.proxy.settlement.policies import Policies, status_of
from app.proxy.settlement.spool import Settlement, Spool
from app.proxy.settlement.unposted import Unposted
from app.quota.gate import Gate, LostHold, Settled, Unheard
from app.quota.slots import Slots, slots_of

__all__ = ["Clerk", "IsPosted", "TellExcess", "Trip"]

log = logging.getLogger("tollgate.settlement")

_encode = msgspec.json.Encoder().encode
_REPLAY_EVERY_S = 1.0
_REPLAY_SOON_S = 0.1


class IsPosted(Protocol):
    """Whether a request is on the books, or its receipt in the stream of its account's shard, on the way there. Raises
    ServiceUnavailable."""

    async def __call__(self, request_id: str, account_id: str, /) -> bool: ...


class TellExcess(Protocol):
    """Hears that a channel's vendor went beyond what a request for `model` could cost, and how; must not wait."""

    def __call__(self, channel_id: str, model: str, how: str, /) -> None: ...


class Trip(msgspec.Struct, frozen=True):
    """A request under way: who, what, at which prices, and what is held for it. `started_ms` is monotonic."""

    caller: Caller
    order: Order
    sale: Sale
    hold: Hold
    started_ms: int


class Clerk:
    def __init__(
        self,
        gate: Gate,
        leases: Leases,
        spool: Spool,
        policies: Policies,
        is_posted: IsPosted,
        shards: int,
        mark_budget: MarkBudget,
        unposted: Unposted,
        tell_excess: TellExcess | None = None,
        clock: Callable[[], int] = monotonic_ms,
    ) -> None:
        self._gate = gate
        self._leases = leases
        self._spool = spool
        self._policies = policies
        self._is_posted = is_posted
        self._shards = shards
        self._mark_budget = mark_budget
        self._unposted = unposted
        self._tell_excess = tell_excess
        self._clock = clock
        self._failures = Failures()
        self._late: set[asyncio.Task[Any]] = set()
        self._spooled = asyncio.Event()

    async def settle(self, trip: Trip, delivered: Delivered) -> Bill:
        """Ends the hold of a request; what it came to, and was charged. Does not fail: what Redis could not take is on
        the disk when this returns. Where the request is being cancelled, it is settled without it."""
        try:
            return await self._settle(trip, delivered)
        except asyncio.CancelledError:
            self._in_background(self._settle_again(trip, delivered))
            raise

    async def _settle(self, trip: Trip, delivered: Delivered) -> Bill:
        bill = await make_bill(trip.order, delivered, trip.sale, self._policies, trip.hold.output_bound)
        if bill.excess is not None:
            self._note_excess(trip, delivered.channel, bill.excess)
        settlement = _settlement(trip, delivered, bill)
        try:
            # Where Redis was emptied since, the sweeper's receipt may be on the books: those are asked, by the replay.
            settled = await self._take(trip.caller.slots, settlement, is_repeat=True)
        except (ServiceUnavailable, StoreError, LostHold) as error:
            await self._keep(settlement, error)
            return bill
        finally:
            self._leases.end(trip.order.request_id)
        if settled is None:
            log.error("request %s had ended before it was settled", trip.order.request_id)
            return bill
        for reached in settled.reached:
            subject = trip.hold.rules.subjects[reached.subject]
            mark = BudgetMark(subject, reached.counter, reached.used, reached.amount, reached.start_ms)
            self._mark_budget(trip.caller, mark)
        if settled.unpaid_nano:
            return msgspec.structs.replace(bill, amount_nano=bill.amount_nano - settled.unpaid_nano)
        return bill

    def _note_excess(self, trip: Trip, channel: Channel | None, how: str) -> None:
        if channel is None:
            return
        log.warning("channel %s went beyond its bound for %s: %s", channel.name, trip.order.request_id, how)
        if self._tell_excess is not None:
            self._tell_excess(channel.id, trip.order.model, how)

    async def forgo(self, request_id: str) -> None:
        """Keeps on the disk that nothing is to be held for a request whose admission was not heard of: what its
        customer is told stays true, whatever becomes of this worker."""
        for lost in [each for each in self._gate.unheard if each.request_id == request_id]:
            slots = lost.slots
            nothing = Settlement(slots.account_id, slots.key_id, request_id, 0, 0, b"", b"", lost.trace)
            try:
                await self._spool.keep(nothing)
            except OSError:
                log.exception("that %s holds nothing could not be spooled, and waits in memory", request_id)
                continue
            if lost in self._gate.unheard:
                self._gate.unheard.remove(lost)
            self._spooled.set()

    async def settle_surely(self, trip: Trip, delivered: Delivered) -> None:
        """The same where the request itself is being cancelled: it goes on without it, and `drain` waits for it."""
        await asyncio.shield(self._in_background(self.settle(trip, delivered)))

    async def drain(self) -> None:
        """Waits for settlements that are still under way."""
        while self._late:
            await asyncio.wait(self._late)

    async def replay(self) -> None:
        """Brings spooled settlements to Redis, until cancelled: those of this worker soon, those of others' too."""
        while True:
            is_done = True
            try:
                with self._spool.claim() as mine:
                    if mine:
                        is_done = await self._replay_waiting()
            except OSError:
                log.exception("the spool can't be read")
            if not is_done:  # be quicker than the sweeper, once Redis is back
                await asyncio.sleep(_REPLAY_SOON_S)
                continue
            try:
                async with asyncio.timeout(_REPLAY_EVERY_S):
                    await self._spooled.wait()
                await asyncio.sleep(_REPLAY_SOON_S)
            except TimeoutError:
                pass
            self._spooled.clear()

    def _in_background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        return task

    def hand_in(self, settlement: Settlement) -> asyncio.Task[Any]:
        """One that Redis had taken, and may have lost since: once more, until it has been taken or is found in the
        books. `drain` waits for it."""
        return self._in_background(self._settle_from_memory(settlement))

    async def _take(self, slots: Slots, settlement: Settlement, *, is_repeat: bool = False) -> Settled | None:
        settled = await self._gate.settle(
            slots,
            settlement.request_id,
            settlement.charge_nano,
            settlement.tokens,
            settlement.receipt,
            settlement.generation,
            settlement.trace,
            is_repeat=is_repeat,
        )
        # Where it had ended before, its entry is somewhere before now.
        entry = b"%d-0" % now_ms() if settled is None else settled.entry
        self._unposted.keep(slots.shard.number, entry, settlement)
        return settled

    async def _keep(self, settlement: Settlement, error: Exception) -> None:
        log.warning(
            "the settlement of %s waits in the spool: %s", settlement.request_id, str(error) or type(error).__name__
        )
        try:
            await self._spool.keep(settlement)
        except OSError:
            log.exception("the settlement of %s could not be spooled, and waits in memory", settlement.request_id)
            self._in_background(self._settle_from_memory(settlement))
        self._spooled.set()

    async def _settle_again(self, trip: Trip, delivered: Delivered) -> None:
        """The first time it was broken off: it may have run, or not."""
        bill = await make_bill(trip.order, delivered, trip.sale, self._policies, trip.hold.output_bound)
        if bill.excess is not None:
            self._note_excess(trip, delivered.channel, bill.excess)
        await self._settle_from_memory(_settlement(trip, delivered, bill))

    async def _settle_from_memory(self, settlement: Settlement) -> None:
        """Where the disk would not have it, or nobody is there to wait for it."""
        while True:
            try:
                await self._replay_one(settlement)
                return
            except ServiceUnavailable:
                pass
            except StoreError as error:
                self._note_failure(settlement, error)
            await asyncio.sleep(_REPLAY_EVERY_S)

    async def _replay_waiting(self) -> bool:
        """False where Redis, or the books that had to be asked, are away: all that wait then wait on. A settlement that
        Redis refuses waits by itself, and those behind it are not held up."""
        while waiting := await self._spool.waiting(but=self._failures.paused(self._clock())):
            for settlement in waiting:
                try:
                    await self._replay_one(settlement)
                except ServiceUnavailable:
                    return False
                except StoreError as error:
                    await self._put_off(settlement, error)
                else:
                    await self._spool.drop(settlement.request_id)
        return True

    async def _replay_one(self, settlement: Settlement) -> None:
        """Raises ServiceUnavailable where Redis or the books are away, StoreError where Redis refuses it."""
        slots = slots_of(settlement.account_id, settlement.key_id, self._shards)
        if not settlement.receipt:
            await self._gate.void(Unheard(slots, settlement.request_id, settlement.trace))
            return
        try:
            # Where the first call had run after all, this one finds no hold and does nothing.
            await self._take(slots, settlement, is_repeat=True)
        except LostHold:
            if not await self._is_posted(settlement.request_id, settlement.account_id):
                await self._take(slots, settlement)
        self._failures.forget(settlement.request_id)
        log.info("the settlement of %s that had to wait is with Redis", settlement.request_id)

    async def _put_off(self, settlement: Settlement, error: StoreError) -> None:
        """It is tried again after a growing pause; after a day of them it is set aside for an operator."""
        self._note_failure(settlement, error)
        if self._failures.is_hopeless(settlement.request_id, self._clock()):
            aside = await self._spool.set_aside(settlement.request_id)
            self._failures.forget(settlement.request_id)
            log.error("the settlement of %s failed for a day and is set aside as %s", settlement.request_id, aside)

    def _note_failure(self, settlement: Settlement, error: StoreError) -> None:
        at_ms = self._clock()
        self._failures.note(settlement.request_id, at_ms)
        if self._failures.should_log(settlement.request_id, at_ms):
            log.error("Redis refuses the settlement of %s: %s", settlement.request_id, error)


def _settlement(trip: Trip, delivered: Delivered, bill: Bill) -> Settlement:
    return Settlement(
        account_id=trip.caller.account_id,
        key_id=trip.caller.key_id,
        request_id=trip.order.request_id,
        charge_nano=bill.amount_nano,
        tokens=bill.usage.input_tokens + bill.usage.output_tokens,
        receipt=_encode(_receipt(trip, delivered, bill)),
        generation=trip.hold.generation,
        trace=trip.hold.rules.trace,
    )


def _receipt(trip: Trip, delivered: Delivered, bill: Bill) -> Receipt:
    order, channel = trip.order, delivered.channel
    return Receipt(
        request_id=order.request_id,
        created_at_ms=order.created_at_ms,
        account_id=trip.caller.account_id,
        member_id=trip.caller.member_id,
        key_id=trip.caller.key_id,
        dialect=order.dialect,
        model=order.model,
        requested_model=order.requested_model,
        stream=order.stream,
        status=status_of(delivered.ending),
        ending=delivered.ending,
        policy=bill.policy,
        http_status=delivered.http_status,
        price_version=trip.sale.version,
        multiplier=trip.sale.multiplier,
        amount_nano=bill.amount_nano,
        upstream_cost_nano=bill.cost_nano,
        upstream_model=None if channel is None else channel.models.get(order.model),
        channel_id=None if channel is None else channel.id,
        finish_reason=delivered.finish_reason,
        usage=bill.usage,
        usage_source=bill.source,
        attempts=bill.attempts,
        ttft_ms=delivered.ttft_ms,
        duration_ms=monotonic_ms() - trip.started_ms,
        extras=bill.extras,
        vendor_excess=bill.excess is not None,
    )
