"""Where alerts go: addresses of operators, each with a secret of its own that signs what is sent there. The secret is
shown once and kept sealed."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import msgspec
from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.alerts.signature import new_webhook_secret
from app.alerts.tables import alerts, deliveries, webhooks
from app.base.clock import iso, now_ms
from app.base.crypto import Sealer, Secret
from app.base.ids import new_id

__all__ = [
    "STATUSES",
    "TEST",
    "Webhook",
    "create_webhook",
    "find_webhook",
    "list_alerts",
    "list_webhooks",
    "send_again",
    "send_test",
    "update_webhook",
]

TEST = "webhook.test"
Status = Literal["waiting", "received", "given_up"]
STATUSES: tuple[Status, ...] = get_args(Status)


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """`kinds` are full ones (`channel.parked`) or all below a word (`channel.*`); None: every kind. With `account_id`
    it hears of that account and those below it alone."""

    id: str
    url: str
    secret: Secret
    kinds: tuple[str, ...] | None
    account_id: str | None
    enabled: bool
    created_at_ms: int


async def create_webhook(
    db: AsyncConnection, sealer: Sealer, url: str, kinds: list[str] | None, account_id: str | None
) -> Webhook:
    webhook_id = new_id("whk")
    sealed = sealer.seal(new_webhook_secret().encode(), webhook_id)
    row = {"id": webhook_id, "url": url, "sealed_secret": sealed, "kinds": kinds, "account_id": account_id}
    await db.execute(insert(webhooks).values(**row, enabled=True, created_at_ms=now_ms()))
    made = await find_webhook(db, sealer, webhook_id)
    assert made is not None
    return made


async def update_webhook(
    db: AsyncConnection, sealer: Sealer, webhook_id: str, values: dict[str, Any]
) -> Webhook | None:
    """One that is disabled is sent nothing more, also not what was waiting for it."""
    if values:
        await db.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(**values))
    if values.get("enabled") is False:
        await db.execute(
            update(deliveries)
            .where(deliveries.c.webhook_id == webhook_id, deliveries.c.status == "waiting")
            .values(status="given_up", next_at_ms=None, last_error="the webhook was disabled")
        )
    return await find_webhook(db, sealer, webhook_id)


async def find_webhook(db: AsyncConnection, sealer: Sealer, webhook_id: str) -> Webhook | None:
    row = (await db.execute(select(webhooks).where(webhooks.c.id == webhook_id))).first()
    return None if row is None else _webhook(row, sealer)


async def list_webhooks(db: AsyncConnection, sealer: Sealer, after: str = "", limit: int = 10_000) -> list[Webhook]:
    """In the order in which they were made."""
    query = select(webhooks).where(webhooks.c.id > after).order_by(webhooks.c.id).limit(limit)
    return [_webhook(row, sealer) for row in await db.execute(query)]


async def send_test(db: AsyncConnection, webhook: Webhook) -> str:
    """An alert for one webhook alone, whatever kinds it wants: the alert's id."""
    alert_id, at_ms = new_id("alr"), now_ms()
    row = {"id": alert_id, "created_at_ms": at_ms, "kind": TEST, "subject": webhook.id, "once": alert_id}
    details = {"message": "A test: nothing has happened."}
    await db.execute(insert(alerts).values(**row, account_id=webhook.account_id, details=details))
    waiting = {"attempts": 0, "next_at_ms": at_ms, "status": "waiting"}
    await db.execute(insert(deliveries).values(alert_id=alert_id, webhook_id=webhook.id, **waiting))
    return alert_id


async def send_again(db: AsyncConnection, alert_id: str) -> int:
    """Every delivery of an alert to an enabled webhook, from its first attempt on: how many."""
    live = select(webhooks.c.id).where(webhooks.c.enabled)
    sent = await db.execute(
        update(deliveries)
        .where(deliveries.c.alert_id == alert_id, deliveries.c.webhook_id.in_(live))
        .values(attempts=0, next_at_ms=now_ms(), status="waiting")
    )
    return sent.rowcount


async def list_alerts(
    db: AsyncConnection,
    *,
    limit: int,
    before: str | None = None,
    kind: str | None = None,
    subject: str | None = None,
    status: Status | None = None,
    account_ids: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Newest first, each with what became of its deliveries; with `status`, those that have a delivery in it.
    `account_ids` leaves out all that is not about these accounts, and deliveries to others' webhooks."""
    columns = alerts.c
    query = select(alerts)
    for column, wanted in ((columns.kind, kind), (columns.subject, subject)):
        if wanted is not None:
            query = query.where(column == wanted)
    if account_ids is not None:
        query = query.where(columns.account_id.in_(account_ids))
    if before:
        query = query.where(columns.id < before)
    if status is not None:
        query = query.where(columns.id.in_(select(deliveries.c.alert_id).where(deliveries.c.status == status)))
    rows = (await db.execute(query.order_by(columns.id.desc()).limit(limit))).all()
    sent: dict[str, list[dict[str, Any]]] = {row.id: [] for row in rows}
    made = select(deliveries).where(deliveries.c.alert_id.in_(sent))
    if account_ids is not None:
        theirs = select(webhooks.c.id).where(webhooks.c.account_id.in_(account_ids))
        made = made.where(deliveries.c.webhook_id.in_(theirs))
    for each in await db.execute(made):
        sent[each.alert_id].append(
            {
                "webhook_id": each.webhook_id,
                "status": each.status,
                "attempts": each.attempts,
                "next_at": None if each.next_at_ms is None else iso(each.next_at_ms),
                "last_error": each.last_error,
            }
        )
    return [
        {
            "id": row.id,
            "created_at": iso(row.created_at_ms),
            "kind": row.kind,
            "subject": row.subject,
            "account_id": row.account_id,
            "details": row.details,
            "deliveries": sent[row.id],
        }
        for row in rows
    ]


def _webhook(row: Row[Any], sealer: Sealer) -> Webhook:
    return Webhook(
        id=row.id,
        url=row.url,
        secret=Secret(sealer.open(row.sealed_secret, row.id).decode()),
        kinds=None if row.kinds is None else tuple(row.kinds),
        account_id=row.account_id,
        enabled=row.enabled,
        created_at_ms=row.created_at_ms,
    )
