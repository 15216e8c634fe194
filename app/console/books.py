"""Receipts, and the proof of the books."""

from typing import Annotated, Any

from litestar import Controller, get
from litestar.params import Parameter

from app.base.clock import parse_iso
from app.base.errors import InvalidField
from app.base.money import format_usd
from app.console.office import Office, Page, page_cursor, page_limit, paged
from app.console.remit import OPEN_TO_SUBTREE, Remit
from app.ledger.reports import ReceiptFilter, for_customers, list_receipts

__all__ = ["BooksController"]

_STATUSES = ("ok", "failed", "cancelled", "expired")


class BooksController(Controller):
    path = "/"

    @get("/receipts", opt=OPEN_TO_SUBTREE)
    async def receipts(
        self,
        office: Office,
        remit: Remit,
        account_id: str | None = None,
        key_id: str | None = None,
        model: str | None = None,
        channel_id: str | None = None,
        status: str | None = None,
        request_id: str | None = None,
        from_time: Annotated[str | None, Parameter(query="from", required=False)] = None,
        to_time: Annotated[str | None, Parameter(query="to", required=False)] = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Page:
        if status is not None and status not in _STATUSES:
            raise InvalidField("status", f"must be one of {', '.join(_STATUSES)}")
        if channel_id is not None:
            remit.refuse("Receipts can be listed by channel")
        async with office.database.read() as db:
            account_ids = await remit.accounts(db)
            if account_id is not None and account_ids is not None:
                await remit.account(db, account_id)
        wanted = ReceiptFilter(
            account_ids=account_ids if account_id is None else (account_id,),
            key_id=key_id,
            model=model,
            channel_id=channel_id,
            status=status,
            request_id=request_id,
            from_ms=_time("from", from_time),
            to_ms=_time("to", to_time),
        )
        most = page_limit(limit)
        async with office.database.read() as db:
            found = await list_receipts(db, wanted, page_cursor(cursor), most + 1)
        if remit.root is not None:
            found = [for_customers(receipt) for receipt in found]
        return paged(found, most, lambda receipt: receipt["request_id"])

    @get("/ledger/verify")
    async def verify(self, office: Office) -> dict[str, Any]:
        verdict = await office.verify()
        return {
            "ok": verdict.ok,
            "drift_nano": verdict.drift_nano,
            "drift": format_usd(verdict.drift_nano),
            "checked": verdict.checked,
            "problems": verdict.problems,
        }


def _time(name: str, sent: str | None) -> int | None:
    if sent is None:
        return None
    try:
        return parse_iso(sent)
    except ValueError:
        raise InvalidField(name, "must be an RFC 3339 time or a date") from None
