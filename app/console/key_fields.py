"""A key's fields, as they are sent and shown: by operators, and by customers who issue keys of their own."""

import ipaddress
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.base.clock import iso, now_ms, parse_iso
from app.base.errors import InvalidField
from app.base.scopes import Scope
from app.catalog.records import Key
from app.console.limit_fields import (
    BudgetFields,
    LimitFields,
    columns_of_budgets,
    limits_of,
    show_budgets,
    show_limits,
)
from app.console.text_fields import WITHOUT_NUL

__all__ = ["BulkFields", "KeyFields", "Name", "columns_of_key", "columns_of_keys", "read_expiry", "show_key"]

Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=WITHOUT_NUL)]
_Listed = Annotated[list[str], Meta(max_length=1000)]
_Tags = Annotated[list[Annotated[str, Meta(min_length=1, max_length=60)]], Meta(max_length=50)]
_MODEL_MOST = 200
_AS_SENT = ("name", "note", "owner", "enabled", "may_issue", "scopes")


class KeyFields(msgspec.Struct, forbid_unknown_fields=True):
    """What is left out stays as it is; of a new key, it is not limited. `models` may have patterns such as `gpt-4*`."""

    name: Name | UnsetType = UNSET
    note: Annotated[str, Meta(max_length=2000, pattern=WITHOUT_NUL)] | UnsetType = UNSET
    tags: _Tags | UnsetType = UNSET
    owner: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET
    models: _Listed | None | UnsetType = UNSET
    allowed_cidrs: _Listed | None | UnsetType = UNSET
    scopes: list[Scope] | None | UnsetType = UNSET
    expires_at: str | None | UnsetType = UNSET
    limits: LimitFields | None | UnsetType = UNSET
    budgets: list[BudgetFields] | None | UnsetType = UNSET
    may_issue: bool | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class BulkFields(KeyFields):
    """`count` keys that differ by their names alone: `batch-001`, `batch-002`, …"""

    count: Annotated[int, Meta(ge=1, le=1000)] = 1
    name_prefix: Annotated[str, Meta(min_length=1, max_length=190)] | UnsetType = UNSET


def columns_of_keys(sent: BulkFields) -> list[dict[str, Any]]:
    """The columns of each. Raises InvalidField."""
    if sent.name is not UNSET or sent.name_prefix is UNSET:
        raise InvalidField("name_prefix", "is required, and `name` is not a field here")
    values = columns_of_key(sent)
    digits = len(str(sent.count))
    return [{**values, "name": f"{sent.name_prefix}-{number:0{digits}d}"} for number in range(1, sent.count + 1)]


def columns_of_key(sent: KeyFields) -> dict[str, Any]:
    """The columns that the fields set. Raises InvalidField."""
    values: dict[str, Any] = {name: value for name in _AS_SENT if (value := getattr(sent, name)) is not UNSET}
    if sent.tags is not UNSET:
        values["tags"] = list(dict.fromkeys(sent.tags))
    if sent.models is not UNSET:
        values["models"] = None if sent.models is None else _models(sent.models)
    if sent.allowed_cidrs is not UNSET:
        values["allowed_cidrs"] = None if sent.allowed_cidrs is None else _networks(sent.allowed_cidrs)
    if sent.expires_at is not UNSET:
        values["expires_at_ms"] = None if sent.expires_at is None else _expiry(sent.expires_at)
    if sent.limits is not UNSET:
        values |= msgspec.structs.asdict(limits_of(sent.limits))
    if sent.budgets is not UNSET:
        values["budgets"] = columns_of_budgets(sent.budgets)
    return values


def show_key(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "account_id": key.account_id,
        "name": key.name,
        "note": key.note,
        "tags": key.tags,
        "owner": key.owner,
        "hint": key.hint,
        "models": key.models,
        "allowed_cidrs": key.allowed_cidrs,
        "scopes": key.scopes,
        "expires_at": None if key.expires_at_ms is None else iso(key.expires_at_ms),
        "limits": show_limits(key.limits),
        "budgets": show_budgets(key.budgets),
        "may_issue": key.may_issue,
        "issued_by": key.issued_by,
        "enabled": key.enabled,
        "created_at": iso(key.created_at_ms),
        "last_used_at": None if key.last_used_at_ms is None else iso(key.last_used_at_ms),
        "last_used_address": key.last_used_address,
    }


def read_expiry(sent: str) -> int:
    """Milliseconds. Raises InvalidField naming `expires_at`."""
    try:
        at_ms = parse_iso(sent)
        iso(at_ms)  # the last hours of the year 9999 are another year in UTC, which can't be shown
    except (ValueError, OverflowError):
        raise InvalidField("expires_at", "must be an RFC 3339 time such as 2030-01-31T00:00:00Z") from None
    return at_ms


def _expiry(sent: str) -> int:
    at_ms = read_expiry(sent)
    if at_ms <= now_ms():
        raise InvalidField("expires_at", "is in the past; to stop a key now, send `enabled: false`")
    return at_ms


def _models(sent: list[str]) -> list[str]:
    for index, model in enumerate(sent):
        if not 1 <= len(model) <= _MODEL_MOST:
            raise InvalidField(f"models[{index}]", f"must be a name or a pattern of at most {_MODEL_MOST} characters")
    return sent


def _networks(sent: list[str]) -> list[str]:
    for index, cidr in enumerate(sent):
        try:
            ipaddress.ip_network(cidr)
        except ValueError:
            raise InvalidField(f"allowed_cidrs[{index}]", "must be a network such as 192.0.2.0/24") from None
    return sent
