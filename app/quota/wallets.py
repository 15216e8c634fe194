"""Wallets in Redis, for the control plane and the sweeper: their balance, credits applied, lost ones rebuilt, and the
holds whose worker is gone."""

from collections.abc import Sequence

import msgspec

from app.base.wire import Wire
from app.quota.scripts import CREDIT, LOOK, OVERDUE, SETTLE, WARM
from app.quota.slots import Slots, settle_keys, shard_keys, slots_of

__all__ = ["Look", "OverdueHold", "StreamEntry", "Wallet", "Wallets"]

_SWEEP_MOST = 200


class Wallet(msgspec.Struct, frozen=True):
    """A wallet as Redis has it: live, to the last settled request."""

    balance_nano: int
    held_nano: int
    credit_number: int
    floor_nano: int


class StreamEntry(msgspec.Struct, frozen=True):
    id: bytes
    fields: dict[bytes, bytes]


class Look(msgspec.Struct, frozen=True):
    """`wallets` are None where Redis does not have them."""

    entries: list[StreamEntry]
    wallets: dict[str, Wallet | None]


class OverdueHold(msgspec.Struct, frozen=True):
    request_id: str
    account_id: str
    key_id: str
    hold_nano: int
    draft: bytes


class Wallets:
    def __init__(self, wire: Wire, shards: int) -> None:
        self._wire = wire
        self.shards = shards

    def slots(self, account_id: str, key_id: str = "") -> Slots:
        return slots_of(account_id, key_id, self.shards)

    async def read(self, account_id: str) -> Wallet | None:
        """None where Redis does not have it (yet)."""
        figures = await self._wire.call(b"HMGET", self.slots(account_id).wallet, b"b", b"h", b"s", b"f")
        return None if figures[0] is None else Wallet(*map(int, figures))

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

    async def look(self, number: int, account_ids: Sequence[str]) -> Look:
        """One moment of a shard: its stream and the wallets of these accounts, together."""
        shard = shard_keys(number)
        keys = (shard.receipts, *(self.slots(account_id).wallet for account_id in account_ids))
        entries, *found = await self._wire.run(LOOK, keys)
        return Look(
            entries=[
                StreamEntry(entry, dict(zip(fields[::2], fields[1::2], strict=True))) for entry, fields in entries
            ],
            wallets={
                account_id: None if figures[0] is None else Wallet(*map(int, figures))
                for account_id, figures in zip(account_ids, found, strict=True)
            },
        )

    async def overdue(self, number: int) -> list[OverdueHold]:
        """Holds of a shard whose lease has run out."""
        shard = shard_keys(number)
        reply = await self._wire.run(OVERDUE, (shard.leases, shard.holds), _SWEEP_MOST)
        found = []
        for request, hold in zip(reply[::2], reply[1::2], strict=True):
            nano, _tokens, _tpm, _since, account, key, draft = hold.split(b" ", 6)
            found.append(OverdueHold(request.decode(), account.decode(), key.decode(), int(nano), draft))
        return found

    async def expire(self, request_id: str, account_id: str, key_id: str, receipt: bytes) -> bool:
        """Ends an overdue hold without a charge; False where its worker was quicker."""
        slots = self.slots(account_id, key_id)
        generation = await self._wire.call(b"HGET", slots.wallet, b"g")
        reply = await self._wire.run(SETTLE, settle_keys(slots), request_id, 0, 0, receipt, generation or b"")
        return bool(reply[0] == b"ok")
