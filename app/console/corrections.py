"""Money that an operator moves by hand: adjustments of a wallet, and refunds of what a request was charged. Each is a
new entry that says what it puts right."""

from contextlib import suppress
from typing import Annotated, Any

import msgspec
from litestar import Controller, post
from msgspec import Meta

from app.base.errors import Conflict, InvalidField, ServiceUnavailable
from app.base.money import format_usd, parse_usd
from app.catalog.customers import require_purse
from app.console.accounts import live_balance
from app.console.office import Office
from app.console.text_fields import WITHOUT_NUL, IdempotencyHeader, IdempotencyKey, Memo, idempotency_key
from app.ledger.corrections import check_correctable, refund
from app.ledger.journal import add_credit

__all__ = ["CorrectionsController"]


class NewAdjustment(msgspec.Struct, forbid_unknown_fields=True):
    """A negative amount takes money out."""

    amount: str
    memo: Annotated[str, Meta(min_length=1, max_length=1000, pattern=WITHOUT_NUL)]
    corrects: Annotated[str, Meta(min_length=1, max_length=80, pattern=WITHOUT_NUL)] | None = None
    idempotency_key: IdempotencyKey | None = None


class NewRefund(msgspec.Struct, forbid_unknown_fields=True):
    """Without an amount: all that was charged and not given back yet."""

    amount: str | None = None
    memo: Memo = ""
    idempotency_key: IdempotencyKey | None = None


class CorrectionsController(Controller):
    path = "/"

    @post("/accounts/{account_id:str}/adjustments")
    async def adjust(
        self, office: Office, account_id: str, data: NewAdjustment, header_key: IdempotencyHeader = None
    ) -> dict[str, Any]:
        amount = parse_usd(data.amount, "amount")
        if amount == 0:
            raise InvalidField("amount", "must not be zero")
        key = idempotency_key(data.idempotency_key, header_key)
        async with office.database.read() as db:
            await require_purse(db, account_id)
            if data.corrects is not None:
                await check_correctable(db, account_id, data.corrects)
        if amount < 0:
            entry_id = await _take(office, account_id, -amount, data, key)
        else:
            async with office.database.write() as db:
                await require_purse(db, account_id, stays=True)
                credit = await add_credit(
                    db, account_id, amount, data.memo, key, kind="adjustment", corrects=data.corrects
                )
            entry_id = credit.entry_id
            with suppress(ServiceUnavailable):
                await office.apply_credits(account_id)
        return await _moved(office, account_id, entry_id, amount, data.corrects)

    @post("/receipts/{request_id:str}/refund")
    async def refund(
        self, office: Office, request_id: str, data: NewRefund, header_key: IdempotencyHeader = None
    ) -> dict[str, Any]:
        amount = None if data.amount is None else parse_usd(data.amount, "amount")
        key = idempotency_key(data.idempotency_key, header_key)
        async with office.database.write() as db:
            credit = await refund(db, request_id, amount, data.memo, key)
        # It is in the journal now. Where Redis is away, the bookkeeper applies it later.
        with suppress(ServiceUnavailable):
            await office.apply_credits(credit.account_id)
        return await _moved(office, credit.account_id, credit.entry_id, credit.amount_nano, request_id)


async def _take(office: Office, account_id: str, amount_nano: int, data: NewAdjustment, key: str | None) -> str:
    """Raises Conflict where the wallet can't pay it now."""
    try:
        taken = await office.take_back(account_id, amount_nano, data.memo, key, corrects=data.corrects)
    except InvalidField as error:
        raise Conflict(f"The wallet can't pay this now: the amount {error.problem}.") from None
    return taken.entry_id


async def _moved(
    office: Office, account_id: str, entry_id: str, amount_nano: int, corrects: str | None
) -> dict[str, Any]:
    return {
        "entry_id": entry_id,
        "account_id": account_id,
        "amount": format_usd(amount_nano),
        "corrects": corrects,
        "balance": format_usd((await live_balance(office, account_id))[0]),
    }
