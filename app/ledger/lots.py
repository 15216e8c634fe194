"""Lots: credits that were given away, or that expire, and what is left of each. A charge spends them before plain paid
money: what was given first, and among these what expires next. Pure: who reads and writes them is elsewhere.

Redis has a wallet's lots as one text, `id:remaining:expires_ms:promo` each, in spending order; and a charge's parts
as `id:nano` each.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

__all__ = [
    "Lot",
    "allocate",
    "read_lots",
    "read_parts",
    "show_lots",
    "show_parts",
    "spend",
    "spending_order",
    "take_last",
]


class Lot(msgspec.Struct, frozen=True):
    """What is left of a credit. `id` is its journal entry's."""

    id: str
    remaining_nano: int
    expires_at_ms: int | None
    promotional: bool


def spending_order(lots: Iterable[Lot]) -> list[Lot]:
    """Promotional ones first; within that what expires next, and what never does last; then the older one."""
    return sorted(
        lots, key=lambda lot: (not lot.promotional, lot.expires_at_ms is None, lot.expires_at_ms or 0, lot.id)
    )


def allocate(lots: Sequence[Lot], charge_nano: int) -> dict[str, int]:
    """How a charge is spent from lots in spending order: nano by lot. What they can't pay is plain paid money."""
    parts: dict[str, int] = {}
    for lot in lots:
        part = min(lot.remaining_nano, charge_nano)
        if part > 0:
            parts[lot.id] = part
            charge_nano -= part
    return parts


def spend(lots: Sequence[Lot], parts: Mapping[str, int]) -> list[Lot]:
    """What is left after `parts` were spent, in the same order; a lot of nothing is gone."""
    left = (
        msgspec.structs.replace(lot, remaining_nano=max(0, lot.remaining_nano - parts.get(lot.id, 0))) for lot in lots
    )
    return [lot for lot in left if lot.remaining_nano]


def take_last(parts: Sequence[Lot], skip_nano: int, nano: int) -> list[Lot]:
    """Of parts in the order they were spent, those that `nano` comes from when the last spent is given back first, and
    `skip_nano` were given back before."""
    touched = []
    for part in reversed(parts):
        skipped = min(part.remaining_nano, skip_nano)
        taken = min(part.remaining_nano - skipped, nano)
        skip_nano, nano = skip_nano - skipped, nano - taken
        if taken:
            touched.append(msgspec.structs.replace(part, remaining_nano=taken))
    return touched


def show_lots(lots: Sequence[Lot]) -> str:
    """The text that Redis has."""
    return " ".join(f"{lot.id}:{lot.remaining_nano}:{lot.expires_at_ms or 0}:{int(lot.promotional)}" for lot in lots)


def read_lots(text: str) -> list[Lot]:
    """Raises ValueError."""
    lots = []
    for item in text.split():
        lot_id, remaining, expires_ms, promo = item.split(":")
        lots.append(Lot(lot_id, int(remaining), int(expires_ms) or None, promo == "1"))
    return lots


def show_parts(parts: Mapping[str, int]) -> str:
    """The text that Redis writes into the stream, and a receipt keeps."""
    return " ".join(f"{lot_id}:{nano}" for lot_id, nano in parts.items())


def read_parts(text: str) -> dict[str, int]:
    """Raises ValueError."""
    parts: dict[str, int] = {}
    for item in text.split():
        lot_id, nano = item.split(":")
        parts[lot_id] = parts.get(lot_id, 0) + int(nano)
    return parts
