"""A part of the catalogue, declared: models, price books, accounts and channels by name. What it does not mention stays
as it is. It is put there in one transaction, or not at all; the difference that it makes is told field by field.

The difference is worked out by making it: a dry run is rolled back.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import UNSET
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.crypto import Sealer
from app.base.database import Database
from app.base.errors import Conflict, InvalidField
from app.base.fields import named_fault
from app.catalog import books, customers, offers
from app.catalog.records import Account, Channel
from app.catalog.tables import DEFAULT_BOOK
from app.console.accounts import AccountFields, columns_of_account, show_terms
from app.console.channel_fields import ChannelFields, changed_columns, costs_of, new_columns
from app.console.declared_views import FieldChange, View, channel_view, differences, view
from app.console.models import ModelFields, columns_of_model, sale_prices_of, show_model
from app.console.prices import BookChange, columns_of_book, own_prices_of, show_book
from app.ledger.journal import open_wallet

__all__ = ["Applied", "Declared", "ObjectChange", "apply_declared", "read_declared"]

T = TypeVar("T")
Named = TypeVar("Named", Account, Channel)
Kind = Literal["model", "book", "account", "channel"]
Objects = dict[str, dict[str, Any] | None]

_ACCOUNTS_A_PAGE = 1000
_NOT_DECLARED = ("name", "parent_id", "wallet", "credit_line")


class Declared(msgspec.Struct, forbid_unknown_fields=True):
    """Each object by its name, with the fields that the operator API knows of it."""

    models: Objects = {}
    books: Objects = {}
    accounts: Objects = {}
    channels: Objects = {}


class ObjectChange(msgspec.Struct, frozen=True):
    """What became of one object; a new one is told by all fields that it has."""

    kind: Kind
    name: str
    does: Literal["new", "changed", "unchanged"]
    fields: tuple[FieldChange, ...]


class Applied(msgspec.Struct, frozen=True):
    """`events` are to be announced, once it is written."""

    changes: tuple[ObjectChange, ...]
    events: tuple[str, ...]

    @property
    def is_change(self) -> bool:
        return any(change.does != "unchanged" for change in self.changes)


class _RolledBackError(Exception):
    """Ends a transaction that is to leave nothing behind."""


def read_declared(sent: object) -> Declared:
    """Raises InvalidField."""
    try:
        return msgspec.convert({} if sent is None else sent, Declared)
    except msgspec.ValidationError as error:
        raise named_fault(str(error)) from None


async def apply_declared(
    database: Database,
    sealer: Sealer,
    default_urls: Mapping[str, str | None],
    declared: Declared,
    *,
    dry_run: bool,
    expected: Applied | None = None,
) -> Applied:
    """Raises InvalidField with the path of what can't be; Conflict where it is not what was `expected`."""
    applied = Applied((), ())
    with suppress(_RolledBackError):
        async with database.write() as db:
            applied = await _Hand(db, sealer, default_urls).put(declared)
            if expected is not None and applied.changes != expected.changes:
                raise Conflict("The catalogue has changed since the difference was shown: look at it again.")
            if dry_run or not applied.is_change:
                raise _RolledBackError
    return applied


class _Hand:
    """Puts declared objects into the catalogue, within one transaction."""

    def __init__(self, db: AsyncConnection, sealer: Sealer, default_urls: Mapping[str, str | None]) -> None:
        self._db = db
        self._sealer = sealer
        self._default_urls = default_urls
        self._changes: list[ObjectChange] = []
        self._events: list[str] = []

    async def put(self, declared: Declared) -> Applied:
        """Models first: books price them; and books before the accounts that pay by them."""
        await offers.lock_offers(self._db)
        for name, sent in declared.models.items():
            with _at("models", name):
                await self._put_model(name, dict(sent or {}))
        for name, sent in declared.books.items():
            with _at("books", name):
                await self._put_book(name, _read(sent, BookChange))
        await self._put_accounts(declared.accounts)
        await self._put_channels(declared.channels)
        if any(change.does != "unchanged" and change.kind != "account" for change in self._changes):
            self._events.append("catalog")
        return Applied(tuple(self._changes), tuple(self._events))

    async def _put_model(self, name: str, sent: dict[str, Any]) -> None:
        old = await offers.find_model(self._db, name)
        now = None if old is None else show_model(old)
        fields = _read(sent if now is None else _kept_of_model(now, sent), ModelFields)
        model, _ = await offers.put_model(self._db, name, columns_of_model(fields), sale_prices_of(fields))
        self._note("model", name, None if now is None else view(now), view(show_model(model)))

    async def _put_book(self, name: str, fields: BookChange) -> None:
        books.check_book_name(name, "name")
        old = await books.find_book(self._db, name)
        book, _ = await books.put_book(self._db, name, columns_of_book(fields), own_prices_of(fields))
        self._note("book", name, None if old is None else view(show_book(old)), view(show_book(book)))
        if old is not None and book.limits != old.limits:
            self._events.append(f"book:{name}")

    async def _put_accounts(self, declared: Objects) -> None:
        known = _by_name(await self._all_accounts()) if declared else {}
        for name, sent in declared.items():
            with _at("accounts", name):
                old = _only(known.get(name, []))
                await self._put_account(name, old, _read(sent, AccountFields))

    async def _put_account(self, name: str, old: Account | None, sent: AccountFields) -> None:
        for field in _NOT_DECLARED:
            if getattr(sent, field) is not UNSET:
                raise InvalidField(field, "can't be declared: it decides whose money is spent")
        values = columns_of_account(sent)
        if old is None:
            account = await customers.create_account(self._db, name, **{"book": DEFAULT_BOOK, **values})
            await open_wallet(self._db, account.id)
        else:
            changed = await customers.update_account(self._db, old.id, values)
            assert changed is not None
            account = changed
            if account != old:
                self._events.append(f"account:{account.id}")
        self._note("account", name, None if old is None else view(show_terms(old)), view(show_terms(account)))

    async def _put_channels(self, declared: Objects) -> None:
        known = _by_name(await offers.list_channels(self._db, self._sealer)) if declared else {}
        for name, sent in declared.items():
            with _at("channels", name):
                await self._put_channel(name, _only(known.get(name, [])), dict(sent or {}))

    async def _put_channel(self, name: str, known: Channel | None, sent: dict[str, Any]) -> None:
        if "name" in sent:
            raise InvalidField("name", "is what it is declared under")
        state = sent.pop("state", None)
        if state not in (None, "present", "absent"):
            raise InvalidField("state", "must be `present` or `absent`")
        if known is None and state == "absent":
            return
        if state is not None:
            sent["enabled"] = state == "present"
        fields = _read({**sent, "name": name}, ChannelFields)
        costs = costs_of(fields)
        if known is None:
            values = new_columns(fields, self._default_urls)
            new = await offers.create_channel(self._db, self._sealer, values, costs or {})
            self._note("channel", name, None, channel_view(new))
            return
        old = await offers.find_channel(self._db, self._sealer, known.id, for_change=True)
        assert old is not None
        values = changed_columns(fields, self._default_urls, old)
        changed = await offers.update_channel(self._db, self._sealer, old.id, values, costs)
        assert changed is not None
        self._note("channel", name, channel_view(old), channel_view(changed))

    async def _all_accounts(self) -> list[Account]:
        found: list[Account] = []
        while page := await customers.list_accounts(self._db, found[-1].id if found else "", _ACCOUNTS_A_PAGE):
            found += page
        return found

    def _note(self, kind: Kind, name: str, now: View | None, then: View) -> None:
        fields = differences(now or {}, then)
        does: Literal["new", "changed", "unchanged"] = "new" if now is None else "changed" if fields else "unchanged"
        self._changes.append(ObjectChange(kind, name, does, fields))


def _kept_of_model(now: Mapping[str, Any], sent: Mapping[str, Any]) -> dict[str, Any]:
    """A model is sold at prices, or free, or not at all: whichever of these is sent ends the others."""
    kept = {name: now[name] for name in ModelFields.__struct_fields__} | {"free": now["free"]}
    if now["free"] or sent.get("free"):
        kept["prices"] = None
    if sent.get("prices") is not None:
        kept["free"] = False
    return {**kept, **sent}


def _read(sent: Mapping[str, Any] | None, fields: type[T]) -> T:
    try:
        return msgspec.convert(dict(sent or {}), fields)
    except msgspec.ValidationError as error:
        raise named_fault(str(error)) from None


def _by_name(objects: Iterable[Named]) -> dict[str, list[Named]]:
    named: dict[str, list[Named]] = {}
    for each in objects:
        named.setdefault(each.name, []).append(each)
    return named


def _only(found: list[Named]) -> Named | None:
    if len(found) > 1:
        raise InvalidField(None, f"there are {len(found)} of this name, such as `{found[0].id}`: give them other names")
    return found[0] if found else None


@contextmanager
def _at(section: str, name: str) -> Iterator[None]:
    """Paths of faults begin at the root of what was declared."""
    try:
        yield
    except InvalidField as fault:
        raise InvalidField(f"{section}.{name}" + (f".{fault.param}" if fault.param else ""), fault.problem) from None
