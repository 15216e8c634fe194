"""What receipts add up to: costs by channel, and sums by day. Pure: posting writes them, and verify checks them."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from typing import Protocol

from app.base.receipt import Receipt

__all__ = ["DayKey", "Tried", "costs_by_channel", "day_of", "sum_days"]

_DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1).toordinal()

# account, day (UTC), key, model, channel
DayKey = tuple[str, date, str, str, str]


class Tried(Protocol):
    """An attempt, or what is kept of one."""

    @property
    def channel_id(self) -> str: ...
    @property
    def cost_nano(self) -> int: ...


def day_of(at_ms: int) -> date:
    """Raises ValueError, OverflowError where it is in no calendar."""
    return date.fromordinal(_EPOCH + at_ms // _DAY_MS)


def costs_by_channel(serving: str | None, total_nano: int, attempts: Iterable[Tried]) -> dict[str, int]:
    """What each channel's vendor takes for a request. What no attempt accounts for is the serving channel's: receipts
    of the first version have a total alone."""
    costs: dict[str, int] = {}
    rest = total_nano
    for attempt in attempts:
        if attempt.cost_nano:
            costs[attempt.channel_id] = costs.get(attempt.channel_id, 0) + attempt.cost_nano
            rest -= attempt.cost_nano
    if rest:
        costs[serving or ""] = costs.get(serving or "", 0) + rest
    return costs


def sum_days(receipts: Iterable[tuple[Receipt, int]]) -> dict[DayKey, list[int]]:
    """Of receipts and what of each was unpaid: requests; input, output, cached tokens; amount, unpaid, upstream cost.

    The row of the serving channel counts the request; a cost on another channel is on that channel's row.
    """
    days: dict[DayKey, list[int]] = defaultdict(lambda: [0] * 7)
    for receipt, unpaid_nano in receipts:
        serving = receipt.channel_id or ""
        at = (receipt.account_id, day_of(receipt.created_at_ms), receipt.key_id, receipt.model)
        usage = receipt.usage
        row = days[*at, serving]
        row[0] += 1
        row[1] += usage.input_tokens
        row[2] += usage.output_tokens
        row[3] += usage.cached_input_tokens
        row[4] += receipt.amount_nano
        row[5] += unpaid_nano
        for channel_id, cost in costs_by_channel(serving, receipt.upstream_cost_nano, receipt.attempts).items():
            days[*at, channel_id][6] += cost
    return days
