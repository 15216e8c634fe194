"""A statement with the names that people know, in the form they ask for: for the API and the command line."""

from typing import Literal, get_args

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.errors import InvalidField
from app.catalog.customers import names_of_accounts, require_purse
from app.catalog.keys import owners_of_keys
from app.console.statement_forms import statement_csv, statement_html
from app.ledger.statements import Statement, make_statement, read_month, show_statement, with_members

__all__ = ["FORMS", "MEDIA_TYPES", "Form", "Paper", "draw_up", "read_form", "written"]

Form = Literal["json", "csv", "html"]
FORMS: tuple[Form, ...] = get_args(Form)
MEDIA_TYPES: dict[Form, str] = {"json": "application/json", "csv": "text/csv", "html": "text/html"}


class Paper(msgspec.Struct, frozen=True):
    """`names` are of keys and members, by their ids."""

    statement: Statement
    account: str
    names: dict[str, str]


def read_form(sent: str) -> Form:
    """Raises InvalidField."""
    for form in FORMS:
        if sent == form:
            return form
    raise InvalidField("format", f"must be one of {', '.join(FORMS)}")


async def draw_up(db: AsyncConnection, account_id: str, month: str) -> Paper:
    """Raises NotFound, InvalidField where `month` is none, or Conflict where another account pays for this one."""
    wanted = read_month(month)
    account = await require_purse(db, account_id)
    statement = await make_statement(db, account_id, wanted)
    owners = await owners_of_keys(db, [line.name for line in statement.by_key])
    account_of_key = {key_id: owner_id for key_id, (owner_id, _) in owners.items()}
    names = {key_id: name for key_id, (_, name) in owners.items()}
    names |= await names_of_accounts(db, set(account_of_key.values()))
    return Paper(with_members(statement, account_of_key), account.name, names)


def written(paper: Paper, form: Form) -> str:
    if form == "json":
        shown = {"name": paper.account, **show_statement(paper.statement, paper.names)}
        return msgspec.json.format(msgspec.json.encode(shown), indent=2).decode()
    write = statement_csv if form == "csv" else statement_html
    return write(paper.statement, paper.account, paper.names)
