"""Limits and budgets, as the catalogue keeps them and the quota room enforces them."""

from typing import Literal

import msgspec

__all__ = ["NO_LIMITS", "Budget", "Limits", "Unit", "Window"]

Unit = Literal["usd", "tokens", "requests"]
Window = Literal["lifetime", "hour", "day", "week", "month"]


class Limits(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What may be used at most, 0 meaning no limit: requests and tokens a minute, requests and tokens a day, requests
    at the same time."""

    rpm: int = 0
    tpm: int = 0
    rpd: int = 0
    tpd: int = 0
    concurrency: int = 0


NO_LIMITS = Limits()


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So much in each window of its account's time zone: nano-USD, tokens or requests."""

    unit: Unit
    amount: int
    window: Window
