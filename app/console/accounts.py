"""Accounts, their credit and their keys."""

import ipaddress
from contextlib import suppress
from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, get, patch, post
from litestar.params import Parameter
from msgspec import UNSET, Meta, UnsetType

from app.base.clock import iso, now_ms, parse_iso
from app.base.errors import InvalidField, NotFound, ServiceUnavailable
from app.base.money import format_usd, parse_usd
from app.catalog import customers
from app.catalog.records import Account, Key
from app.catalog.tables import DEFAULT_BOOK
from app.console.office import Office, Page, page_cursor, page_limit, paged
from app.ledger.journal import add_credit, open_wallet, read_wallet, set_credit_line

__all__ = ["AccountsController", "KeysController", "live_balance", "read_expiry"]

Name = Annotated[str, Meta(min_length=1, max_length=200)]
_OVERLAP_MOST_S = 90 * 24 * 3600


class NewAccount(msgspec.Struct, forbid_unknown_fields=True):
    name: Name
    book: str = DEFAULT_BOOK


class AccountChange(msgspec.Struct, forbid_unknown_fields=True):
    name: Name | UnsetType = UNSET
    book: str | UnsetType = UNSET
    credit_line: str | UnsetType = UNSET


class NewCredit(msgspec.Struct, forbid_unknown_fields=True):
    """`promotional` money was given, not paid in; what is left at `expires_at` lapses."""

    amount: str
    promotional: bool = False
    expires_at: str | None = None
    memo: Annotated[str, Meta(max_length=1000)] = ""
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=200)] | None = None


class KeyLimits(msgspec.Struct, forbid_unknown_fields=True):
    """Null or 0: no limit."""

    rpm: Annotated[int, Meta(ge=0, le=10_000_000)] | None = None
    tpm: Annotated[int, Meta(ge=0, le=1_000_000_000)] | None = None
    concurrency: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None


class KeyChange(msgspec.Struct, forbid_unknown_fields=True):
    name: Name | UnsetType = UNSET
    models: Annotated[list[str], Meta(max_length=1000)] | None | UnsetType = UNSET
    allowed_cidrs: Annotated[list[str], Meta(max_length=1000)] | None | UnsetType = UNSET
    expires_at: str | None | UnsetType = UNSET
    limits: KeyLimits | None | UnsetType = UNSET
    budgets: list[dict[str, Any]] | None | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class Rotation(msgspec.Struct, forbid_unknown_fields=True):
    overlap_seconds: Annotated[int, Meta(ge=0, le=_OVERLAP_MOST_S)] = 0


class AccountsController(Controller):
    path = "/accounts"

    @post()
    async def create(self, office: Office, data: NewAccount) -> dict[str, Any]:
        async with office.database.write() as db:
            account = await customers.create_account(db, data.name, data.book)
            await open_wallet(db, account.id)
        return await _show_account(office, account)

    @get()
    async def list_all(self, office: Office, cursor: str = "", limit: int | None = None) -> Page:
        most = page_limit(limit)
        async with office.database.read() as db:
            found = await customers.list_accounts(db, page_cursor(cursor) or "", most + 1)
        page = paged(found, most, lambda account: account.id)
        page.items = [await _show_account(office, account) for account in page.items]
        return page

    @get("/{account_id:str}")
    async def read(self, office: Office, account_id: str) -> dict[str, Any]:
        return await _show_account(office, await _account(office, account_id))

    @patch("/{account_id:str}")
    async def change(self, office: Office, account_id: str, data: AccountChange) -> dict[str, Any]:
        values = {name: sent for name, sent in msgspec.structs.asdict(data).items() if sent is not UNSET}
        line = values.pop("credit_line", None)
        line_nano = None if line is None else parse_usd(line, "credit_line")
        async with office.database.write() as db:
            account = await customers.update_account(db, account_id, values)
            if account is None:
                raise NotFound(f"There is no account `{account_id}`.")
            if line_nano is not None and (await read_wallet(db, account_id)).floor_nano != -line_nano:
                await set_credit_line(db, account_id, -line_nano)
        if line_nano is not None:
            with suppress(ServiceUnavailable):
                await office.apply_credits(account_id)
        await office.announce(f"account:{account_id}")
        return await _show_account(office, account)

    @post("/{account_id:str}/credits")
    async def credit(
        self,
        office: Office,
        account_id: str,
        data: NewCredit,
        header_key: Annotated[str | None, Parameter(header="Idempotency-Key", required=False)] = None,
    ) -> dict[str, Any]:
        amount = parse_usd(data.amount, "amount")
        if amount <= 0:
            raise InvalidField("amount", "must be more than zero")
        async with office.database.write() as db:
            credit = await add_credit(
                db,
                account_id,
                amount,
                data.memo,
                data.idempotency_key or header_key,
                promotional=data.promotional,
                expires_at_ms=None if data.expires_at is None else read_expiry(data.expires_at),
            )
        # It is in the journal now. Where Redis is away, the bookkeeper applies it later.
        with suppress(ServiceUnavailable):
            await office.apply_credits(account_id)
        return {
            "entry_id": credit.entry_id,
            "amount": format_usd(credit.amount_nano),
            "promotional": data.promotional,
            "expires_at": data.expires_at,
            "balance": format_usd((await live_balance(office, account_id))[0]),
        }

    @post("/{account_id:str}/keys")
    async def create_key(self, office: Office, account_id: str, data: KeyChange) -> dict[str, Any]:
        values = _columns(data)
        if "name" not in values:
            raise InvalidField("name", "is required")
        await _account(office, account_id)
        async with office.database.write() as db:
            key, secret = await customers.create_key(db, account_id, values)
        return {**_show_key(key), "key": secret}

    @get("/{account_id:str}/keys")
    async def list_keys(self, office: Office, account_id: str, cursor: str = "", limit: int | None = None) -> Page:
        most = page_limit(limit)
        await _account(office, account_id)
        async with office.database.read() as db:
            found = await customers.list_keys(db, account_id, page_cursor(cursor) or "", most + 1)
        page = paged(found, most, lambda key: key.id)
        page.items = [_show_key(key) for key in page.items]
        return page


class KeysController(Controller):
    path = "/keys"

    @get("/{key_id:str}")
    async def read(self, office: Office, key_id: str) -> dict[str, Any]:
        async with office.database.read() as db:
            return _show_key(_found(await customers.find_key(db, key_id), key_id))

    @patch("/{key_id:str}")
    async def change(self, office: Office, key_id: str, data: KeyChange) -> dict[str, Any]:
        async with office.database.write() as db:
            key = _found(await customers.update_key(db, key_id, _columns(data)), key_id)
        await office.announce(f"key:{key_id}")
        return _show_key(key)

    @post("/{key_id:str}/rotate")
    async def rotate(self, office: Office, key_id: str, request: Request[Any, Any, Any]) -> dict[str, Any]:
        body = await request.body()
        rotation = msgspec.json.decode(body, type=Rotation) if body else Rotation()
        async with office.database.write() as db:
            _found(await customers.find_key(db, key_id), key_id)
            secret = await customers.rotate_key(db, key_id, rotation.overlap_seconds * 1000)
            key = _found(await customers.find_key(db, key_id), key_id)
        await office.announce(f"key:{key_id}")
        return {**_show_key(key), "key": secret}


async def _account(office: Office, account_id: str) -> Account:
    async with office.database.read() as db:
        account = await customers.find_account(db, account_id)
    if account is None:
        raise NotFound(f"There is no account `{account_id}`.")
    return account


async def live_balance(office: Office, account_id: str) -> tuple[int, int, int]:
    """Balance, holds and floor, in nano-USD: Redis's, live; the journal's where Redis does not have the wallet yet, or
    is away."""
    with suppress(ServiceUnavailable):
        if (wallet := await office.wallets.read(account_id)) is not None:
            return wallet.balance_nano, wallet.held_nano, wallet.floor_nano
    async with office.database.read() as db:
        row = await read_wallet(db, account_id)
    return row.balance_nano, 0, row.floor_nano


async def _show_account(office: Office, account: Account) -> dict[str, Any]:
    balance, held, floor = await live_balance(office, account.id)
    return {
        "id": account.id,
        "name": account.name,
        "book": account.book,
        "created_at": iso(account.created_at_ms),
        "balance": format_usd(balance),
        "held": format_usd(held),
        "credit_line": format_usd(-floor),
    }


def _found(key: Key | None, key_id: str) -> Key:
    if key is None:
        raise NotFound(f"There is no key `{key_id}`.")
    return key


def _columns(change: KeyChange) -> dict[str, Any]:
    """The columns that a change sets. Raises InvalidField."""
    values: dict[str, Any] = {}
    for name in ("name", "models", "enabled"):
        sent = getattr(change, name)
        if sent is not UNSET:
            values[name] = sent
    if change.allowed_cidrs is not UNSET:
        values["allowed_cidrs"] = None if change.allowed_cidrs is None else _networks(change.allowed_cidrs)
    if change.expires_at is not UNSET:
        values["expires_at_ms"] = None if change.expires_at is None else _expiry(change.expires_at)
    if change.limits is not UNSET:
        limits = change.limits or KeyLimits()
        values |= {name: getattr(limits, name) or 0 for name in ("rpm", "tpm", "concurrency")}
    if change.budgets is not UNSET and change.budgets:
        raise InvalidField("budgets", "budgets are not enforced yet: bound the key by its account's credit instead")
    return values


def _networks(sent: list[str]) -> list[str]:
    for index, cidr in enumerate(sent):
        try:
            ipaddress.ip_network(cidr)
        except ValueError:
            raise InvalidField(f"allowed_cidrs[{index}]", "must be a network such as 192.0.2.0/24") from None
    return sent


def read_expiry(sent: str) -> int:
    """Milliseconds. Raises InvalidField naming `expires_at`."""
    try:
        at_ms = parse_iso(sent)
        iso(at_ms)  # the last hours of the year 9999 are another year in UTC, which can't be shown
    except (ValueError, OverflowError):
        raise InvalidField("expires_at", "must be an RFC 3339 time such as 2030-01-31T00:00:00Z") from None
    return at_ms


def _expiry(sent: str) -> int:
    at_ms = read_expiry(sent)
    if at_ms <= now_ms():
        raise InvalidField("expires_at", "is in the past; to stop a key now, send `enabled: false`")
    return at_ms


def _show_key(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "account_id": key.account_id,
        "name": key.name,
        "hint": key.hint,
        "models": key.models,
        "allowed_cidrs": key.allowed_cidrs,
        "expires_at": None if key.expires_at_ms is None else iso(key.expires_at_ms),
        "limits": {name: getattr(key.limits, name) or None for name in ("rpm", "tpm", "concurrency")},
        "enabled": key.enabled,
        "created_at": iso(key.created_at_ms),
    }
