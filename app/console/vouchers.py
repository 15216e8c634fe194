"""Vouchers, as the operator makes, lists and cancels them."""

from typing import Annotated, Any

import msgspec
from litestar import Controller, Response, get, post
from litestar.params import Parameter
from msgspec import Meta

from app.base.clock import iso, now_ms
from app.base.errors import InvalidField
from app.base.money import format_usd, parse_usd
from app.console.key_fields import read_expiry
from app.console.office import Office, Page, page_cursor, page_limit, paged
from app.console.statement_forms import csv_text
from app.console.text_fields import IdempotencyHeader, IdempotencyKey, Memo, idempotency_key
from app.ledger.vouchers import STATES, NewBatch, cancel_batch, create_batch, list_vouchers

__all__ = ["VouchersController"]

_CREDIT_DAYS_MOST = 36_500


class NewVouchers(msgspec.Struct, forbid_unknown_fields=True):
    amount: str
    count: Annotated[int, Meta(ge=1, le=10_000)] = 1
    expires_at: str | None = None
    note: Memo = ""
    promotional: bool = False
    credit_days: Annotated[int, Meta(ge=1, le=_CREDIT_DAYS_MOST)] | None = None
    idempotency_key: IdempotencyKey | None = None


class VouchersController(Controller):
    path = "/vouchers"

    @post()
    async def create(
        self,
        office: Office,
        data: NewVouchers,
        form: Annotated[str, Parameter(query="format", required=False)] = "json",
        header_key: IdempotencyHeader = None,
    ) -> Response[Any]:
        """The codes are in this answer and nowhere else."""
        if form not in ("json", "csv"):
            raise InvalidField("format", "must be json or csv")
        key = idempotency_key(data.idempotency_key, header_key)
        amount = parse_usd(data.amount, "amount")
        if amount <= 0:
            raise InvalidField("amount", "must be more than zero")
        wanted = NewBatch(
            count=data.count,
            amount_nano=amount,
            promotional=data.promotional,
            credit_days=data.credit_days,
            expires_at_ms=None if data.expires_at is None else _later(data.expires_at),
            note=data.note,
        )
        async with office.database.write() as db:
            batch = await create_batch(db, wanted, key)
        headers = {"cache-control": "no-store"}
        expires_at = None if wanted.expires_at_ms is None else iso(wanted.expires_at_ms)
        if form == "csv":
            headers["content-disposition"] = f'attachment; filename="vouchers-{batch.id}.csv"'
            rows = [(code, format_usd(amount), expires_at or "", batch.id) for code in batch.codes]
            text = csv_text(("code", "amount_usd", "expires_at", "batch_id"), rows)
            return Response(text, status_code=201, media_type="text/csv; charset=utf-8", headers=headers)
        shown = {
            "batch_id": batch.id,
            "count": wanted.count,
            "amount": format_usd(amount),
            "promotional": wanted.promotional,
            "credit_days": wanted.credit_days,
            "expires_at": expires_at,
            "note": wanted.note,
            "codes": batch.codes,
        }
        return Response(shown, status_code=201, headers=headers)

    @get()
    async def list_all(
        self,
        office: Office,
        batch_id: str | None = None,
        in_state: Annotated[str | None, Parameter(query="state", required=False)] = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Page:
        wanted = next((each for each in STATES if each == in_state), None)
        if in_state is not None and wanted is None:
            raise InvalidField("state", f"must be one of {', '.join(STATES)}")
        most = page_limit(limit)
        async with office.database.read() as db:
            found = await list_vouchers(db, batch_id, wanted, page_cursor(cursor), most + 1)
        return paged(found, most, lambda voucher: voucher["id"])

    @post("/batches/{batch_id:str}/cancel", status_code=200)
    async def cancel(self, office: Office, batch_id: str) -> dict[str, Any]:
        """What nobody has redeemed can't be redeemed any more; the rest stands. May be repeated."""
        async with office.database.write() as db:
            return {"batch_id": batch_id, **await cancel_batch(db, batch_id)}


def _later(sent: str) -> int:
    at_ms = read_expiry(sent)
    if at_ms <= now_ms():
        raise InvalidField("expires_at", "is in the past")
    return at_ms
