"""Customers' keys. Only hashes of their secrets are kept."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Row, Select, String, bindparam, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import now_ms
from app.base.database import in_parts
from app.base.ids import digest, hint, new_id, new_key
from app.base.limits import Budget, Limits
from app.catalog.lineage import chain_of
from app.catalog.records import Key
from app.catalog.tables import accounts, key_secrets, keys

__all__ = [
    "KeyFilter",
    "create_key",
    "create_keys",
    "find_key",
    "key_of_secret",
    "list_keys",
    "lock_key",
    "owners_of_keys",
    "rotate_key",
    "update_key",
    "write_uses",
]

_UNLIMITED = {
    "models": None,
    "allowed_cidrs": None,
    "expires_at_ms": None,
    "rpm": 0,
    "tpm": 0,
    "concurrency": 0,
    "enabled": True,
}
_LIMITS = Limits.__struct_fields__

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
_current = _with_secret.where(key_secrets.c.expires_at_ms.is_(None))


class KeyFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which keys to list; None means any. `q` is a part of a name, a note, an owner, a hint or an id."""

    account_ids: Sequence[str] | None = None
    owner: str | None = None
    tag: str | None = None
    q: str | None = None
    issued_by: str | None = None


async def create_key(db: AsyncConnection, account_id: str, values: Mapping[str, Any]) -> tuple[Key, str]:
    """A new key and its secret, which nobody can read again. What `values` leaves out is not limited."""
    ((key, secret),) = await create_keys(db, account_id, [values])
    return key, secret


async def create_keys(
    db: AsyncConnection, account_id: str, wanted: Sequence[Mapping[str, Any]]
) -> list[tuple[Key, str]]:
    """Several, in the order of their columns in `wanted`, each with its secret."""
    created = now_ms()
    # In the order of their ids, which is the order of lists: those of one millisecond come in none.
    secrets = {key_id: new_key() for key_id in sorted(new_id("key") for _ in wanted)}
    own = {"account_id": account_id, "created_at_ms": created}
    rows = [{"id": each, **own, **_UNLIMITED, **values} for each, values in zip(secrets, wanted, strict=True)]
    await db.execute(insert(keys), rows)
    await _add_secrets(db, secrets)
    made = {row.id: _key(row) for row in await db.execute(_current.where(keys.c.id.in_(secrets)))}
    return [(made[key_id], secret) for key_id, secret in secrets.items()]


async def update_key(db: AsyncConnection, key_id: str, values: Mapping[str, Any]) -> Key | None:
    if values:
        await db.execute(update(keys).where(keys.c.id == key_id).values(**values))
    return await find_key(db, key_id)


async def lock_key(db: AsyncConnection, key_id: str) -> Key | None:
    """Until the end of the transaction nobody else changes it."""
    await db.execute(select(keys.c.id).where(keys.c.id == key_id).with_for_update())
    return await find_key(db, key_id)


async def write_uses(db: AsyncConnection, uses: Sequence[tuple[str, int, str]]) -> None:
    """(key id, ms since 1970, address): the latest stands, whoever writes it first."""
    rows = [{"key": key_id, "at": at_ms, "address": address} for key_id, at_ms, address in uses]
    await db.execute(_note_use, rows)


_note_use = (
    update(keys)
    .where(keys.c.id == bindparam("key"))
    .where(or_(keys.c.last_used_at_ms.is_(None), keys.c.last_used_at_ms < bindparam("at", type_=BigInteger())))
    .values(last_used_at_ms=bindparam("at", type_=BigInteger()), last_used_address=bindparam("address"))
)


async def rotate_key(db: AsyncConnection, key_id: str, overlap_ms: int) -> str:
    """A new secret for the same key, which must be locked; the earlier ones work for `overlap_ms` more."""
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
    await _add_secrets(db, {key_id: secret})
    return secret


async def _add_secrets(db: AsyncConnection, secrets: Mapping[str, str]) -> None:
    blank = {"expires_at_ms": None, "created_at_ms": now_ms()}
    rows = [
        {"digest": digest(secret), "key_id": key_id, "hint": hint(secret), **blank}
        for key_id, secret in secrets.items()
    ]
    await db.execute(insert(key_secrets), rows)


async def find_key(db: AsyncConnection, key_id: str) -> Key | None:
    row = (await db.execute(_current.where(keys.c.id == key_id))).first()
    return _key(row) if row else None


async def list_keys(db: AsyncConnection, wanted: KeyFilter, after: str, limit: int) -> list[Key]:
    """Oldest first, those after the id `after`."""
    query = _current.where(keys.c.id > after)
    if wanted.account_ids is not None:
        query = query.where(keys.c.account_id.in_(wanted.account_ids))
    if wanted.owner is not None:
        query = query.where(keys.c.owner == wanted.owner)
    if wanted.issued_by is not None:
        query = query.where(keys.c.issued_by == wanted.issued_by)
    if wanted.tag is not None:
        query = query.where(_has_tag(db, wanted.tag))
    if wanted.q:
        places = (keys.c.name, keys.c.note, keys.c.owner, key_secrets.c.hint, keys.c.id)
        query = query.where(or_(*(place.icontains(wanted.q, autoescape=True) for place in places)))
    return [_key(row) for row in await db.execute(query.order_by(keys.c.id).limit(limit))]


def _has_tag(db: AsyncConnection, tag: str) -> Any:
    each = func.json_array_elements_text if db.dialect.name == "postgresql" else func.json_each
    tags = each(keys.c.tags, type_=String).table_valued("value", joins_implicitly=True)
    found: Select[Any] = select(tags.c.value).where(tags.c.value == tag)
    return found.exists()


async def owners_of_keys(db: AsyncConnection, key_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The account and the name of each; those that do not exist are left out."""
    found: dict[str, tuple[str, str]] = {}
    for some in in_parts(key_ids):
        rows = await db.execute(select(keys.c.id, keys.c.account_id, keys.c.name).where(keys.c.id.in_(some)))
        found |= {row.id: (row.account_id, row.name) for row in rows}
    return found


async def key_of_secret(db: AsyncConnection, secret_digest: bytes) -> Key | None:
    """The key that a secret opens, with the accounts that its requests count for; its expiry is the earlier of the
    key's and the secret's."""
    row = (await db.execute(_with_secret.where(key_secrets.c.digest == secret_digest))).first()
    return None if row is None else msgspec.structs.replace(_key(row), chain=await chain_of(db, row.account_id))


def _key(row: Row[Any]) -> Key:
    ends = [at for at in (row.expires_at_ms, row.secret_expires_at_ms) if at is not None]
    return Key(
        id=row.id,
        account_id=row.account_id,
        book=row.book,
        name=row.name,
        hint=row.hint,
        models=_tuple(row.models),
        allowed_cidrs=_tuple(row.allowed_cidrs),
        expires_at_ms=min(ends, default=None),
        limits=Limits(**{name: getattr(row, name) for name in _LIMITS}),
        enabled=row.enabled,
        created_at_ms=row.created_at_ms,
        budgets=msgspec.convert(row.budgets, tuple[Budget, ...]),
        scopes=_tuple(row.scopes),
        note=row.note,
        tags=tuple(row.tags),
        owner=row.owner,
        may_issue=row.may_issue,
        issued_by=row.issued_by,
        last_used_at_ms=row.last_used_at_ms,
        last_used_address=row.last_used_address,
    )


def _tuple(listed: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if listed is None else tuple(listed)
