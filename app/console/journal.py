"""The journal of an account, and one receipt in full: what was paid for it, and what it cost."""

from typing import Any

from litestar import Controller, get
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import iso
from app.base.errors import InvalidField, NotFound
from app.base.money import format_usd
from app.catalog.pricing import show_prices
from app.catalog.versions import prices_of
from app.console.office import Office, Page, page_cursor, page_limit, paged
from app.console.remit import OPEN_TO_SUBTREE, Remit
from app.ledger.corrections import find_refunds
from app.ledger.listing import list_entries
from app.ledger.reports import WholeReceipt, find_whole_receipt, for_customers

__all__ = ["JournalController"]

_KINDS = ("credit", "usage", "lapse", "adjustment", "refund", "credit_line", "repair")


class JournalController(Controller):
    path = "/"

    @get("/accounts/{account_id:str}/entries", opt=OPEN_TO_SUBTREE)
    async def entries(
        self,
        office: Office,
        remit: Remit,
        account_id: str,
        kind: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """Newest first, each with its postings."""
        if kind is not None and kind not in _KINDS:
            raise InvalidField("kind", f"must be one of {', '.join(_KINDS)}")
        most = page_limit(limit)
        async with office.database.read() as db:
            await remit.account(db, account_id)
            found = await list_entries(db, account_id, kind, page_cursor(cursor), most + 1)
        return paged(found, most, lambda entry: entry["id"])

    @get("/receipts/{request_id:str}", opt=OPEN_TO_SUBTREE)
    async def receipt(self, office: Office, remit: Remit, request_id: str) -> dict[str, Any]:
        """With the prices that applied, to the customer and from each vendor, and what was given back since. An
        operator of a part of the house learns nothing of the vendors."""
        async with office.database.read() as db:
            whole = await find_whole_receipt(db, request_id)
            if whole is None or not await _may_see(db, remit, whole):
                raise NotFound(f"There is no receipt `{request_id}`.")
            attempts = whole.attempts if remit.root is None else ()
            costs = {attempt.cost_version for attempt in attempts if attempt.cost_version is not None}
            prices = await prices_of(db, {whole.price_version, *costs})
            refunds = await find_refunds(db, whole.account_id, request_id)
        shown = {version: show_prices(prices[version]) for version in prices}
        return {
            **(whole.shown if remit.root is None else for_customers(whole.shown)),
            "entry_id": whole.entry_id,
            "prices": shown.get(whole.price_version),
            "cost_prices": {version: shown[version] for version in sorted(costs) if version in shown},
            "refunded": format_usd(sum(each["amount_nano"] for each in refunds)),
            "refunds": [
                {
                    "entry_id": each["entry_id"],
                    "created_at": iso(each["created_at_ms"]),
                    "memo": each["memo"],
                    "amount": format_usd(each["amount_nano"]),
                }
                for each in refunds
            ],
        }


async def _may_see(db: AsyncConnection, remit: Remit, whole: WholeReceipt) -> bool:
    member_id = whole.shown["member_id"]
    return await remit.has(db, whole.account_id) or (member_id is not None and await remit.has(db, member_id))
