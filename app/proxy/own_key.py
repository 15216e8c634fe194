"""What a key may know of itself: its limits and budgets, what was used of each, and what is left."""

from typing import Any, Protocol

from app.base.clock import iso, now_ms
from app.base.money import format_usd
from app.proxy.access import Keyring
from app.proxy.admission import BringCounters, key_subject
from app.proxy.journey import Visit
from app.proxy.records import Caller
from app.quota.rules import Counter, Rules, Subject, compile_rules
from app.quota.use import Use

__all__ = ["LookAtUse", "OwnKey", "show_use"]


class LookAtUse(Protocol):
    """What a subject on a shard has used, at one moment."""

    async def __call__(self, number: int, subject: Subject, /) -> Use: ...


class OwnKey:
    def __init__(self, keyring: Keyring, look: LookAtUse, bring_counters: BringCounters) -> None:
        self._keyring = keyring
        self._look = look
        self._bring_counters = bring_counters

    async def show(self, visit: Visit) -> dict[str, Any]:
        """`GET /v1/key`."""
        caller = await self._keyring.enter(visit.key, visit.address, visit.scope)
        subject = key_subject(caller)
        rules = compile_rules([subject], now_ms())
        number = caller.slots.shard.number
        use = await self._look(number, subject)
        if any(not use.knows(counter) for counters in rules.counters for counter in counters):
            await self._bring_counters(caller.account_id, rules)
            use = await self._look(number, subject)
        return _show_caller(caller) | show_use(caller, rules, use)


def _show_caller(caller: Caller) -> dict[str, Any]:
    return {
        "id": caller.key_id,
        "account_id": caller.own_id,
        "expires_at": None if caller.expires_at_ms is None else iso(caller.expires_at_ms),
        "models": None if caller.models is None else list(caller.models.listed),
        "scopes": None if caller.scopes is None else sorted(caller.scopes),
    }


def show_use(caller: Caller, rules: Rules, use: Use) -> dict[str, Any]:
    """`limits` and `budgets`, each with what was used (running requests at their worst case) and what remains. `rules`
    are the key's alone; a limit that is not set is left out. Pure."""
    limits: dict[str, Any] = {}
    for name, field in (("rpm", "r"), ("tpm", "t")):
        if limit := getattr(caller.limits, name):
            level = use.level(field, limit)
            used = min(limit, -(-level // 1_000_000))
            limits[name] = {**_figures(limit, used), "reset_ms": -(-level * 60 // (limit * 1000))}
    if places := caller.limits.concurrency:
        limits["concurrency"] = _figures(places, use.in_flight)
    budgets = []
    for counter in (each for counters in rules.counters for each in counters):
        if counter.is_budget:
            budgets.append(_show_budget(counter, use))
        else:
            counted = use.counted(counter)
            turns = {"reset_ms": counter.starts[2] - use.now_us // 1000}
            limits[counter.name] = _figures(counter.amount, counted.used + counted.held) | turns
    return {"limits": limits, "budgets": budgets}


def _figures(limit: int, used: int) -> dict[str, Any]:
    return {"limit": limit, "used": used, "remaining": max(0, limit - used)}


def _show_budget(counter: Counter, use: Use) -> dict[str, Any]:
    counted = use.counted(counter)
    figures = {
        "amount": counter.amount,
        "used": counted.used,
        "held": counted.held,
        "remaining": max(0, counter.amount - counted.used - counted.held),
    }
    renews_ms = min((start for start in counter.starts if start > counted.start_ms), default=None)
    return {
        "unit": counter.unit,
        "window": counter.window,
        **{name: format_usd(figure) if counter.unit == "usd" else figure for name, figure in figures.items()},
        "renews_at": None if renews_ms is None else iso(renews_ms),
    }
