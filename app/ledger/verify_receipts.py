"""Every receipt, read in pages: its amount and its costs recomputed to the nano; and the sums by day, which are what
the receipts add up to."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.money import MULTIPLIER_ONE
from app.base.receipt import NO_EXTRAS, Attempt, Extras, Usage
from app.ledger.redis_side import RecomputeAmount
from app.ledger.sums import DayKey, costs_by_channel, day_of
from app.ledger.tables import receipts

__all__ = ["check_receipts"]

_PAGE = 5000
_CLASSES = Usage.__struct_fields__
_EPOCH = day_of(0)
_COLUMNS = (
    *("request_id", "created_at_ms", "account_id", "key_id", "model", "channel_id", "price_version", "multiplier"),
    *("ending", "policy", "amount_nano", "upstream_cost_nano", "attempts", "extras"),
)


async def check_receipts(db: AsyncConnection, recompute: RecomputeAmount, problems: list[str]) -> int:
    """How many there are."""
    count, last = 0, ""
    # What days owe to attempts on other channels than the one that served; they are few.
    elsewhere: dict[DayKey, int] = defaultdict(int)
    while page := await _receipts_after(db, last):
        for row in page:
            usage = Usage(**{name: getattr(row, name) for name in _CLASSES})
            extras = NO_EXTRAS if row.extras is None else msgspec.convert(row.extras, Extras)
            await _check_amount(row, usage, extras, recompute, problems)
            if row.attempts:
                attempts = msgspec.convert(row.attempts, tuple[Attempt, ...])
                await _check_costs(row, usage, extras, attempts, recompute, problems)
                _move_costs(row, attempts, elsewhere)
        count += len(page)
        last = page[-1].request_id
    await _check_days(db, elsewhere, problems)
    return count


async def _receipts_after(db: AsyncConnection, last: str) -> Sequence[Any]:
    columns = receipts.c
    query = (
        select(*(columns[name] for name in (*_COLUMNS, *_CLASSES)))
        .where(columns.request_id > last)
        .order_by(columns.request_id)
        .limit(_PAGE)
    )
    return (await db.execute(query)).all()


async def _check_amount(
    row: Any, usage: Usage, extras: Extras, recompute: RecomputeAmount, problems: list[str]
) -> None:
    """Usage and extras x prices x multiplier; nothing where the policy says so, or where nobody served: but for a
    request whose worker died, which may be charged for what was held."""
    served = row.channel_id is not None or (row.ending == "expired" and row.policy == "full")
    is_free = row.policy == "free" or not served
    amount = 0 if is_free else await recompute(row.price_version, usage, row.multiplier, extras)
    if amount != row.amount_nano:
        problems.append(f"receipt {row.request_id} says {row.amount_nano} nano, recomputed {amount}")


async def _check_costs(
    row: Any,
    usage: Usage,
    extras: Extras,
    attempts: Sequence[Attempt],
    recompute: RecomputeAmount,
    problems: list[str],
) -> None:
    """An attempt's cost is its usage and extras, or else the receipt's, at the cost prices that it names; they add up
    to the receipt's."""
    for attempt in attempts:
        if attempt.cost_version is not None:
            own = extras if attempt.extras is None else attempt.extras
            cost = await recompute(attempt.cost_version, attempt.usage or usage, MULTIPLIER_ONE, own)
            if cost != attempt.cost_nano:
                problems.append(
                    f"receipt {row.request_id} has an attempt that cost {attempt.cost_nano} nano, recomputed {cost}"
                )
    total = sum(attempt.cost_nano for attempt in attempts)
    if total and total != row.upstream_cost_nano:  # those of the first version say the total alone
        problems.append(f"receipt {row.request_id} cost {row.upstream_cost_nano} nano, its attempts {total}")


def _move_costs(row: Any, attempts: Sequence[Attempt], elsewhere: dict[DayKey, int]) -> None:
    serving = row.channel_id or ""
    for channel_id, cost in costs_by_channel(serving, row.upstream_cost_nano, attempts).items():
        if channel_id != serving:
            at = (row.account_id, day_of(row.created_at_ms), row.key_id, row.model)
            elsewhere[*at, channel_id] += cost
            elsewhere[*at, serving] -= cost


_DIFFERENCES = """
SELECT account_id, day, key_id, model, channel_id, sum(requests) AS requests, sum(input_tokens) AS input_tokens,
  sum(output_tokens) AS output_tokens, sum(cached_input_tokens) AS cached_input_tokens, sum(amount_nano) AS amount_nano,
  sum(unpaid_nano) AS unpaid_nano, sum(upstream_cost_nano) AS upstream_cost_nano
FROM (
  SELECT account_id, created_at_ms / 86400000 AS day, key_id, model, coalesce(channel_id, '') AS channel_id,
    -1 AS requests, -input_tokens AS input_tokens, -output_tokens AS output_tokens,
    -cached_input_tokens AS cached_input_tokens, -amount_nano AS amount_nano, -unpaid_nano AS unpaid_nano,
    -upstream_cost_nano AS upstream_cost_nano
  FROM receipts
  UNION ALL
  SELECT account_id, {day} AS day, key_id, model, channel_id, requests, input_tokens, output_tokens,
    cached_input_tokens, amount_nano, unpaid_nano, upstream_cost_nano
  FROM usage_days
) AS both_sides
GROUP BY account_id, day, key_id, model, channel_id
HAVING sum(requests) <> 0 OR sum(input_tokens) <> 0 OR sum(output_tokens) <> 0 OR sum(cached_input_tokens) <> 0
  OR sum(amount_nano) <> 0 OR sum(unpaid_nano) <> 0 OR sum(upstream_cost_nano) <> 0
"""
_DAY_NUMBER = {
    "postgresql": "day - DATE '1970-01-01'",
    "sqlite": "CAST(julianday(day) - 2440587.5 AS INTEGER)",
}
_SUMS = ("requests", "input_tokens", "output_tokens", "cached_input_tokens", "amount_nano", "unpaid_nano")


async def _check_days(db: AsyncConnection, elsewhere: dict[DayKey, int], problems: list[str]) -> None:
    """The sums by day against the receipts': what differs can only be costs that are on another channel's row."""
    rows = await db.execute(text(_DIFFERENCES.format(day=_DAY_NUMBER[db.dialect.name])))
    for row in rows:
        key = (row.account_id, _EPOCH + timedelta(days=int(row.day)), row.key_id, row.model, row.channel_id)
        off = {name: int(getattr(row, name)) for name in _SUMS}
        off["upstream_cost_nano"] = int(row.upstream_cost_nano) - elsewhere.pop(key, 0)
        _report(key, off, problems)
    for key, cost in elsewhere.items():
        _report(key, {"upstream_cost_nano": -cost}, problems)


def _report(key: DayKey, off: dict[str, int], problems: list[str]) -> None:
    wrong = ", ".join(f"{name} by {amount}" for name, amount in off.items() if amount)
    if wrong:
        problems.append(f"the day {key[1]} of {key[0]}, {key[2]}, {key[3]}, {key[4] or 'no channel'} is off: {wrong}")
