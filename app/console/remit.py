"""Who may do what at the operator API: the admin key everything, an operator's token what is opened to it, within the
accounts that it was given. What says nothing is for the admin key alone."""

import hmac
from typing import Any

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.addresses import client_address
from app.base.errors import Forbidden, InvalidKey, NotFound
from app.base.ids import digest, is_wellformed_token
from app.catalog.customers import find_account
from app.catalog.lineage import ancestors, subtree
from app.catalog.operators import operator_of_token
from app.catalog.records import Account
from app.console.office import Office

__all__ = ["OPEN_TO_SUBTREE", "Remit", "given_remit", "operator_guard", "whole_house_only"]

# A route's `opt`: an operator of a part of the house may use it, and it keeps to that part.
OPEN_TO_SUBTREE = {"open_to_subtree": True}


class Remit(msgspec.Struct, frozen=True):
    """`root` is the account whose subtree an operator has; None stands for the whole house."""

    root: str | None = None

    async def account(self, db: AsyncConnection, account_id: str) -> Account:
        """Raises NotFound where there is none, or none that the operator may know of."""
        account = await find_account(db, account_id)
        if account is None or not await self.has(db, account_id):
            raise NotFound(f"There is no account `{account_id}`.")
        return account

    async def has(self, db: AsyncConnection, account_id: str) -> bool:
        return self.root is None or self.root in await ancestors(db, account_id)

    async def accounts(self, db: AsyncConnection) -> tuple[str, ...] | None:
        """The ids of all; None where everything is."""
        return None if self.root is None else tuple(await subtree(db, self.root))

    def refuse(self, what: str) -> None:
        """Raises Forbidden for whom only a part of the house is."""
        if self.root is not None:
            raise whole_house_only(what)


def whole_house_only(what: str) -> Forbidden:
    return Forbidden("whole_house_only", f"{what} only with the admin key.")


async def operator_guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """`Authorization: Bearer <admin key or operator's token>`. Raises InvalidKey, RateLimited, Forbidden."""
    office: Office = connection.app.state.office
    scheme, _, sent = connection.headers.get("authorization", "").partition(" ")
    sent = sent.strip() if scheme.lower() == "bearer" else ""
    if not sent:  # no guess
        raise InvalidKey("The admin key is missing.")
    is_admin = hmac.compare_digest(digest(sent), office.admin_digest)
    address = _address(connection, office)
    if is_admin and office.guesses.is_familiar(address):
        connection.state.remit = Remit()
        return
    remit = await office.guesses.attempt(address, lambda: _remit_of(office, sent, is_admin=is_admin))
    if remit is None:
        raise InvalidKey("The admin key is missing or wrong.")
    connection.state.remit = remit
    if remit.root is not None and not handler.opt.get("open_to_subtree", False):
        raise whole_house_only("This can be done")


def given_remit(request: Request[Any, Any, Any]) -> Remit:
    remit: Remit = request.state.remit
    return remit


async def _remit_of(office: Office, token: str, *, is_admin: bool) -> Remit | None:
    """Read anew at each request: an operator who was let go is out at once."""
    if is_admin:
        return Remit()
    if not is_wellformed_token(token):
        return None
    async with office.database.read() as db:
        operator = await operator_of_token(db, token)
    return None if operator is None else Remit(operator.account_id)


def _address(connection: ASGIConnection[Any, Any, Any, Any], office: Office) -> str:
    peer = connection.client.host if connection.client else ""
    return client_address(peer, connection.headers.getall("x-forwarded-for", []), office.trusted_proxies)
