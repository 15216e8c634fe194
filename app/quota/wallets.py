"""Wallets in Redis, for the control plane and the sweeper: their balance, credits applied, lost ones rebuilt, and the
holds whose worker is gone."""

import msgspec

from app.base.wire import Wire
from app.quota.scripts import CREDIT, OVERDUE, WARM
from app.quota.slots import Shard, Slots, shard_keys, slots_of

__all__ = ["OverdueHold", "Wallet", "Wallets"]

_SWEEP_MOST = 200


class Wallet(msgspec.Struct, frozen=True):
    """A wallet as Redis has it: live, to the last settled request."""

    balance_nano: int
    held_nano: int
    credit_number: int


class OverdueHold(msgspec.Struct, frozen=True):
    request_id: str
    hold_nano: int
    slots: Slots
    draft: bytes


class Wallets:
    def __init__(self, wire: Wire, shards: int) -> None:
        self._wire = wire
        self.shards = shards

    def slots(self, account_id: str, key_id: str = "") -> Slots:
        return slots_of(account_id, key_id, self.shards)

    async def read(self, account_id: str) -> Wallet | None:
        """None where Redis does not have it (yet)."""
        balance, held, number = await self._wire.call(
            b"HMGET", self.slots(account_id).wallet, b"b", b"h", b"s"
        )
        return None if balance is None else Wallet(int(balance), int(held), int(number))

    async def apply_credit(self, account_id: str, number: int, amount_nano: int) -> str:
        """One of ok, done, gap, cold; see credit.lua."""
        reply: bytes = await self._wire.run(CREDIT, (self.slots(account_id).wallet,), number, amount_nano)
        return reply.decode()

    async def warm(
        self, account_id: str, balance_nano: int, credit_number: int, floor_nano: int, last_entry: bytes
    ) -> str:
        """One of ok, there, moved; see warm.lua."""
        slots = self.slots(account_id)
        reply: bytes = await self._wire.run(
            WARM,
            (slots.wallet, slots.shard.holds, slots.shard.receipts),
            account_id,
            balance_nano,
            credit_number,
            floor_nano,
            last_entry,
        )
        return reply.decode()

    async def unposted(self, shard: Shard) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Every entry the shard's stream still has: (id, fields), oldest first."""
        entries = await self._wire.call(b"XRANGE", shard.receipts, b"-", b"+")
        return [(entry, dict(zip(fields[::2], fields[1::2], strict=True))) for entry, fields in entries]

    async def holds(self, shard: Shard) -> int:
        """How many holds the shard has."""
        count: int = await self._wire.call(b"HLEN", shard.holds)
        return count

    async def overdue(self, number: int) -> list[OverdueHold]:
        """Holds of a shard whose lease has run out."""
        shard = shard_keys(number)
        reply = await self._wire.run(OVERDUE, (shard.leases, shard.holds), _SWEEP_MOST)
        found = []
        for request, hold in zip(reply[::2], reply[1::2], strict=True):
            nano, _tokens, account, key, draft = hold.split(b" ", 4)
            slots = self.slots(account.decode(), key.decode())
            found.append(OverdueHold(request.decode(), int(nano), slots, draft))
        return found
