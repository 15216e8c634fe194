"""Wallets in Redis, for the control plane and the sweeper: their balance and lots, credits applied, money taken back,
lost ones rebuilt, and the holds whose worker is gone."""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from app.base.receipt import BOOKKEEPERS
from app.base.wire import Wire
from app.quota.epochs import Epochs
from app.quota.scripts import CREDIT, DEBIT, LAPSE, LOOK, OVERDUE, POSTED, SETTLE, WARM
from app.quota.slots import Slots, settle_keys, shard_keys, slots_of

__all__ = ["LiveHold", "Look", "LostDebit", "OverdueHold", "StreamEntry", "Wallet", "Wallets"]

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


class LiveHold(msgspec.Struct, frozen=True):
    """What is set aside for a request, which runs unless it has ended and Redis forgot."""

    request_id: str
    nano: int
    account_id: str


class LostDebit(Protocol):
    """Money that was taken back by a Redis that has lost it since. `movement` is JSON, `parts` what comes out of lots,
    `id:nano` each."""

    @property
    def id(self) -> str: ...
    @property
    def nano(self) -> int: ...
    @property
    def movement(self) -> bytes: ...
    @property
    def parts(self) -> str: ...


class Look(msgspec.Struct, frozen=True):
    """`wallets` are None where Redis does not have them; `holds` are those of the whole shard, and `last_entry` is the
    last of its stream, empty where there is none. `rejected` are entries that the bookkeeper could not post: their
    `fields` name the `id` that each had in the stream, and the `error`."""

    entries: list[StreamEntry]
    rejected: list[StreamEntry]
    holds: list[LiveHold]
    last_entry: bytes
    wallets: dict[str, Wallet | None]


class OverdueHold(msgspec.Struct, frozen=True):
    request_id: str
    account_id: str
    key_id: str
    hold_nano: int
    draft: bytes
    trace: str


class Wallets:
    """Without `epochs` no rebuild waits for other workers."""

    def __init__(self, wire: Wire, shards: int, epochs: Epochs | None = None) -> None:
        self._wire = wire
        self._epochs = epochs
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
        slots = self.slots(account_id)
        keys = (slots.wallet, slots.shard.holds)
        floor = b"" if floor_nano is None else floor_nano
        reply: bytes = await self._wire.run(CREDIT, keys, number, amount_nano, lot, floor, account_id)
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
        keys = (slots.wallet, slots.shard.receipts, self._debit_key(slots, movement_id))
        reply: bytes = await self._wire.run(DEBIT, keys, amount_nano, movement)
        return reply.decode()

    @staticmethod
    def _debit_key(slots: Slots, movement_id: str) -> bytes:
        return f"{{s{slots.shard.number}}}:debit:{movement_id}".encode()

    async def settle_down(self, number: int) -> None:
        """Waits until a shard's wallets may be rebuilt: in the first moments of a new epoch workers still hand in what
        runs."""
        if self._epochs is not None:
            await self._epochs.settle_down(self._wire, number)

    async def warm(
        self,
        account_id: str,
        balance_nano: int,
        credit_number: int,
        floor_nano: int,
        last_entry: bytes,
        lots: str = "",
        *,
        instead_of: Wallet | None = None,
        ended: Sequence[str] = (),
        debits: Sequence[LostDebit] = (),
    ) -> str:
        """One of ok, there, moved; see warm.lua. `instead_of` is the wallet that this one replaces, if it still stands;
        `ended` are requests whose holds are dropped; the balance is what is left after the debits."""
        slots = self.slots(account_id)
        shard = slots.shard
        seen = "" if instead_of is None else f"{instead_of.balance_nano} {instead_of.credit_number} {instead_of.lots}"
        reply: bytes = await self._wire.run(
            WARM,
            (slots.wallet, shard.holds, shard.receipts, *(self._debit_key(slots, each.id) for each in debits)),
            account_id,
            balance_nano,
            credit_number,
            floor_nano,
            last_entry,
            lots,
            seen,
            len(ended),
            *ended,
            *(part for each in debits for part in (each.movement, each.nano, each.parts)),
        )
        return reply.decode()

    async def posted_up_to(self, number: int) -> bytes:
        """The id of an entry of a shard's stream: all up to it are in the database, or set aside. Entries are many
        under load, and those that are posted are only kept for a while."""
        shard = shard_keys(number)
        reply = await self._wire.run(POSTED, (shard.receipts, shard.epoch), BOOKKEEPERS)
        return bytes(reply[1])

    async def look(self, number: int, account_ids: Sequence[str], after: bytes = b"") -> Look:
        """One moment of a shard: its stream beyond the entry `after`, what was set aside of it, its holds and the
        wallets of these accounts."""
        shard = shard_keys(number)
        keys = (
            shard.receipts,
            shard.rejected,
            shard.holds,
            *(self.slots(account_id).wallet for account_id in account_ids),
        )
        entries, holds, last_entry, rejected, *found = await self._wire.run(LOOK, keys, after)
        return Look(
            entries=_entries(entries),
            rejected=_entries(rejected),
            holds=[
                LiveHold(request.decode(), int(nano), account.decode())
                for request, nano, account in zip(holds[::3], holds[1::3], holds[2::3], strict=True)
            ],
            last_entry=last_entry,
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
            SETTLE, settle_keys(slots, trace), request_id, charge_nano, tokens, receipt, generation or b"", 1, trace, 0
        )
        return bool(reply[0] == b"ok")


def _entries(found: list[list[Any]]) -> list[StreamEntry]:
    return [StreamEntry(entry, dict(zip(fields[::2], fields[1::2], strict=True))) for entry, fields in found]


def _wallet(figures: list[bytes | None]) -> Wallet | None:
    """Of the fields b, h, s, f, l."""
    if figures[0] is None:
        return None
    *numbers, lots = figures
    balance, held, credit_number, floor = (int(number or 0) for number in numbers)
    return Wallet(balance, held, credit_number, floor, (lots or b"").decode())
