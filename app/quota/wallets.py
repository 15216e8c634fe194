"""Wallets in Redis, for the control plane and the sweeper: their balance and lots, credits applied, money taken back,
lost ones rebuilt, and the holds whose worker is gone."""

from collections.abc import Sequence

import msgspec

from app.base.wire import Wire
from app.quota.scripts import CREDIT, DEBIT, LAPSE, LOOK, OVERDUE, SETTLE, WARM
from app.quota.slots import Slots, settle_keys, shard_keys, slots_of

__all__ = ["Look", "OverdueHold", "StreamEntry", "Wallet", "Wallets"]

_SWEEP_MOST = 200


class Wallet(msgspec.Struct, frozen=True):
    """A wallet as Redis has it: live, to the last settled request. `lots` are parts of the balance, in the order they
    are spent, `id:remaining:expires_ms:promo` each; most wallets have none."""

    balance_nano: int
    held_nano: int
    credit_number: int
    floor_nano: int
    lots: str = ""


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
    trace: str


class Wallets:
    def __init__(self, wire: Wire, shards: int) -> None:
        self._wire = wire
        self.shards = shards

    def slots(self, account_id: str, key_id: str = "") -> Slots:
        return slots_of(account_id, key_id, self.shards)

    async def read(self, account_id: str) -> Wallet | None:
        """None where Redis does not have it (yet)."""
        figures = await self._wire.call(b"HMGET", self.slots(account_id).wallet, b"b", b"h", b"s", b"f", b"l")
        return _wallet(figures)

    async def apply_credit(
        self, account_id: str, number: int, amount_nano: int, lot: str = "", floor_nano: int | None = None
    ) -> str:
        """One of ok, done, gap, cold; see credit.lua. `floor_nano` is the account's as it is now; None leaves it."""
        keys = (self.slots(account_id).wallet,)
        floor = b"" if floor_nano is None else floor_nano
        reply: bytes = await self._wire.run(CREDIT, keys, number, amount_nano, lot, floor)
        return reply.decode()

    async def lapse(self, account_id: str, lot_id: str, movement: bytes) -> tuple[int, int] | None:
        """Takes an expired lot out of the wallet, but for what is held: nano taken, nano that remain. (0, 0) where the
        lot is gone or has not expired; None where Redis does not have the wallet."""
        slots = self.slots(account_id)
        reply = await self._wire.run(LAPSE, (slots.wallet, slots.shard.receipts), lot_id, movement)
        return (int(reply[1]), int(reply[2])) if reply[0] == b"ok" else None

    async def debit(self, account_id: str, movement_id: str, amount_nano: int, movement: bytes) -> str:
        """Takes money back, once for each movement's id. One of ok, cold, credit (the wallet does not have it free); or
        the amount in digits, where this movement was made before."""
        slots = self.slots(account_id)
        made = f"{{s{slots.shard.number}}}:debit:{movement_id}".encode()
        reply: bytes = await self._wire.run(DEBIT, (slots.wallet, slots.shard.receipts, made), amount_nano, movement)
        return reply.decode()

    async def warm(
        self,
        account_id: str,
        balance_nano: int,
        credit_number: int,
        floor_nano: int,
        last_entry: bytes,
        lots: str = "",
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
            lots,
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
            wallets={account_id: _wallet(figures) for account_id, figures in zip(account_ids, found, strict=True)},
        )

    async def overdue(self, number: int) -> list[OverdueHold]:
        """Holds of a shard whose lease has run out."""
        shard = shard_keys(number)
        reply = await self._wire.run(OVERDUE, (shard.leases, shard.holds), _SWEEP_MOST)
        found = []
        for request, hold in zip(reply[::2], reply[1::2], strict=True):
            nano, _tokens, _since, trace, account, key, draft = hold.split(b" ", 6)
            names = (request.decode(), account.decode(), key.decode())
            found.append(OverdueHold(*names, int(nano), draft, trace.decode()))
        return found

    async def expire(
        self, request_id: str, account_id: str, trace: str, receipt: bytes, charge_nano: int = 0, tokens: int = 0
    ) -> bool:
        """Ends an overdue hold, with what its receipt charges; False where its worker was quicker."""
        slots = self.slots(account_id)
        generation = await self._wire.call(b"HGET", slots.wallet, b"g")
        reply = await self._wire.run(
            SETTLE, settle_keys(slots, trace), request_id, charge_nano, tokens, receipt, generation or b"", 0, trace
        )
        return bool(reply[0] == b"ok")


def _wallet(figures: list[bytes | None]) -> Wallet | None:
    """Of the fields b, h, s, f, l."""
    if figures[0] is None:
        return None
    *numbers, lots = figures
    balance, held, credit_number, floor = (int(number or 0) for number in numbers)
    return Wallet(balance, held, credit_number, floor, (lots or b"").decode())
