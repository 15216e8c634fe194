"""Admission and settlement, one Lua call each: the two round trips of a request; and a third where a stream outgrows
its hold."""

from asyncio import CancelledError

import msgspec

from app.base.clock import now_ms
from app.base.errors import OutcomeUnknown, ServiceUnavailable
from app.base.wire import Wire
from app.quota.rules import NO_RULES, NO_TRACE, Rules
from app.quota.scripts import ADMIT, EXTEND, POSTED, REHOLD, RENEW, SETTLE
from app.quota.slots import Shard, Slots, settle_keys, use_keys

__all__ = [
    "NO_ALLOWANCE",
    "Admitted",
    "Allowance",
    "Gate",
    "LostHold",
    "Posted",
    "Reached",
    "Refused",
    "Settled",
    "Unheard",
]


class Allowance(msgspec.Struct, frozen=True):
    """What is left of a limit, and when all of it is there again. A limit of 0 is none."""

    limit: int
    left: int
    reset_ms: int


NO_ALLOWANCE = Allowance(0, 0, 0)


class Admitted(msgspec.Struct, frozen=True):
    """The request may start. `generation` names the copy of the wallet that gave the hold; `requests` and `tokens` are
    of the limit that has the least left."""

    generation: bytes
    requests: Allowance
    tokens: Allowance


class Refused(msgspec.Struct, frozen=True):
    """`rule`: cold (the wallet is not in Redis), unknown (a counter is not), a field of Limits, the name of a budget's
    counter, or credit. `subject` is its place among those of the rules; `retry_after_ms` is -1 for never. `left`,
    `available` and `used` are in the rule's unit."""

    rule: str
    subject: int = 0
    retry_after_ms: int = 0
    left: int = 0
    reset_ms: int = 0
    available_nano: int = 0
    used: int = 0
    start_ms: int = 0

    @property
    def is_budget(self) -> bool:
        return "." in self.rule


class Reached(msgspec.Struct, frozen=True):
    """A budget of which half or more is used. `subject` is its place in the trace."""

    subject: int
    counter: str
    used: int
    amount: int
    start_ms: int


class Settled(msgspec.Struct, frozen=True):
    """`entry` is the id of the receipt's entry in the stream of its shard."""

    balance_nano: int
    unpaid_nano: int
    reached: tuple[Reached, ...] = ()
    entry: bytes = b""


class Posted(msgspec.Struct, frozen=True):
    """How far the bookkeeper has come with the stream of a shard: up to the entry with this id, milliseconds and
    sequence number. `epoch` is empty where Redis has none."""

    epoch: bytes
    up_to: tuple[int, int]


class LostHold(Exception):
    """Redis was emptied, or lost writes, since the hold was given: whether the request is on the books, only the ledger
    knows."""


class Unheard(msgspec.Struct, frozen=True):
    """An admission whose answer was lost: it may have been given, or may still be. It has to be taken back."""

    slots: Slots
    request_id: str
    trace: str


class _OpenHold(msgspec.Struct):
    """A hold of a request that runs here, as Redis has it: so that it can be put back."""

    slots: Slots
    trace: str
    nano: int
    tokens: int
    since_ms: int
    draft: bytes

    def text(self) -> bytes:
        since_us = self.since_ms * 1000
        return b"%d %d %d %b %b %b" % (
            *(self.nano, self.tokens, since_us),
            *(self.trace.encode(), self.slots.ids, self.draft),
        )


class Gate:
    """The typed face of admit.lua, settle.lua and renew.lua. It remembers the holds that it was given until they are
    settled, and in `unheard` those that it does not know of: whoever has time takes them back with `void`."""

    def __init__(self, wire: Wire, lease_ms: int) -> None:
        self._wire = wire
        self._open: dict[str, _OpenHold] = {}
        self.unheard: list[Unheard] = []
        self.lease_ms = lease_ms

    @property
    def open_shards(self) -> set[int]:
        """The shards in which requests of this worker hold something."""
        return {hold.slots.shard.number for hold in self._open.values()}

    async def admit(
        self, slots: Slots, rules: Rules, request_id: str, hold_nano: int, hold_tokens: int, draft: bytes
    ) -> Admitted | Refused:
        """Checks every rule and holds the worst case, atomically. Raises ServiceUnavailable; where the hold may have
        been given all the same, it is among `unheard` then."""
        shard = slots.shard
        try:
            reply = await self._wire.run(
                ADMIT,
                (slots.wallet, shard.holds, shard.leases, *use_keys(shard.number, rules.names)),
                request_id,
                hold_nano,
                hold_tokens,
                self.lease_ms,
                b"%b %b %b" % (rules.trace.encode(), slots.ids, draft),
                rules.packed,
            )
        except (OutcomeUnknown, CancelledError):
            self.unheard.append(Unheard(slots, request_id, rules.trace))
            raise
        if self._wire.confirm_with is not None and reply[0] == b"ok":
            try:
                await self._wire.confirm(slots.wallet)
            except (ServiceUnavailable, CancelledError):  # it was given, and is where it can be lost
                self.unheard.append(Unheard(slots, request_id, rules.trace))
                raise
        if reply[0] == b"ok":
            self._open[request_id] = _OpenHold(slots, rules.trace, hold_nano, hold_tokens, now_ms(), draft)
            if rules is NO_RULES:
                return Admitted(reply[1], NO_ALLOWANCE, NO_ALLOWANCE)
            return Admitted(reply[1], Allowance(*reply[2:5]), Allowance(*reply[5:8]))
        return _refused(reply)

    async def extend(
        self, slots: Slots, request_id: str, more_nano: int, trace: str = NO_TRACE, draft: bytes = b""
    ) -> bool:
        """A larger hold for a request that runs; False where the wallet or a budget can't pay for it. A hold that is
        gone needs no more: what it comes to is seen at settlement. `draft` replaces the one that the hold has, unless
        it is empty."""
        keys = (slots.wallet, slots.shard.holds, *use_keys(slots.shard.number, trace))
        reply = await self._wire.run(EXTEND, keys, request_id, more_nano, draft)
        if reply[0] == b"credit":
            return False
        if (hold := self._open.get(request_id)) is not None:
            hold.nano += more_nano
            hold.draft = draft or hold.draft
        if self._wire.confirm_with is not None:
            await self._wire.confirm(slots.wallet)
        return True

    async def settle(
        self,
        slots: Slots,
        request_id: str,
        charge_nano: int,
        tokens: int,
        receipt: bytes,
        generation: bytes,
        trace: str = NO_TRACE,
        *,
        is_repeat: bool = False,
    ) -> Settled | None:
        """Ends the hold; None where it had ended before. `trace` is that of the rules it was admitted by. Safe to
        repeat; with `is_repeat`, LostHold is raised where Redis was emptied in between, rather than a charge made that
        may have been made before."""
        self._open.pop(request_id, None)
        reply = await self._wire.run(
            SETTLE,
            settle_keys(slots, trace),
            request_id,
            charge_nano,
            tokens,
            receipt,
            generation,
            1 if is_repeat else 0,
            trace,
            0,
        )
        if reply[0] == b"lost":
            raise LostHold
        if self._wire.confirm_with is not None:
            await self._wire.confirm(slots.wallet)
        if reply[0] != b"ok":
            return None
        return Settled(int(reply[1]), int(reply[2]), tuple(map(_reached, reply[4:])), reply[3])

    async def void(self, lost: Unheard) -> None:
        """Nothing is held for the request when this returns, nor will be, should its admission come later. It leaves no
        receipt. Safe to repeat."""
        self._open.pop(lost.request_id, None)
        keys = settle_keys(lost.slots, lost.trace)
        await self._wire.run(SETTLE, keys, lost.request_id, 0, 0, b"", b"", 0, lost.trace, self.lease_ms)

    async def renew(self, shard: Shard, request_ids: list[str]) -> int:
        """Moves on the leases of requests that still run; how many of them are still held."""
        held: int = await self._wire.run(RENEW, (shard.leases,), self.lease_ms, *request_ids)
        return held

    async def put_back(self, number: int) -> int:
        """The holds of requests that run here, where a shard in Redis has lost them. How many it had lost."""
        lost = 0
        for request_id, hold in [*self._open.items()]:
            shard = hold.slots.shard
            if shard.number == number and request_id in self._open:  # it may have ended meanwhile
                keys = (hold.slots.wallet, shard.holds, shard.leases, *use_keys(number, hold.trace))
                lost += await self._wire.run(REHOLD, keys, request_id, hold.text(), hold.nano, self.lease_ms)
        return lost

    async def posted(self, shard: Shard, group: bytes) -> Posted:
        """What of a shard's stream is in the database."""
        epoch, entry = await self._wire.run(POSTED, (shard.receipts, shard.epoch), group)
        ms, _, sequence = entry.partition(b"-")
        return Posted(epoch, (int(ms), int(sequence)))


def _refused(reply: list[bytes | int]) -> Refused:
    match reply:
        case [b"limit", subject, bytes() as rule, *figures]:
            return Refused(rule.decode(), int(subject) - 1, *map(int, figures))
        case [b"budget", subject, bytes() as rule, left, wait_ms, used, start_ms]:
            return Refused(
                rule.decode(), int(subject) - 1, int(wait_ms), left=int(left), used=int(used), start_ms=int(start_ms)
            )
        case [b"credit", available]:
            return Refused("credit", available_nano=int(available))
        case [bytes() as rule]:
            return Refused(rule.decode())
    raise AssertionError(reply)


def _reached(said: bytes) -> Reached:
    subject, counter, used, amount, start_ms = said.split(b" ")
    return Reached(int(subject), counter.decode(), int(used), int(amount), int(start_ms))
