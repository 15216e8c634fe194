"""A statement with the names that people know, in the form they ask for: for the API and the command line."""

from typing import Literal, get_args

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.errors import InvalidField, NotFound
from app.catalog.customers import find_account
from app.catalog.keys import KeyFilter, list_keys
from app.console.statement_forms import statement_csv, statement_html
from app.ledger.statements import Statement, make_statement, read_month, show_statement

__all__ = ["FORMS", "MEDIA_TYPES", "Form", "Paper", "draw_up", "read_form", "written"]

Form = Literal["json", "csv", "html"]
FORMS: tuple[Form, ...] = get_args(Form)
MEDIA_TYPES: dict[Form, str] = {"json": "application/json", "csv": "text/csv", "html": "text/html"}
_KEYS_MOST = 100_000


class Paper(msgspec.Struct, frozen=True):
    statement: Statement
    account: str
    key_names: dict[str, str]


def read_form(sent: str) -> Form:
    """Raises InvalidField."""
    for form in FORMS:
        if sent == form:
            return form
    raise InvalidField("format", f"must be one of {', '.join(FORMS)}")


async def draw_up(db: AsyncConnection, account_id: str, month: str) -> Paper:
    """Raises NotFound, or InvalidField where `month` is none."""
    wanted = read_month(month)
    account = await find_account(db, account_id)
    if account is None:
        raise NotFound(f"There is no account `{account_id}`.")
    keys = await list_keys(db, KeyFilter(account_ids=[account_id]), "", _KEYS_MOST)
    return Paper(await make_statement(db, account_id, wanted), account.name, {key.id: key.name for key in keys})


def written(paper: Paper, form: Form) -> str:
    if form == "json":
        shown = {"name": paper.account, **show_statement(paper.statement, paper.key_names)}
        return msgspec.json.format(msgspec.json.encode(shown), indent=2).decode()
    write = statement_csv if form == "csv" else statement_html
    return write(paper.statement, paper.account, paper.key_names)
