"""What was earned: charges less upstream costs over a range of days (UTC), from the days' sums of receipts.

The cost of an attempt that failed stands with its own channel, which has no request of it; so a channel's margin can be
below zero while the model's is fine.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

import msgspec
from sqlalchemy import Column, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.money import format_usd
from app.ledger.tables import usage_days

__all__ = ["Earned", "Margins", "dearest_first", "grouped", "margins", "show_earned"]


class Earned(msgspec.Struct, frozen=True, kw_only=True):
    """`charged_nano` is what wallets paid, `unpaid_nano` what they could not pay of the amounts due."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    charged_nano: int = 0
    unpaid_nano: int = 0
    upstream_cost_nano: int = 0

    @property
    def margin_nano(self) -> int:
        return self.charged_nano - self.upstream_cost_nano

    def __add__(self, other: "Earned") -> "Earned":
        return Earned(**{name: getattr(self, name) + getattr(other, name) for name in _FIGURES})


_FIGURES = Earned.__struct_fields__
_NOTHING = Earned()


class Margins(msgspec.Struct, frozen=True):
    """The whole, and the same cut three ways. The channel "" stands for requests that none served."""

    total: Earned
    by_model: dict[str, Earned]
    by_channel: dict[str, Earned]
    by_account: dict[str, Earned]


async def margins(db: AsyncConnection, first: date, last: date) -> Margins:
    """Both days included."""
    columns = usage_days.c
    by_model = await _earned_by(db, columns.model, first, last)
    return Margins(
        total=sum(by_model.values(), _NOTHING),
        by_model=by_model,
        by_channel=await _earned_by(db, columns.channel_id, first, last),
        by_account=await _earned_by(db, columns.account_id, first, last),
    )


async def _earned_by(db: AsyncConnection, column: Column[str], first: date, last: date) -> dict[str, Earned]:
    """Added up by the database: a month of a large house is some hundred thousand rows."""
    columns = usage_days.c
    query = (
        select(
            column,
            func.sum(columns.requests),
            func.sum(columns.input_tokens),
            func.sum(columns.output_tokens),
            func.sum(columns.cached_input_tokens),
            func.sum(columns.amount_nano - columns.unpaid_nano),
            func.sum(columns.unpaid_nano),
            func.sum(columns.upstream_cost_nano),
        )
        .where(columns.day >= first, columns.day <= last)
        .group_by(column)
    )
    return {
        name: Earned(**dict(zip(_FIGURES, map(int, figures), strict=True)))
        for name, *figures in await db.execute(query)
    }


def grouped(earned: Mapping[str, Earned], group_of: Mapping[str, str]) -> dict[str, Earned]:
    """The same figures under other names: accounts under their price books."""
    groups: dict[str, Earned] = defaultdict(Earned)
    for name, each in earned.items():
        groups[group_of.get(name, "")] += each
    return groups


def show_earned(earned: Earned) -> dict[str, Any]:
    """As JSON; `margin_percent` is of what was charged, null where that is nothing."""
    return {
        "requests": earned.requests,
        "input_tokens": earned.input_tokens,
        "output_tokens": earned.output_tokens,
        "cached_input_tokens": earned.cached_input_tokens,
        "charged": format_usd(earned.charged_nano),
        "unpaid": format_usd(earned.unpaid_nano),
        "upstream_cost": format_usd(earned.upstream_cost_nano),
        "margin": format_usd(earned.margin_nano),
        "margin_percent": _percent(earned.margin_nano, earned.charged_nano),
    }


def dearest_first(earned: Mapping[str, Earned]) -> Iterable[tuple[str, Earned]]:
    return sorted(earned.items(), key=lambda item: (-item[1].charged_nano, item[0]))


def _percent(part: int, whole: int) -> str | None:
    """Two decimals, rounded half away from zero."""
    if whole == 0:
        return None
    hundredths = (abs(part) * 20_000 + whole) // (2 * whole)
    sign = "-" if part < 0 and hundredths else ""
    return f"{sign}{hundredths // 100}.{hundredths % 100:02d}"
