"""Admission and settlement, one Lua call each: the two round trips of a request; and a third where a stream outgrows
its hold."""

import msgspec

from app.base.limits import Limits
from app.base.wire import Wire
from app.quota.scripts import ADMIT, EXTEND, RENEW, SETTLE
from app.quota.slots import Shard, Slots, settle_keys

__all__ = ["Admitted", "Gate", "LostHold", "Refused", "Settled"]


class Admitted(msgspec.Struct, frozen=True):
    """The request may start. `generation` names the copy of the wallet that gave the hold."""

    generation: bytes
    requests_left: int
    requests_reset_ms: int
    tokens_left: int
    tokens_reset_ms: int


class Refused(msgspec.Struct, frozen=True):
    """`rule`: cold (the wallet is not in Redis), requests, tokens, concurrency or credit."""

    rule: str
    retry_after_ms: int = 0
    left: int = 0
    reset_ms: int = 0
    available_nano: int = 0


class Settled(msgspec.Struct, frozen=True):
    balance_nano: int
    unpaid_nano: int


class LostHold(Exception):
    """Redis was emptied since the hold was given: whether the request is on the books, only the ledger knows."""


class Gate:
    """The typed face of admit.lua, settle.lua and renew.lua."""

    def __init__(self, wire: Wire, lease_ms: int) -> None:
        self._wire = wire
        self.lease_ms = lease_ms

    async def admit(
        self, slots: Slots, limits: Limits, request_id: str, hold_nano: int, hold_tokens: int, draft: bytes
    ) -> Admitted | Refused:
        """Checks every limit and holds the worst case, atomically."""
        shard = slots.shard
        reply = await self._wire.run(
            ADMIT,
            (slots.wallet, shard.holds, shard.leases, slots.rate, slots.live),
            request_id,
            hold_nano,
            hold_tokens,
            limits.rpm,
            limits.tpm,
            limits.concurrency,
            self.lease_ms,
            b"%b %b %b" % (slots.account_id.encode(), slots.key_id.encode(), draft),
        )
        match reply:
            case [b"ok", generation, *figures]:
                return Admitted(generation, *figures)
            case [b"cold"]:
                return Refused("cold")
            case [b"credit", available]:
                return Refused("credit", available_nano=int(available))
            case [rule, *figures]:
                return Refused(rule.decode(), *figures)
        raise AssertionError(reply)

    async def extend(self, slots: Slots, request_id: str, more_nano: int) -> bool:
        """A larger hold for a request that runs; False where the wallet can't pay for it. A hold that is gone needs no
        more: what it comes to is seen at settlement."""
        reply = await self._wire.run(EXTEND, (slots.wallet, slots.shard.holds), request_id, more_nano)
        return bool(reply[0] != b"credit")

    async def settle(
        self,
        slots: Slots,
        request_id: str,
        charge_nano: int,
        tokens: int,
        receipt: bytes,
        generation: bytes,
        *,
        is_repeat: bool = False,
    ) -> Settled | None:
        """Ends the hold; None where it had ended before. Safe to repeat; with `is_repeat`, LostHold is raised where
        Redis was emptied in between, rather than a charge made that may have been made before."""
        reply = await self._wire.run(
            SETTLE,
            settle_keys(slots),
            request_id,
            charge_nano,
            tokens,
            receipt,
            generation,
            1 if is_repeat else 0,
        )
        if reply[0] == b"lost":
            raise LostHold
        return Settled(int(reply[1]), int(reply[2])) if reply[0] == b"ok" else None

    async def renew(self, shard: Shard, request_ids: list[str]) -> int:
        """Moves on the leases of requests that still run; how many of them are still held."""
        held: int = await self._wire.run(RENEW, (shard.leases,), self.lease_ms, *request_ids)
        return held
