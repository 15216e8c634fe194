"""Ends keys: with what they issued, and by nothing but their text."""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import now_ms
from app.base.ids import digest
from app.catalog.keys import find_key, key_of_secret, lock_key
from app.catalog.records import Key
from app.catalog.tables import key_secrets, keys

__all__ = ["Revoked", "bound_issued", "disable_key", "revoke_secrets"]


class MayEnd(Protocol):
    async def __call__(self, db: AsyncConnection, account_id: str, /) -> bool: ...


class Revoked(msgspec.Struct, frozen=True):
    """`whole` where the key is at its end: else the secret was an earlier one, which a rotation had followed, and the
    later one still works. `issued` are the keys that ended with it."""

    key: Key
    whole: bool
    issued: tuple[str, ...] = ()

    @property
    def event(self) -> str:
        """What the workers have to hear."""
        return f"account:{self.key.account_id}" if self.issued else f"key:{self.key.id}"


async def revoke_secrets(db: AsyncConnection, secrets: Sequence[str], may_end: MayEnd) -> list[Revoked]:
    """Ends what these open, that were seen in the wrong place: those of accounts that `may_end` says. May be
    repeated."""
    revoked = []
    for secret in sorted(secrets):  # two with the same list wait for each other, and never in a circle
        key = await key_of_secret(db, digest(secret))
        if key is not None and await may_end(db, key.account_id):
            revoked.append(await _revoke(db, key.id, digest(secret)))
    return revoked


async def _revoke(db: AsyncConnection, key_id: str, secret_digest: bytes) -> Revoked:
    key = await lock_key(db, key_id)
    assert key is not None
    # Read behind the lock: a rotation may have been under way.
    of_secret = key_secrets.c.digest == secret_digest
    ends_ms = await db.scalar(select(key_secrets.c.expires_at_ms).where(of_secret))
    if ends_ms is None:
        return await disable_key(db, key)
    now = now_ms()
    if ends_ms > now:
        await db.execute(update(key_secrets).where(of_secret).values(expires_at_ms=now))
    return Revoked(key, whole=False)


async def disable_key(db: AsyncConnection, key: Key) -> Revoked:
    """For good, unless an operator enables it again; what it issued stays disabled even then."""
    await db.execute(update(keys).where(keys.c.id == key.id).values(enabled=False))
    ended = await _each_issued(db, key.id, keys.c.enabled, {"enabled": False})
    disabled = await find_key(db, key.id)
    assert disabled is not None
    return Revoked(disabled, whole=True, issued=tuple(ended))


async def bound_issued(db: AsyncConnection, key: Key) -> Sequence[str]:
    """Keys last no longer than the one that issued them; those that were shortened."""
    if key.expires_at_ms is None:
        return []
    expires = keys.c.expires_at_ms
    is_longer = or_(expires.is_(None), expires > key.expires_at_ms)
    return await _each_issued(db, key.id, is_longer, {"expires_at_ms": key.expires_at_ms})


async def _each_issued(db: AsyncConnection, key_id: str, is_meant: Any, values: dict[str, Any]) -> list[str]:
    """Changes what a key issued, and what that issued, until nothing is left: one of them may be issuing right now, and
    is waited for by the change of its own row."""
    changed: list[str] = []
    while True:
        below = select(keys.c.id).where(keys.c.issued_by == key_id).cte("below", recursive=True)
        below = below.union_all(select(keys.c.id).where(keys.c.issued_by == below.c.id))
        found = list(await db.scalars(select(keys.c.id).join(below, below.c.id == keys.c.id).where(is_meant)))
        if not found:
            return changed
        await db.execute(update(keys).where(keys.c.id.in_(found)).values(**values))
        changed += found
