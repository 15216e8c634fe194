"""Operators hear of budgets at 50, 80 and 100 % of each window, once each. Redis says so with every settlement that
leaves a budget half used or more, so a mark that was lost with its process is heard again with the next request."""

import asyncio
import logging
from typing import Any

import msgspec

from app.alerts.outbox import raise_alert
from app.base.clock import iso
from app.base.database import Database
from app.base.errors import ServiceUnavailable
from app.base.money import format_usd
from app.catalog.lineage import ancestors
from app.proxy.records import BudgetMark, Caller

__all__ = ["BudgetAlerts"]

log = logging.getLogger("tollgate.budgets")

KIND = "budget.reached"
_PERCENTS = (50, 80, 100)
# A budget that refuses a request is as good as used up, unless that request asked for the better part of it.
_REFUSES_FROM_PERCENT = 80
_RETRY_S = 1.0
_KNOWN_MOST = 50_000


class _Alert(msgspec.Struct, frozen=True):
    once: str
    subject: str
    account_id: str
    details: dict[str, Any]


class BudgetAlerts:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._heard: dict[str, None] = {}
        self._waiting: asyncio.Queue[_Alert] = asyncio.Queue()

    def mark(self, caller: Caller, mark: BudgetMark) -> None:
        """Takes note, and does not wait."""
        account_id = mark.subject.id if mark.subject.kind == "account" else caller.own_id
        for percent in _PERCENTS:
            is_refused = percent == 100 and mark.refused and mark.used * 100 >= _REFUSES_FROM_PERCENT * mark.amount
            if mark.used * 100 < percent * mark.amount and not is_refused:
                continue
            once = f"budget:{mark.subject.name}:{mark.counter}:{mark.start_ms}:{percent}"
            if once in self._heard:
                continue
            if len(self._heard) >= _KNOWN_MOST:
                self._heard.clear()
            self._heard[once] = None
            self._waiting.put_nowait(_Alert(once, mark.subject.id, account_id, _details(mark, percent)))

    async def keep(self) -> None:
        """Writes what was heard into the outbox, until cancelled; a database that is away is waited for."""
        while True:
            alert = await self._waiting.get()
            while not await self._write(alert):
                await asyncio.sleep(_RETRY_S)

    async def _write(self, alert: _Alert) -> bool:
        """False where the database is away."""
        try:
            async with self._database.write() as db:
                await raise_alert(
                    db,
                    KIND,
                    alert.subject,
                    alert.details,
                    once=alert.once,
                    account_id=alert.account_id,
                    lineage=tuple(await ancestors(db, alert.account_id)),
                )
        except ServiceUnavailable:
            return False
        except Exception:  # one alert that the database refuses must not keep the next ones
            log.exception("the alert %s could not be raised", alert.once)
        return True


def _details(mark: BudgetMark, percent: int) -> dict[str, Any]:
    unit, _, window = mark.counter.partition(".")

    def show(amount: int) -> str | int:
        return format_usd(amount) if unit == "usd" else amount

    return {
        "of": mark.subject.kind,
        "percent": percent,
        "unit": unit,
        "window": window,
        "amount": show(mark.amount),
        "used": show(mark.used),
        "window_start": iso(mark.start_ms),
    }
