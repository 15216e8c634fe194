"""A month of an account, UTC: what it had, what came in, what it used, what it has.

Nothing is stored: each statement is worked out anew from the journal and from the days' sums of receipts. Usage belongs
to the day on which its request began, not to the batch that posted it, which may straddle midnight; so entries of kind
`usage` are not looked at, and one month always closes where the next one opens.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Row, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import iso, now_ms
from app.base.errors import InvalidField, NotFound
from app.base.money import format_usd
from app.ledger.journal import read_wallet
from app.ledger.tables import entries, lots, postings, usage_days

__all__ = [
    "Month",
    "Movement",
    "Statement",
    "UsageLine",
    "make_statement",
    "read_month",
    "show_statement",
    "with_members",
]

_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])", re.ASCII)
# A request that began in the last minute of a month may run for hours: until then the month may still change.
_SETTLES_WITHIN = timedelta(days=1)


class Month(msgspec.Struct, frozen=True):
    """`first` is its first day, `end` the one after its last."""

    first: date
    end: date

    @property
    def name(self) -> str:
        return self.first.strftime("%Y-%m")

    @property
    def last(self) -> date:
        return self.end - timedelta(days=1)


class Movement(msgspec.Struct, frozen=True, kw_only=True):
    """Money that came or went without a request: kind credit, refund, adjustment or lapse. The amount is negative where
    it went."""

    entry_id: str
    at_ms: int
    kind: str
    memo: str
    amount_nano: int
    promotional: bool
    expires_at_ms: int | None
    corrects: str | None


class UsageLine(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one model, or of one key. `charged_nano` is what the wallet paid for them."""

    name: str
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    charged_nano: int = 0

    def __add__(self, other: "UsageLine") -> "UsageLine":
        sums = {name: getattr(self, name) + getattr(other, name) for name in _SUMS}
        return UsageLine(name=self.name, **sums)


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """Closing = opening + movements - usage. `provisional` while the month may still change."""

    account_id: str
    month: Month
    made_at_ms: int
    provisional: bool
    opening_nano: int
    movements: tuple[Movement, ...]
    by_model: tuple[UsageLine, ...]
    by_key: tuple[UsageLine, ...]
    usage: UsageLine
    by_member: tuple[UsageLine, ...] = ()  # empty where the account's own keys were all

    @property
    def moved_nano(self) -> int:
        return sum(movement.amount_nano for movement in self.movements)

    @property
    def closing_nano(self) -> int:
        return self.opening_nano + self.moved_nano - self.usage.charged_nano

    def moved_by_kind(self) -> dict[str, int]:
        kinds = dict.fromkeys(("credit", "refund", "adjustment", "lapse"), 0)
        for movement in self.movements:
            kinds[movement.kind] = kinds.get(movement.kind, 0) + movement.amount_nano
        return kinds


_SUMS = ("requests", "input_tokens", "output_tokens", "cached_input_tokens", "charged_nano")
_NOTHING = UsageLine(name="")


def read_month(text: str) -> Month:
    """Of `2026-01`. Raises InvalidField."""
    match = _MONTH.fullmatch(text)
    if match is None or not 1970 <= int(match[1]) <= 9998:
        raise InvalidField("month", "must be a month such as 2026-01")
    first = date(int(match[1]), int(match[2]), 1)
    return Month(first, (first + timedelta(days=31)).replace(day=1))


async def make_statement(db: AsyncConnection, account_id: str, month: Month) -> Statement:
    """From one snapshot of the database. Raises NotFound."""
    if await read_wallet(db, account_id) is None:
        raise NotFound(f"There is no account `{account_id}`.")
    used = await _used_by_key_and_model(db, account_id, month)
    now = now_ms()
    return Statement(
        account_id=account_id,
        month=month,
        made_at_ms=now,
        provisional=now < _start_ms(month.end + _SETTLES_WITHIN),
        opening_nano=await _moved_before(db, account_id, month) - await _charged_before(db, account_id, month),
        movements=tuple([_movement(row) for row in await _moves(db, account_id, month)]),
        by_model=_grouped(used, lambda row: row.model),
        by_key=_grouped(used, lambda row: row.key_id),
        usage=sum((_line("", row) for row in used), _NOTHING),
    )


def with_members(statement: Statement, account_of_key: Mapping[str, str]) -> Statement:
    """The same usage, cut by the account whose keys they are: its own, and those that draw on its wallet."""
    lines: dict[str, UsageLine] = {}
    for line in statement.by_key:
        owner = account_of_key.get(line.name, statement.account_id)
        lines[owner] = lines.get(owner, UsageLine(name=owner)) + line
    if set(lines) <= {statement.account_id}:
        return statement
    return msgspec.structs.replace(statement, by_member=_dearest_first(lines))


def show_statement(statement: Statement, names: Mapping[str, str]) -> dict[str, Any]:
    """As JSON; `names` are of keys and members, by their ids. The totals are those of the lists above them; `credits`
    are all movements, whatever their kind."""
    usage, month = statement.usage, statement.month
    return {
        "account_id": statement.account_id,
        "month": month.name,
        "from": f"{month.first}T00:00:00Z",
        "to": f"{month.end}T00:00:00Z",
        "made_at": iso(statement.made_at_ms),
        "provisional": statement.provisional,
        "currency": "USD",
        "opening_balance": format_usd(statement.opening_nano),
        "credits": [_show_movement(movement) for movement in statement.movements],
        "usage_by_model": [{"model": line.name, **_show_line(line)} for line in statement.by_model],
        "usage_by_key": [
            {"key_id": line.name, "name": names.get(line.name, ""), **_show_line(line)} for line in statement.by_key
        ],
        "usage_by_member": [
            {"account_id": line.name, "name": names.get(line.name, ""), **_show_line(line)}
            for line in statement.by_member
        ],
        "totals": {
            "credits": format_usd(statement.moved_nano),
            "credits_by_kind": {kind: format_usd(nano) for kind, nano in statement.moved_by_kind().items()},
            "usage": format_usd(usage.charged_nano),
            **{name: getattr(usage, name) for name in _SUMS[:-1]},
        },
        "closing_balance": format_usd(statement.closing_nano),
    }


def _show_movement(movement: Movement) -> dict[str, Any]:
    return {
        "entry_id": movement.entry_id,
        "date": iso(movement.at_ms),
        "kind": movement.kind,
        "memo": movement.memo,
        "amount": format_usd(movement.amount_nano),
        "promotional": movement.promotional,
        "expires_at": None if movement.expires_at_ms is None else iso(movement.expires_at_ms),
        "corrects": movement.corrects,
    }


def _show_line(line: UsageLine) -> dict[str, Any]:
    return {**{name: getattr(line, name) for name in _SUMS[:-1]}, "amount": format_usd(line.charged_nano)}


def _start_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


# The word stands in the statement itself: an index of these entries alone can't be chosen for a parameter.
_is_no_usage = entries.c.kind != literal_column("'usage'")
# Both sides of a customer's money: what they paid in, and what they were given.
_of_customer = postings.c.ledger_account.in_(("wallet:" + entries.c.account_id, "promo:" + entries.c.account_id))
_given = postings.c.ledger_account == "promo:" + entries.c.account_id


async def _moved_before(db: AsyncConnection, account_id: str, month: Month) -> int:
    moved = await db.scalar(
        select(func.sum(postings.c.amount_nano))
        .join(entries, entries.c.id == postings.c.entry_id)
        .where(
            entries.c.account_id == account_id,
            _is_no_usage,
            entries.c.created_at_ms < _start_ms(month.first),
            _of_customer,
        )
    )
    return int(moved or 0)  # PostgreSQL's sum of bigints is a numeric


async def _charged_before(db: AsyncConnection, account_id: str, month: Month) -> int:
    charged = await db.scalar(
        select(func.sum(usage_days.c.amount_nano - usage_days.c.unpaid_nano)).where(
            usage_days.c.account_id == account_id, usage_days.c.day < month.first
        )
    )
    return int(charged or 0)


async def _moves(db: AsyncConnection, account_id: str, month: Month) -> list[Row[Any]]:
    query = (
        select(
            entries.c.id,
            entries.c.created_at_ms,
            entries.c.kind,
            entries.c.memo,
            entries.c.corrects,
            lots.c.expires_at_ms,
            func.sum(postings.c.amount_nano).label("amount_nano"),
            func.count().filter(_given).label("given"),
            func.count().label("lines"),
        )
        .join(postings, postings.c.entry_id == entries.c.id)
        .outerjoin(lots, lots.c.entry_id == entries.c.id)
        .where(
            entries.c.account_id == account_id,
            _is_no_usage,
            entries.c.created_at_ms >= _start_ms(month.first),
            entries.c.created_at_ms < _start_ms(month.end),
            _of_customer,
        )
        .group_by(entries.c.id, lots.c.expires_at_ms)
        .order_by(entries.c.created_at_ms, entries.c.id)
    )
    return list(await db.execute(query))


def _movement(row: Row[Any]) -> Movement:
    return Movement(
        entry_id=row.id,
        at_ms=row.created_at_ms,
        kind=row.kind,
        memo=row.memo,
        amount_nano=int(row.amount_nano),
        promotional=row.given == row.lines,
        expires_at_ms=row.expires_at_ms,
        corrects=row.corrects,
    )


async def _used_by_key_and_model(db: AsyncConnection, account_id: str, month: Month) -> list[Row[Any]]:
    columns = usage_days.c
    query = (
        select(
            columns.key_id,
            columns.model,
            func.sum(columns.requests).label("requests"),
            func.sum(columns.input_tokens).label("input_tokens"),
            func.sum(columns.output_tokens).label("output_tokens"),
            func.sum(columns.cached_input_tokens).label("cached_input_tokens"),
            func.sum(columns.amount_nano - columns.unpaid_nano).label("charged_nano"),
        )
        .where(columns.account_id == account_id, columns.day >= month.first, columns.day < month.end)
        .group_by(columns.key_id, columns.model)
        .having(func.sum(columns.requests) > 0)  # a channel's failed attempt alone is nobody's usage
    )
    return list(await db.execute(query))


def _line(name: str, row: Row[Any]) -> UsageLine:
    return UsageLine(name=name, **{column: int(getattr(row, column)) for column in _SUMS})


def _grouped(rows: list[Row[Any]], name_of: Callable[[Row[Any]], str]) -> tuple[UsageLine, ...]:
    lines: dict[str, UsageLine] = {}
    for row in rows:
        name = name_of(row)
        lines[name] = lines.get(name, UsageLine(name=name)) + _line(name, row)
    return _dearest_first(lines)


def _dearest_first(lines: Mapping[str, UsageLine]) -> tuple[UsageLine, ...]:
    return tuple(sorted(lines.values(), key=lambda line: (-line.charged_nano, line.name)))
