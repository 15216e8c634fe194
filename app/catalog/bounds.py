"""What a key may hand on: never more than it may do itself. Pure."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from app.base.errors import InvalidField
from app.base.limits import Budget, Limits
from app.base.names import covers
from app.catalog.records import Key

__all__ = ["narrowed"]

_WIDER = "is more than the key that issues it has"


def narrowed(issuer: Key, wish: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a key that `issuer` issues: what `wish`, columns too, leaves out is as the issuer has it. Raises
    InvalidField where the wish goes beyond."""
    values = dict(wish)
    values["models"] = _models(issuer.models, wish.get("models"))
    values["allowed_cidrs"] = _networks(issuer.allowed_cidrs, wish.get("allowed_cidrs"))
    values["scopes"] = _scopes(issuer.scopes, wish.get("scopes"))
    values["expires_at_ms"] = _expiry(issuer.expires_at_ms, wish.get("expires_at_ms"))
    values |= _limits(issuer.limits, wish)
    values["budgets"] = _budgets(issuer.budgets, wish.get("budgets", []))
    values["issued_by"] = issuer.id
    return values


def _models(own: Sequence[str] | None, wish: list[str] | None) -> list[str] | None:
    if own is None or wish is None:
        return wish if own is None else list(own)
    for index, each in enumerate(wish):
        if not covers(own, each):
            raise InvalidField(f"models[{index}]", _WIDER)
    return wish


def _networks(own: Sequence[str] | None, wish: list[str] | None) -> list[str] | None:
    if own is None or wish is None:
        return wish if own is None else list(own)
    wide = [ipaddress.ip_network(each) for each in own]
    for index, each in enumerate(wish):
        if not any(_is_subnet(ipaddress.ip_network(each), net) for net in wide):
            raise InvalidField(f"allowed_cidrs[{index}]", _WIDER)
    return wish


def _is_subnet(narrow: Any, wide: Any) -> bool:
    return narrow.version == wide.version and bool(narrow.subnet_of(wide))


def _scopes(own: Sequence[str] | None, wish: list[str] | None) -> list[str] | None:
    if own is None or wish is None:
        return wish if own is None else list(own)
    for index, each in enumerate(wish):
        if each not in own:
            raise InvalidField(f"scopes[{index}]", _WIDER)
    return wish


def _expiry(own_ms: int | None, wish_ms: int | None) -> int | None:
    if own_ms is None or wish_ms is None:
        return wish_ms if own_ms is None else own_ms
    if wish_ms > own_ms:
        raise InvalidField("expires_at", "is later than that of the key that issues it")
    return wish_ms


def _limits(own: Limits, wish: Mapping[str, Any]) -> dict[str, int]:
    limits = {}
    for name, most in msgspec.structs.asdict(own).items():
        asked = wish.get(name, 0)
        if most and asked > most:
            raise InvalidField(f"limits.{name}", _WIDER)
        limits[name] = asked or most
    return limits


def _budgets(own: Iterable[Budget], wish: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each of the issuer's is there, with as much at most."""
    budgets = list(wish)
    asked = {(each["unit"], each["window"]): (index, each["amount"]) for index, each in enumerate(wish)}
    for budget in own:
        index, amount = asked.get((budget.unit, budget.window), (None, 0))
        if index is None:
            budgets.append(msgspec.to_builtins(budget))
        elif amount > budget.amount:
            raise InvalidField(f"budgets[{index}].amount", _WIDER)
    return budgets
