"""What the ledger asks of Redis's side of the house; `main` fills these from `quota`."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from app.base.receipt import NO_EXTRAS, Extras, Usage

__all__ = ["LiveHold", "Look", "OverdueHold", "QuotaSide", "RecomputeAmount", "StreamEntry", "Wallet"]


class Wallet(Protocol):
    @property
    def balance_nano(self) -> int: ...
    @property
    def held_nano(self) -> int: ...
    @property
    def credit_number(self) -> int: ...
    @property
    def floor_nano(self) -> int: ...
    @property
    def lots(self) -> str: ...


class StreamEntry(Protocol):
    @property
    def id(self) -> bytes: ...
    @property
    def fields(self) -> dict[bytes, bytes]: ...


class LiveHold(Protocol):
    """What is set aside for a request."""

    @property
    def request_id(self) -> str: ...
    @property
    def nano(self) -> int: ...
    @property
    def account_id(self) -> str: ...


class Look(Protocol):
    @property
    def entries(self) -> Sequence[StreamEntry]: ...
    @property
    def rejected(self) -> Sequence[StreamEntry]:
        """Entries that were set aside: charged, and not posted."""

    @property
    def holds(self) -> Sequence[LiveHold]: ...
    @property
    def last_entry(self) -> bytes: ...
    @property
    def wallets(self) -> "Mapping[str, Wallet | None]": ...


class OverdueHold(Protocol):
    """A hold whose worker is gone. `draft` is what its receipt would have said, as JSON."""

    @property
    def request_id(self) -> str: ...
    @property
    def account_id(self) -> str: ...
    @property
    def key_id(self) -> str: ...
    @property
    def hold_nano(self) -> int: ...
    @property
    def draft(self) -> bytes: ...
    @property
    def trace(self) -> str:
        """The limits and budgets that it counts for, as Redis names them."""


class QuotaSide(Protocol):
    """Wallets and holds in Redis. Every call may raise ServiceUnavailable."""

    @property
    def shards(self) -> int: ...
    async def posted_up_to(self, number: int, /) -> bytes: ...
    async def look(self, number: int, account_ids: Sequence[str], after: bytes = b"", /) -> Look: ...
    async def read(self, account_id: str, /) -> Wallet | None: ...
    async def settle_down(self, number: int, /) -> None: ...
    async def warm(
        self,
        account_id: str,
        balance_nano: int,
        credit_number: int,
        floor_nano: int,
        last_entry: bytes,
        lots: str,
        /,
        *,
        instead_of: Any = None,
        ended: Sequence[str] = (),
        debits: Sequence[Any] = (),
    ) -> str: ...
    async def apply_credit(
        self, account_id: str, number: int, amount_nano: int, lot: str, floor_nano: int, /
    ) -> str: ...
    async def lapse(self, account_id: str, lot_id: str, movement: bytes, /) -> tuple[int, int] | None: ...
    async def debit(self, account_id: str, movement_id: str, amount_nano: int, movement: bytes, /) -> str: ...
    async def overdue(self, number: int, /) -> Sequence[OverdueHold]: ...
    async def expire(
        self, request_id: str, account_id: str, trace: str, receipt: bytes, charge_nano: int, tokens: int, /
    ) -> bool: ...


class RecomputeAmount(Protocol):
    """What usage and extras cost at a price version, times a multiplier's millionths, in nano-USD; None where the
    version is not known."""

    async def __call__(
        self, price_version: str, usage: Usage, multiplier: int, extras: Extras = NO_EXTRAS, /
    ) -> int | None: ...
