"""Operators of a part of the house, as the admin key lets them in and out."""

from typing import Any

import msgspec
from litestar import Controller, Response, get, patch, post
from msgspec import UNSET, UnsetType

from app.base.clock import iso
from app.base.errors import InvalidField, NotFound
from app.catalog import operators
from app.catalog.customers import find_account
from app.catalog.records import Operator
from app.console.key_fields import Name
from app.console.office import Office, Page, page_cursor, page_limit, paged

__all__ = ["OperatorsController"]


class NewOperator(msgspec.Struct, forbid_unknown_fields=True):
    """Of the account and all below it."""

    name: Name
    account_id: str


class OperatorChange(msgspec.Struct, forbid_unknown_fields=True):
    name: Name | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class OperatorsController(Controller):
    path = "/operators"

    @post()
    async def create(self, office: Office, data: NewOperator) -> Response[dict[str, Any]]:
        """The token is in this answer and nowhere else."""
        async with office.database.write() as db:
            if await find_account(db, data.account_id) is None:
                raise InvalidField("account_id", f"there is no account `{data.account_id}`")
            operator, token = await operators.create_operator(db, data.name, data.account_id)
        shown = {**_show(operator), "token": token}
        return Response(shown, status_code=201, headers={"cache-control": "no-store"})

    @get()
    async def list_all(self, office: Office, cursor: str = "", limit: int | None = None) -> Page:
        most = page_limit(limit)
        async with office.database.read() as db:
            found = await operators.list_operators(db, page_cursor(cursor) or "", most + 1)
        page = paged(found, most, lambda operator: operator.id)
        page.items = [_show(operator) for operator in page.items]
        return page

    @patch("/{operator_id:str}")
    async def change(self, office: Office, operator_id: str, data: OperatorChange) -> dict[str, Any]:
        values = {name: sent for name, sent in msgspec.structs.asdict(data).items() if sent is not UNSET}
        async with office.database.write() as db:
            operator = await operators.update_operator(db, operator_id, values)
        if operator is None:
            raise NotFound(f"There is no operator `{operator_id}`.")
        return _show(operator)


def _show(operator: Operator) -> dict[str, Any]:
    return {
        "id": operator.id,
        "name": operator.name,
        "account_id": operator.account_id,
        "hint": operator.hint,
        "enabled": operator.enabled,
        "created_at": iso(operator.created_at_ms),
    }
