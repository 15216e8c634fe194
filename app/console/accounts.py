"""Accounts, their members and their credit."""

from contextlib import suppress
from typing import Any, Literal

import msgspec
from litestar import Controller, get, patch, post
from msgspec import UNSET, UnsetType
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import iso
from app.base.errors import Conflict, InvalidField, ServiceUnavailable
from app.base.money import format_usd, parse_usd
from app.catalog import customers
from app.catalog.lineage import payer_of, subtree
from app.catalog.records import Account
from app.catalog.tables import DEFAULT_BOOK
from app.console.key_fields import Name, read_expiry
from app.console.limit_fields import (
    BudgetFields,
    LimitFields,
    check_time_zone,
    columns_of_budgets,
    columns_of_model_limits,
    limits_of,
    show_budgets,
    show_limits,
)
from app.console.office import Office, Page, page_cursor, page_limit, paged
from app.console.remit import OPEN_TO_SUBTREE, Remit
from app.console.text_fields import IdempotencyHeader, IdempotencyKey, Memo, idempotency_key
from app.ledger.journal import add_credit, open_wallet, read_wallet, set_credit_line
from app.ledger.reports import money_moved

__all__ = ["AccountFields", "AccountsController", "columns_of_account", "live_balance", "show_terms"]

Wallet = Literal["own", "shared"]


class AccountFields(msgspec.Struct, forbid_unknown_fields=True):
    """What is left out stays as it is. `parent_id` is the account that it is a member of."""

    name: Name | UnsetType = UNSET
    book: str | UnsetType = UNSET
    parent_id: str | None | UnsetType = UNSET
    wallet: Wallet | UnsetType = UNSET
    limits: LimitFields | None | UnsetType = UNSET
    model_limits: dict[str, LimitFields] | None | UnsetType = UNSET
    budgets: list[BudgetFields] | None | UnsetType = UNSET
    time_zone: str | UnsetType = UNSET
    may_issue_keys: bool | UnsetType = UNSET
    credit_line: str | UnsetType = UNSET


class NewCredit(msgspec.Struct, forbid_unknown_fields=True):
    """`promotional` money was given, not paid in; what is left at `expires_at` lapses."""

    amount: str
    promotional: bool = False
    expires_at: str | None = None
    memo: Memo = ""
    idempotency_key: IdempotencyKey | None = None


class AccountsController(Controller):
    path = "/accounts"

    @post(opt=OPEN_TO_SUBTREE)
    async def create(self, office: Office, remit: Remit, data: AccountFields) -> dict[str, Any]:
        values, line_nano = columns_of_account(data), _credit_line(data)
        if "name" not in values:
            raise InvalidField("name", "is required")
        async with office.database.write() as db:
            if remit.root is not None:
                values |= await _as_member(db, remit, data)
            account = await customers.create_account(db, **{"book": DEFAULT_BOOK, **values})
            if account.wallet == "own":
                await open_wallet(db, account.id)
            await _set_line(db, account, line_nano)
        if line_nano:
            await _apply(office, account.id)
        return await _show_account(office, remit, account)

    @get(opt=OPEN_TO_SUBTREE)
    async def list_all(
        self, office: Office, remit: Remit, parent_id: str | None = None, cursor: str = "", limit: int | None = None
    ) -> Page:
        most = page_limit(limit)
        async with office.database.read() as db:
            among = await remit.accounts(db)
            after = page_cursor(cursor) or ""
            found = await customers.list_accounts(db, after, most + 1, parent_id=parent_id, among=among)
        page = paged(found, most, lambda account: account.id)
        page.items = [await _show_account(office, remit, account) for account in page.items]
        return page

    @get("/{account_id:str}", opt=OPEN_TO_SUBTREE)
    async def read(self, office: Office, remit: Remit, account_id: str) -> dict[str, Any]:
        async with office.database.read() as db:
            account = await remit.account(db, account_id)
        return await _show_account(office, remit, account)

    @patch("/{account_id:str}", opt=OPEN_TO_SUBTREE)
    async def change(self, office: Office, remit: Remit, account_id: str, data: AccountFields) -> dict[str, Any]:
        values, line_nano = columns_of_account(data), _credit_line(data)
        async with office.database.write() as db:
            before = await remit.account(db, account_id)
            if remit.root is not None:
                await _check_member_change(db, remit, account_id, data)
            paid_by = await payer_of(db, account_id)
            account = await customers.update_account(db, account_id, values)
            assert account is not None
            if await payer_of(db, account_id) != paid_by:
                await _check_unused(db, before, paid_by)
                if account.wallet == "own" and await read_wallet(db, account_id) is None:
                    await open_wallet(db, account_id)
            await _set_line(db, account, line_nano)
        if line_nano is not None:
            await _apply(office, account_id)
        await office.announce(f"account:{account_id}")
        return await _show_account(office, remit, account)

    @post("/{account_id:str}/credits")
    async def credit(
        self, office: Office, account_id: str, data: NewCredit, header_key: IdempotencyHeader = None
    ) -> dict[str, Any]:
        key = idempotency_key(data.idempotency_key, header_key)
        amount = parse_usd(data.amount, "amount")
        if amount <= 0:
            raise InvalidField("amount", "must be more than zero")
        async with office.database.write() as db:
            await customers.require_purse(db, account_id, stays=True)
            credit = await add_credit(
                db,
                account_id,
                amount,
                data.memo,
                key,
                promotional=data.promotional,
                expires_at_ms=None if data.expires_at is None else read_expiry(data.expires_at),
            )
        await _apply(office, account_id)
        return {
            "entry_id": credit.entry_id,
            "amount": format_usd(credit.amount_nano),
            "promotional": data.promotional,
            "expires_at": data.expires_at,
            "balance": format_usd((await live_balance(office, account_id))[0]),
        }


async def live_balance(office: Office, account_id: str) -> tuple[int, int | None, int]:
    """Balance, holds and floor, in nano-USD: Redis's, live, where the wallet is built if it is not there; while Redis
    is away the journal's, and nobody knows what is held."""
    with suppress(ServiceUnavailable):
        if (wallet := await office.wallets.read(account_id)) is None:
            await office.apply_credits(account_id)
            wallet = await office.wallets.read(account_id)
        if wallet is not None:
            return wallet.balance_nano, wallet.held_nano, wallet.floor_nano
    async with office.database.read() as db:
        row = await read_wallet(db, account_id)
    return row.balance_nano, None, row.floor_nano


async def _show_account(office: Office, remit: Remit, account: Account) -> dict[str, Any]:
    """With the figures of the wallet that it draws on, where that is the operator's business."""
    paid_by: str | None = account.id
    if account.wallet == "shared":
        async with office.database.read() as db:
            owner = await payer_of(db, account.id)
            paid_by = owner if await remit.has(db, owner) else None
    balance, held, floor = None, None, None
    if paid_by is not None:
        balance, held, floor = await live_balance(office, paid_by)
    return {
        "id": account.id,
        "name": account.name,
        "parent_id": account.parent_id,
        "wallet": account.wallet,
        "paid_by": paid_by,
        **show_terms(account),
        "created_at": iso(account.created_at_ms),
        "balance": None if balance is None else format_usd(balance),
        "held": None if held is None else format_usd(held),
        "credit_line": None if floor is None else format_usd(-floor),
    }


def show_terms(account: Account) -> dict[str, Any]:
    """What it pays by, and what it may use."""
    return {
        "book": account.book,
        "limits": show_limits(account.limits),
        "model_limits": {model: show_limits(limits) for model, limits in account.model_limits.items()},
        "budgets": show_budgets(account.budgets),
        "time_zone": account.time_zone,
        "may_issue_keys": account.may_issue_keys,
    }


async def _as_member(db: AsyncConnection, remit: Remit, sent: AccountFields) -> dict[str, Any]:
    """The columns of an account that the operator of a part opens: below one of theirs, by its prices, on its wallet.
    Raises Forbidden, NotFound."""
    _check_fields(remit, sent)
    assert remit.root is not None
    parent = await remit.account(db, remit.root if sent.parent_id is UNSET else sent.parent_id or "")
    return {"parent_id": parent.id, "wallet": "shared", "book": parent.book}


async def _check_member_change(db: AsyncConnection, remit: Remit, account_id: str, sent: AccountFields) -> None:
    """Raises Forbidden, NotFound."""
    _check_fields(remit, sent)
    if account_id == remit.root:
        remit.refuse("Your own account can be changed")
    if sent.parent_id is not UNSET:
        await remit.account(db, sent.parent_id or "")


def _check_fields(remit: Remit, sent: AccountFields) -> None:
    """Limits of those above hold on a shared wallet alone; money and prices come from above. Raises Forbidden."""
    for name in ("book", "credit_line"):
        if getattr(sent, name) is not UNSET:
            remit.refuse(f"`{name}` can be set")
    if sent.wallet == "own":
        remit.refuse("A wallet of its own can be opened")


def columns_of_account(sent: AccountFields) -> dict[str, Any]:
    """The columns that the fields set. Raises InvalidField."""
    as_sent = ("name", "book", "parent_id", "wallet", "may_issue_keys")
    values: dict[str, Any] = {name: value for name in as_sent if (value := getattr(sent, name)) is not UNSET}
    if sent.limits is not UNSET:
        values["limits"] = msgspec.to_builtins(limits_of(sent.limits))
    if sent.model_limits is not UNSET:
        values["model_limits"] = columns_of_model_limits(sent.model_limits)
    if sent.budgets is not UNSET:
        values["budgets"] = columns_of_budgets(sent.budgets)
    if sent.time_zone is not UNSET:
        check_time_zone(sent.time_zone)
        values["time_zone"] = sent.time_zone
    return values


def _credit_line(sent: AccountFields) -> int | None:
    """Raises InvalidField."""
    return None if sent.credit_line is UNSET else parse_usd(sent.credit_line, "credit_line")


async def _set_line(db: AsyncConnection, account: Account, line_nano: int | None) -> None:
    if line_nano is None:
        return
    await customers.require_purse(db, account.id)
    if (await read_wallet(db, account.id)).floor_nano != -line_nano:
        await set_credit_line(db, account.id, -line_nano)


async def _check_unused(db: AsyncConnection, account: Account, paid_by: str) -> None:
    """Money that has moved stays where it is. Raises Conflict."""
    members = await subtree(db, account.id)
    if await money_moved(db, account.id, list(members)):
        raise Conflict(
            f"The wallet of `{paid_by}` has been used for this account or its members: who pays for it can't change "
            "any more. Make a new account instead."
        )


async def _apply(office: Office, account_id: str) -> None:
    """What is in the journal now is brought to Redis; where that is away, the bookkeeper does it later."""
    with suppress(ServiceUnavailable):
        await office.apply_credits(account_id)
