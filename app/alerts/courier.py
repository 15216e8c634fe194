"""The courier takes alerts to webhooks, signed, again and again until they are received. A delivery is claimed before
it is sent, by moving its next attempt: of two couriers one gets it, and what a courier took to its grave is due again
soon. A receiver may so get an alert twice; its `webhook-id` tells.
"""

import asyncio
import logging
import random
import time

import httpx
import msgspec
from sqlalchemy import ColumnElement, and_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.alerts.signature import signed_headers
from app.alerts.tables import alerts, deliveries
from app.alerts.webhooks import Webhook, find_webhook, update_webhook
from app.base.clock import iso, now_ms
from app.base.crypto import Sealer
from app.base.database import Database

__all__ = ["ATTEMPTS_MOST", "Courier", "wait_ms"]

log = logging.getLogger("tollgate.alerts")

_TIMEOUT_S = 10.0
_CLAIMED_MS = 30_000  # longer than a try can take
_FIRST_WAIT_MS = 5_000
_WAIT_MOST_MS = 3_600_000
ATTEMPTS_MOST = 32  # doubling from 5 s to an hour: a day, all together
_AT_ONCE_EACH = 4  # a webhook that hangs keeps no other waiting
_GONE = 410


def wait_ms(attempts: int) -> int:
    """How long after so many failed attempts the next one is made: doubling from 5 s, an hour at most."""
    return min(_FIRST_WAIT_MS << min(attempts - 1, 20), _WAIT_MOST_MS)


class _Due(msgspec.Struct, frozen=True):
    """A delivery whose next attempt is now, and what to say."""

    webhook: Webhook
    alert_id: str
    attempts: int
    next_at_ms: int
    body: bytes


class Courier:
    """`close` when done. Addresses are the operators' own choice: those of this machine and its network, too."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer
        self._client: httpx.AsyncClient | None = None

    async def round(self) -> int:
        """Tries everything that is due, some of it if it is much: how many. Raises ServiceUnavailable."""
        async with self._database.read() as db:
            late = select(deliveries.c.webhook_id).where(deliveries.c.next_at_ms <= now_ms()).distinct()
            hooks = [await find_webhook(db, self._sealer, hook_id) for hook_id in (await db.scalars(late)).all()]
            due = [each for hook in hooks if hook is not None and hook.enabled for each in await _due(db, hook)]
        # Each is brought to its end, whatever becomes of the others.
        tried = await asyncio.gather(*(self._deliver(each) for each in due), return_exceptions=True)
        for each in tried:
            if isinstance(each, BaseException):
                raise each
        return tried.count(True)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def _deliver(self, due: _Due) -> bool:
        """False where another courier was quicker."""
        if not await self._claim(due):
            return False
        status, fault = await self._send(due)
        values: dict[str, object]
        if fault is None:
            values = {"status": "received", "next_at_ms": None, "last_error": None}
        elif status == _GONE or due.attempts + 1 >= ATTEMPTS_MOST:
            values = {"status": "given_up", "next_at_ms": None, "last_error": fault}
        else:
            wait = round(wait_ms(due.attempts + 1) * random.uniform(0.9, 1.1))  # noqa: S311
            values = {"next_at_ms": now_ms() + wait, "last_error": fault}
        async with self._database.write() as db:
            await db.execute(update(deliveries).where(_of(due)).values(**values))
            if status == _GONE:  # it asks not to be told any more
                await update_webhook(db, self._sealer, due.webhook.id, {"enabled": False})
        if fault is not None:
            log.warning("webhook %s did not take %s: %s", due.webhook.id, due.alert_id, fault)
        return True

    async def _claim(self, due: _Due) -> bool:
        claimed = {"next_at_ms": now_ms() + _CLAIMED_MS, "attempts": due.attempts + 1}
        async with self._database.write() as db:
            seen = and_(deliveries.c.next_at_ms == due.next_at_ms, deliveries.c.attempts == due.attempts)
            return bool((await db.execute(update(deliveries).where(_of(due), seen).values(**claimed))).rowcount)

    async def _send(self, due: _Due) -> tuple[int | None, str | None]:
        """The answer's status, and what was wrong. Nothing of the address is in it: it may hold a token."""
        headers = signed_headers(due.webhook.secret.reveal(), due.alert_id, int(time.time()), due.body)
        try:
            async with (
                asyncio.timeout(_TIMEOUT_S),
                self._http().stream(
                    "POST", due.webhook.url, content=due.body, headers={"content-type": "application/json", **headers}
                ) as answer,
            ):
                status = answer.status_code
        except TimeoutError:
            return None, f"no answer within {_TIMEOUT_S:.0f} s"
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return None, type(error).__name__
        return status, None if 200 <= status < 300 else f"status {status}"

    def _http(self) -> httpx.AsyncClient:
        """Made when there is something to send: loading certificates takes a while."""
        if self._client is None:
            self._client = httpx.AsyncClient(
                timeout=_TIMEOUT_S, follow_redirects=False, trust_env=False, headers={"user-agent": "tollgate"}
            )
        return self._client


def _of(due: _Due) -> ColumnElement[bool]:
    return and_(deliveries.c.alert_id == due.alert_id, deliveries.c.webhook_id == due.webhook.id)


async def _due(db: AsyncConnection, webhook: Webhook) -> list[_Due]:
    columns = deliveries.c
    query = (
        select(deliveries, alerts)
        .join(alerts, alerts.c.id == columns.alert_id)
        .where(columns.webhook_id == webhook.id, columns.next_at_ms <= now_ms())
        .order_by(columns.next_at_ms)
        .limit(_AT_ONCE_EACH)
    )
    found = []
    for row in await db.execute(query):
        message = {
            "type": row.kind,
            "timestamp": iso(row.created_at_ms),
            "data": {"subject": row.subject, "account_id": row.account_id, **row.details},
        }
        found.append(_Due(webhook, row.alert_id, row.attempts, row.next_at_ms, msgspec.json.encode(message)))
    return found
