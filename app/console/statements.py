"""Statements of accounts, and what the operator earned."""

from datetime import UTC, date, datetime
from typing import Annotated, Any

from litestar import Controller, Request, Response, get
from litestar.params import Parameter

from app.base.clock import now_ms
from app.base.errors import InvalidField
from app.catalog.customers import books_of_accounts
from app.console.office import Office
from app.console.paper import FORMS, MEDIA_TYPES, Form, draw_up, read_form, written
from app.console.remit import OPEN_TO_SUBTREE, Remit
from app.ledger.margins import dearest_first, grouped, margins, show_earned

__all__ = ["ReportsController", "StatementsController"]

# The page to print is text somebody else wrote, in part: nothing in it may run or load, whatever got past the escaping.
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "referrer-policy": "no-referrer",
}
_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class StatementsController(Controller):
    path = "/accounts/{account_id:str}/statements"

    @get("/{month:str}", opt=OPEN_TO_SUBTREE)
    async def statement(
        self,
        office: Office,
        remit: Remit,
        request: Request[Any, Any, Any],
        account_id: str,
        month: str,
        form: Annotated[str | None, Parameter(query="format", required=False)] = None,
    ) -> Response[str]:
        wanted = _accepted(request.headers.get("accept", "")) if form is None else read_form(form)
        async with office.database.read() as db:
            await remit.account(db, account_id)
            paper = await draw_up(db, account_id, month)
        headers = dict(_HEADERS)
        if wanted == "html":
            headers |= _PAGE_HEADERS
        if wanted == "csv":
            headers["content-disposition"] = f'attachment; filename="statement-{account_id}-{month}.csv"'
        return Response(written(paper, wanted), media_type=f"{MEDIA_TYPES[wanted]}; charset=utf-8", headers=headers)


class ReportsController(Controller):
    path = "/reports"

    @get("/margins")
    async def margins(
        self,
        office: Office,
        day: str | None = None,
        from_day: Annotated[str | None, Parameter(query="from", required=False)] = None,
        to_day: Annotated[str | None, Parameter(query="to", required=False)] = None,
    ) -> dict[str, Any]:
        """`from` and `to` are days in UTC, both included; today unless said otherwise."""
        first, last = _range(day, from_day, to_day)
        async with office.database.read() as db:
            found = await margins(db, first, last)
            book_of = await books_of_accounts(db, list(found.by_account))
        return {
            "from": str(first),
            "to": str(last),
            "currency": "USD",
            "total": show_earned(found.total),
            "by_model": _list("model", found.by_model),
            "by_channel": _list("channel_id", found.by_channel),
            "by_account": _list("account_id", found.by_account),
            "by_book": _list("book", grouped(found.by_account, book_of)),
        }


def _list(name: str, earned: Any) -> list[dict[str, Any]]:
    return [{name: each or None, **show_earned(figures)} for each, figures in dearest_first(earned)]


def _accepted(header: str) -> Form:
    """The first of our forms that an Accept header names; JSON where it names none."""
    for part in header.split(","):
        media_type = part.partition(";")[0].strip().lower()
        for form in FORMS:
            if MEDIA_TYPES[form] == media_type:
                return form
    return "json"


def _range(day: str | None, from_day: str | None, to_day: str | None) -> tuple[date, date]:
    """Raises InvalidField."""
    if day is not None:
        if from_day is not None or to_day is not None:
            raise InvalidField("day", "can't be sent with `from` or `to`")
        only = _day("day", day)
        return only, only
    today = datetime.fromtimestamp(now_ms() // 1000, UTC).date()
    last = today if to_day is None else _day("to", to_day)
    first = min(today, last) if from_day is None else _day("from", from_day)
    if first > last:
        raise InvalidField("to", "must not be before `from`")
    return first, last


def _day(name: str, sent: str) -> date:
    try:
        return date.fromisoformat(sent)
    except ValueError:
        raise InvalidField(name, "must be a day such as 2026-01-31") from None
