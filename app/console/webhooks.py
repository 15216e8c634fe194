"""Webhooks that operators are alerted by, and the alerts with what became of them."""

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from litestar import Controller, delete, get, patch, post
from litestar.params import Parameter
from msgspec import UNSET, Meta, UnsetType

from app.alerts.webhooks import (
    STATUSES,
    Webhook,
    create_webhook,
    find_webhook,
    list_alerts,
    list_webhooks,
    send_again,
    send_test,
    update_webhook,
)
from app.base.clock import iso
from app.base.errors import InvalidField, NotFound
from app.catalog.customers import find_account
from app.console.office import Office, Page, page_cursor, page_limit, paged
from app.console.remit import OPEN_TO_SUBTREE, Remit

__all__ = ["AlertsController", "WebhooksController"]

_KIND = re.compile(r"[a-z_]+(\.[a-z0-9_]+)*(\.\*)?", re.ASCII)

Kinds = Annotated[list[Annotated[str, Meta(min_length=1, max_length=60)]], Meta(min_length=1, max_length=100)]
Url = Annotated[str, Meta(min_length=1, max_length=2000)]


class NewWebhook(msgspec.Struct, forbid_unknown_fields=True):
    url: Url
    kinds: Kinds | None = None
    account_id: str | None = None


class WebhookChange(msgspec.Struct, forbid_unknown_fields=True):
    url: Url | UnsetType = UNSET
    kinds: Kinds | None | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class WebhooksController(Controller):
    path = "/webhooks"

    @post()
    async def create(self, office: Office, data: NewWebhook) -> dict[str, Any]:
        """The secret is in this answer and nowhere else."""
        _check(data.url, data.kinds)
        async with office.database.write() as db:
            if data.account_id is not None and await find_account(db, data.account_id) is None:
                raise InvalidField("account_id", "there is no such account")
            made = await create_webhook(db, office.sealer, data.url, data.kinds, data.account_id)
        return {**_show(made), "secret": made.secret.reveal()}

    @get()
    async def list_all(self, office: Office, cursor: str = "", limit: int | None = None) -> Page:
        most = page_limit(limit)
        async with office.database.read() as db:
            found = await list_webhooks(db, office.sealer, page_cursor(cursor) or "", most + 1)
        page = paged(found, most, lambda webhook: webhook.id)
        page.items = [_show(webhook) for webhook in page.items]
        return page

    @get("/{webhook_id:str}")
    async def read(self, office: Office, webhook_id: str) -> dict[str, Any]:
        async with office.database.read() as db:
            return _show(_found(await find_webhook(db, office.sealer, webhook_id), webhook_id))

    @patch("/{webhook_id:str}")
    async def change(self, office: Office, webhook_id: str, data: WebhookChange) -> dict[str, Any]:
        kinds = None if data.kinds is UNSET else data.kinds
        _check(None if data.url is UNSET else data.url, kinds)
        values = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not UNSET}
        async with office.database.write() as db:
            return _show(_found(await update_webhook(db, office.sealer, webhook_id, values), webhook_id))

    @delete("/{webhook_id:str}", status_code=200)
    async def disable(self, office: Office, webhook_id: str) -> dict[str, Any]:
        """Nothing more is sent there; it stays, with the alerts that it was told of."""
        async with office.database.write() as db:
            return _show(_found(await update_webhook(db, office.sealer, webhook_id, {"enabled": False}), webhook_id))

    @post("/{webhook_id:str}/test", status_code=202)
    async def test(self, office: Office, webhook_id: str) -> dict[str, Any]:
        """Sends an alert that says it is a test; `GET /alerts` has what became of it."""
        async with office.database.write() as db:
            webhook = _found(await find_webhook(db, office.sealer, webhook_id), webhook_id)
            if not webhook.enabled:
                raise InvalidField("enabled", "nothing is sent to a disabled webhook")
            return {"alert_id": await send_test(db, webhook)}


class AlertsController(Controller):
    path = "/alerts"

    @get(opt=OPEN_TO_SUBTREE)
    async def list_all(
        self,
        office: Office,
        remit: Remit,
        kind: str | None = None,
        subject: str | None = None,
        in_status: Annotated[str | None, Parameter(query="status", required=False)] = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """Newest first, each with its deliveries."""
        status = next((each for each in STATUSES if each == in_status), None)
        if in_status is not None and status is None:
            raise InvalidField("status", f"must be one of {', '.join(STATUSES)}")
        most, before = page_limit(limit), page_cursor(cursor)
        async with office.database.read() as db:
            found = await list_alerts(
                db,
                limit=most + 1,
                before=before,
                kind=kind,
                subject=subject,
                status=status,
                account_ids=await remit.accounts(db),
            )
        return paged(found, most, lambda alert: alert["id"])

    @post("/{alert_id:str}/resend", status_code=202)
    async def resend(self, office: Office, alert_id: str) -> dict[str, Any]:
        """To every enabled webhook that it was for, also those that have received it."""
        async with office.database.write() as db:
            return {"alert_id": alert_id, "deliveries": await send_again(db, alert_id)}


def _found(webhook: Webhook | None, webhook_id: str) -> Webhook:
    if webhook is None:
        raise NotFound(f"There is no webhook `{webhook_id}`.")
    return webhook


def _check(url: str | None, kinds: list[str] | None) -> None:
    """Raises InvalidField."""
    for index, kind in enumerate(kinds or ()):
        if not _KIND.fullmatch(kind):
            raise InvalidField(f"kinds[{index}]", "must be like `channel.parked`, or `channel.*` for all of a word")
    if url is None:
        return
    try:
        parts = urlsplit(url)
        is_sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_sound = False
    if not is_sound or not url.isascii() or any(letter.isspace() for letter in url):
        raise InvalidField("url", "must be an http or https address")
    if parts.username or parts.password or parts.fragment:
        raise InvalidField("url", "must not carry a user, a password or a fragment")


def _show(webhook: Webhook) -> dict[str, Any]:
    """Everything but the secret."""
    return {
        "id": webhook.id,
        "url": webhook.url,
        "kinds": webhook.kinds,
        "account_id": webhook.account_id,
        "enabled": webhook.enabled,
        "created_at": iso(webhook.created_at_ms),
    }
