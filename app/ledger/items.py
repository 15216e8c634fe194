"""What the streams carry, as the ledger reads it: receipts, and movements of money that had no request."""

import msgspec

from app.base.receipt import Movement, Receipt
from app.ledger.lots import read_parts

__all__ = ["Item", "StreamedMovement", "StreamedReceipt", "read_item"]

_receipt = msgspec.json.Decoder(Receipt)
_movement = msgspec.json.Decoder(Movement)
_UNDECIDED = b"?"


class StreamedReceipt(msgspec.Struct, frozen=True):
    """A receipt, and what the wallet could not pay. `parts` is what came out of lots, nano by lot; None where Redis had
    no wallet then, and the ledger decides, over the lots that were there at `at_ms`."""

    receipt: Receipt
    unpaid_nano: int
    parts: dict[str, int] | None = {}
    at_ms: int = 0

    @property
    def id(self) -> str:
        return self.receipt.request_id

    @property
    def account_id(self) -> str:
        return self.receipt.account_id

    @property
    def came_ms(self) -> int:
        """A lot that had expired then pays nothing of it."""
        return self.receipt.created_at_ms

    @property
    def taken_nano(self) -> int:
        """What left the wallet."""
        return self.receipt.amount_nano - self.unpaid_nano


class StreamedMovement(msgspec.Struct, frozen=True):
    """Money taken from a wallet by Redis; its parts are like a receipt's."""

    movement: Movement
    taken_nano: int
    parts: dict[str, int] | None = {}
    at_ms: int = 0

    @property
    def id(self) -> str:
        return self.movement.id

    @property
    def account_id(self) -> str:
        return self.movement.account_id

    @property
    def came_ms(self) -> int:
        """As a receipt's."""
        return self.movement.created_at_ms


Item = StreamedReceipt | StreamedMovement


def read_item(entry_id: bytes, fields: dict[bytes, bytes]) -> Item:
    """Raises msgspec.DecodeError, KeyError or ValueError where it is neither."""
    at_ms = int(entry_id.partition(b"-")[0])
    said = fields.get(b"l", b"")
    parts = None if said == _UNDECIDED else read_parts(said.decode())
    if b"m" not in fields:
        return StreamedReceipt(_receipt.decode(fields[b"r"]), int(fields.get(b"u", 0)), parts, at_ms)
    movement, taken = _movement.decode(fields[b"m"]), int(fields[b"a"])
    if movement.kind == "lapse":
        parts = {movement.lot or "": taken}
    return StreamedMovement(movement, taken, parts, at_ms)
