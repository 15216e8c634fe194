"""Alerts are put into the database, so that none is lost with a process; the courier takes them from there."""

from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.alerts.tables import alerts, deliveries, webhooks
from app.base.clock import now_ms
from app.base.ids import new_id

__all__ = ["raise_alert"]


async def raise_alert(
    db: AsyncConnection,
    kind: str,
    subject: str,
    details: dict[str, Any],
    *,
    once: str,
    account_id: str | None = None,
    lineage: tuple[str, ...] = (),
) -> bool:
    """Tells every webhook that wants to know; False where an alert with this `once` was raised before.

    `lineage` is the account and those above it: webhooks of any of them hear of it, beside those of the whole house.
    """
    alert_id, at_ms = new_id("alr"), now_ms()
    row = {"id": alert_id, "created_at_ms": at_ms, "kind": kind, "subject": subject, "details": details}
    try:
        async with db.begin_nested():
            await db.execute(insert(alerts).values(**row, once=once, account_id=account_id))
    except IntegrityError:
        return False
    found = await db.execute(select(webhooks).where(webhooks.c.enabled))
    waiting = [
        {"alert_id": alert_id, "webhook_id": hook.id, "attempts": 0, "next_at_ms": at_ms, "status": "waiting"}
        for hook in found
        if _wants(hook.kinds, kind) and (hook.account_id is None or hook.account_id in lineage)
    ]
    if waiting:
        await db.execute(insert(deliveries), waiting)
    return True


def _wants(kinds: list[str] | None, kind: str) -> bool:
    """`kinds` are full ones, or all below a word: `channel.*`."""
    return kinds is None or kind in kinds or any(kind.startswith(each[:-1]) for each in kinds if each.endswith(".*"))
