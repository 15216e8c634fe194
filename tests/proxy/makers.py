"""Channels, keys and orders with the fields a test names, and sensible ones otherwise."""

from typing import Any

import msgspec

from app.base.crypto import Secret
from app.base.limits import NO_LIMITS
from app.catalog.records import Channel, Credential, Key, Timeouts
from app.proxy.records import BudgetMark, Caller, Order
from app.proxy.relay.dialects.openai_chat import read_order

__all__ = ["body", "credential", "ignore_budgets", "make_channel", "make_key", "order"]

Json = dict[str, Any]


def credential(secret: str, credential_id: str = "crd_1", **fields: Any) -> Credential:
    return Credential(id=credential_id, secret=Secret(secret), **fields)


def make_channel(channel_id: str = "chn_1", **fields: Any) -> Channel:
    values: Json = {
        "name": "main",
        "provider": "openai_compatible",
        "base_url": "https://vendor.example/v1",
        "credentials": (credential("sk-vendor-secret"),),
        "models": {"small": "vendor-small"},
        "costs": {},
        "timeouts": Timeouts(),
        "priority": 0,
        "weight": 1,
        "enabled": True,
        "created_at_ms": 0,
    }
    return Channel(id=channel_id, **values | fields)


def make_key(key_id: str = "key_1", **fields: Any) -> Key:
    values: Json = {
        "account_id": "acc_1",
        "book": "default",
        "name": "default",
        "hint": "sk-ab…wxyz",
        "models": None,
        "allowed_cidrs": None,
        "expires_at_ms": None,
        "limits": NO_LIMITS,
        "enabled": True,
        "created_at_ms": 0,
    }
    return Key(id=key_id, **values | fields)


def body(**fields: Any) -> bytes:
    """A chat request; a field that is `...` is left out."""
    values: Json = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]} | fields
    return msgspec.json.encode({name: value for name, value in values.items() if value is not ...})


def order(raw: bytes | None = None, **fields: Any) -> Order:
    return read_order(body(**fields) if raw is None else raw, "req_1", 1_700_000_000_000)


def ignore_budgets(_caller: Caller, _mark: BudgetMark) -> None:
    """For where no budget is set."""
