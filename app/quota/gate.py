"""Admission and settlement, one Lua call each: the two round trips of a request; and a third where a stream outgrows
its hold."""

import msgspec

from app.base.wire import Wire
from app.quota.rules import NO_RULES, NO_TRACE, Rules
from app.quota.scripts import ADMIT, EXTEND, RENEW, SETTLE
from app.quota.slots import Shard, Slots, settle_keys, use_keys

__all__ = ["NO_ALLOWANCE", "Admitted", "Allowance", "Gate", "LostHold", "Reached", "Refused", "Settled"]


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
    balance_nano: int
    unpaid_nano: int
    reached: tuple[Reached, ...] = ()


class LostHold(Exception):
    """Redis was emptied since the hold was given: whether the request is on the books, only the ledger knows."""


class Gate:
    """The typed face of admit.lua, settle.lua and renew.lua."""

    def __init__(self, wire: Wire, lease_ms: int) -> None:
        self._wire = wire
        self.lease_ms = lease_ms

    async def admit(
        self, slots: Slots, rules: Rules, request_id: str, hold_nano: int, hold_tokens: int, draft: bytes
    ) -> Admitted | Refused:
        """Checks every rule and holds the worst case, atomically."""
        shard = slots.shard
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
        if reply[0] == b"ok":
            if rules is NO_RULES:
                return Admitted(reply[1], NO_ALLOWANCE, NO_ALLOWANCE)
            return Admitted(reply[1], Allowance(*reply[2:5]), Allowance(*reply[5:8]))
        return _refused(reply)

    async def extend(self, slots: Slots, request_id: str, more_nano: int, trace: str = NO_TRACE) -> bool:
        """A larger hold for a request that runs; False where the wallet or a budget can't pay for it. A hold that is
        gone needs no more: what it comes to is seen at settlement."""
        keys = (slots.wallet, slots.shard.holds, *use_keys(slots.shard.number, trace))
        reply = await self._wire.run(EXTEND, keys, request_id, more_nano)
        return bool(reply[0] != b"credit")

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
        )
        if reply[0] == b"lost":
            raise LostHold
        if reply[0] != b"ok":
            return None
        return Settled(int(reply[1]), int(reply[2]), tuple(map(_reached, reply[3:])))

    async def renew(self, shard: Shard, request_ids: list[str]) -> int:
        """Moves on the leases of requests that still run; how many of them are still held."""
        held: int = await self._wire.run(RENEW, (shard.leases,), self.lease_ms, *request_ids)
        return held


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
