"""Accounts and their keys."""

from typing import Any

from sqlalchemy import Row, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import now_ms
from app.base.ids import digest, hint, new_id, new_key
from app.base.limits import Limits
from app.catalog.books import require_book
from app.catalog.records import Account, Key
from app.catalog.tables import DEFAULT_BOOK, accounts, key_secrets, keys

__all__ = [
    "books_of_accounts",
    "create_account",
    "create_key",
    "find_account",
    "find_key",
    "key_of_secret",
    "list_accounts",
    "list_keys",
    "rotate_key",
    "update_account",
    "update_key",
]


_IDS_A_QUERY = 10_000

_UNLIMITED = {
    "models": None,
    "allowed_cidrs": None,
    "expires_at_ms": None,
    "rpm": 0,
    "tpm": 0,
    "concurrency": 0,
    "enabled": True,
}

_with_secret = (
    select(
        keys,
        accounts.c.book,
        key_secrets.c.hint,
        key_secrets.c.expires_at_ms.label("secret_expires_at_ms"),
    )
    .join(key_secrets, key_secrets.c.key_id == keys.c.id)
    .join(accounts, accounts.c.id == keys.c.account_id)
)


async def create_account(db: AsyncConnection, name: str, book: str = DEFAULT_BOOK) -> Account:
    """Raises InvalidField where there is no such book."""
    await require_book(db, book)
    account = Account(id=new_id("acc"), name=name, book=book, created_at_ms=now_ms())
    columns = {"id": account.id, "name": name, "book": book, "created_at_ms": account.created_at_ms}
    await db.execute(insert(accounts).values(**columns))
    return account


async def update_account(db: AsyncConnection, account_id: str, values: dict[str, Any]) -> Account | None:
    """Raises InvalidField where there is no such book."""
    if "book" in values:
        await require_book(db, values["book"])
    if values:
        await db.execute(update(accounts).where(accounts.c.id == account_id).values(**values))
    return await find_account(db, account_id)


async def find_account(db: AsyncConnection, account_id: str) -> Account | None:
    row = (await db.execute(select(accounts).where(accounts.c.id == account_id))).first()
    return _account(row) if row else None


async def list_accounts(db: AsyncConnection, after: str, limit: int) -> list[Account]:
    """Oldest first, those after the id `after`."""
    rows = await db.execute(select(accounts).where(accounts.c.id > after).order_by(accounts.c.id).limit(limit))
    return [_account(row) for row in rows]


async def books_of_accounts(db: AsyncConnection, account_ids: list[str]) -> dict[str, str]:
    """The price book of each; those that do not exist are left out."""
    found: dict[str, str] = {}
    for start in range(0, len(account_ids), _IDS_A_QUERY):
        some = account_ids[start : start + _IDS_A_QUERY]
        rows = await db.execute(select(accounts.c.id, accounts.c.book).where(accounts.c.id.in_(some)))
        found |= {row.id: row.book for row in rows}
    return found


def _account(row: Row[Any]) -> Account:
    return Account(id=row.id, name=row.name, book=row.book, created_at_ms=row.created_at_ms)


async def create_key(db: AsyncConnection, account_id: str, values: dict[str, Any]) -> tuple[Key, str]:
    """A new key and its secret, which nobody can read again. What `values` leaves out is not limited."""
    key_id, secret = new_id("key"), new_key()
    created = now_ms()
    await db.execute(
        insert(keys).values(id=key_id, account_id=account_id, created_at_ms=created, **{**_UNLIMITED, **values})
    )
    await _add_secret(db, key_id, secret)
    key = await find_key(db, key_id)
    assert key is not None
    return key, secret


async def update_key(db: AsyncConnection, key_id: str, values: dict[str, Any]) -> Key | None:
    if values:
        await db.execute(update(keys).where(keys.c.id == key_id).values(**values))
    return await find_key(db, key_id)


async def rotate_key(db: AsyncConnection, key_id: str, overlap_ms: int) -> str:
    """A new secret for the same key; the earlier ones work for `overlap_ms` more."""
    ends = now_ms() + overlap_ms
    await db.execute(
        update(key_secrets)
        .where(
            key_secrets.c.key_id == key_id,
            or_(key_secrets.c.expires_at_ms.is_(None), key_secrets.c.expires_at_ms > ends),
        )
        .values(expires_at_ms=ends)
    )
    secret = new_key()
    await _add_secret(db, key_id, secret)
    return secret


async def _add_secret(db: AsyncConnection, key_id: str, secret: str) -> None:
    await db.execute(
        insert(key_secrets).values(
            digest=digest(secret), key_id=key_id, hint=hint(secret), expires_at_ms=None, created_at_ms=now_ms()
        )
    )


async def find_key(db: AsyncConnection, key_id: str) -> Key | None:
    query = _with_secret.where(keys.c.id == key_id, key_secrets.c.expires_at_ms.is_(None))
    row = (await db.execute(query)).first()
    return _key(row) if row else None


async def list_keys(db: AsyncConnection, account_id: str | None, after: str, limit: int) -> list[Key]:
    query = _with_secret.where(keys.c.id > after, key_secrets.c.expires_at_ms.is_(None))
    if account_id is not None:
        query = query.where(keys.c.account_id == account_id)
    return [_key(row) for row in await db.execute(query.order_by(keys.c.id).limit(limit))]


async def key_of_secret(db: AsyncConnection, secret_digest: bytes) -> Key | None:
    """The key that a secret opens; its expiry is the earlier of the key's and the secret's."""
    row = (await db.execute(_with_secret.where(key_secrets.c.digest == secret_digest))).first()
    return _key(row) if row else None


def _key(row: Row[Any]) -> Key:
    ends = [at for at in (row.expires_at_ms, row.secret_expires_at_ms) if at is not None]
    return Key(
        id=row.id,
        account_id=row.account_id,
        book=row.book,
        name=row.name,
        hint=row.hint,
        models=None if row.models is None else tuple(row.models),
        allowed_cidrs=None if row.allowed_cidrs is None else tuple(row.allowed_cidrs),
        expires_at_ms=min(ends, default=None),
        limits=Limits(rpm=row.rpm, tpm=row.tpm, concurrency=row.concurrency),
        enabled=row.enabled,
        created_at_ms=row.created_at_ms,
    )
