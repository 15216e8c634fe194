"""Limits and budgets, as operators send and read them: of keys, accounts, models and price books."""

import zoneinfo
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from app.base.errors import InvalidField
from app.base.limits import NO_LIMITS, Budget, Limits, Unit, Window
from app.base.money import format_usd, parse_usd

__all__ = [
    "BudgetFields",
    "LimitFields",
    "check_time_zone",
    "columns_of_budgets",
    "columns_of_model_limits",
    "limits_of",
    "show_budgets",
    "show_limits",
]

_BUDGETS_MOST = 20
_MODELS_MOST = 1_000
_COUNT_MOST = 2**53 - 1  # Lua's numbers are exact up to here
_COUNT_DIGITS_MOST = 16

_Requests = Annotated[int, Meta(ge=0, le=10_000_000)] | None
_Tokens = Annotated[int, Meta(ge=0, le=1_000_000_000)] | None
_ADay = Annotated[int, Meta(ge=0, le=1_000_000_000_000)] | None


class LimitFields(msgspec.Struct, forbid_unknown_fields=True):
    """Requests and tokens a minute, a day, and requests at the same time. Null or 0: no limit."""

    rpm: _Requests = None
    tpm: _Tokens = None
    rpd: _ADay = None
    tpd: _ADay = None
    concurrency: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None


class BudgetFields(msgspec.Struct, forbid_unknown_fields=True):
    """`amount` is `"5.00"` in USD, a whole number of tokens or requests."""

    unit: Unit
    amount: str | int
    window: Window


def limits_of(sent: LimitFields | None) -> Limits:
    if sent is None:
        return NO_LIMITS
    return Limits(**{name: getattr(sent, name) or 0 for name in Limits.__struct_fields__})


def show_limits(limits: Limits) -> dict[str, int | None]:
    return {name: getattr(limits, name) or None for name in Limits.__struct_fields__}


def columns_of_model_limits(sent: Mapping[str, LimitFields] | None) -> dict[str, Any]:
    """What is kept in the database. Raises InvalidField."""
    if len(sent or {}) > _MODELS_MOST:
        raise InvalidField("model_limits", f"can name {_MODELS_MOST} models at most")
    return {model: msgspec.to_builtins(limits_of(fields)) for model, fields in (sent or {}).items()}


def columns_of_budgets(sent: list[BudgetFields] | None) -> list[dict[str, Any]]:
    """What is kept in the database. Raises InvalidField."""
    if len(sent or []) > _BUDGETS_MOST:
        raise InvalidField("budgets", f"can be {_BUDGETS_MOST} at most")
    budgets = [_budget(fields, f"budgets[{index}]") for index, fields in enumerate(sent or [])]
    kinds = [(budget.unit, budget.window) for budget in budgets]
    for index, kind in enumerate(kinds):
        if kind in kinds[:index]:
            raise InvalidField(f"budgets[{index}]", f"there is another in {kind[0]}, of the window {kind[1]}")
    return [msgspec.to_builtins(budget) for budget in budgets]


def show_budgets(budgets: tuple[Budget, ...]) -> list[dict[str, Any]]:
    return [
        {
            "unit": budget.unit,
            "amount": format_usd(budget.amount) if budget.unit == "usd" else budget.amount,
            "window": budget.window,
        }
        for budget in budgets
    ]


def check_time_zone(name: str) -> None:
    """Raises InvalidField."""
    try:
        zoneinfo.ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # not found, or no name of a zone at all
        raise InvalidField("time_zone", "must be a time zone's IANA name, such as Europe/Berlin") from None


def _budget(fields: BudgetFields, path: str) -> Budget:
    amount = _usd(fields.amount, path) if fields.unit == "usd" else _count(fields.amount, path)
    return Budget(fields.unit, amount, fields.window)


def _usd(sent: str | int, path: str) -> int:
    nano = parse_usd(sent, f"{path}.amount")
    if nano <= 0:
        raise InvalidField(f"{path}.amount", "must be more than zero")
    return nano


def _count(sent: str | int, path: str) -> int:
    if isinstance(sent, str):
        is_number = sent.isascii() and sent.isdigit() and len(sent) <= _COUNT_DIGITS_MOST
        sent = int(sent) if is_number else 0
    if not 0 < sent <= _COUNT_MOST:
        raise InvalidField(f"{path}.amount", f"must be a whole number from 1 to {_COUNT_MOST}")
    return sent
