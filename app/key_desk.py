"""Keys that customers issue with their own, from the back rooms: within its bounds, and for its own account."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import now_ms
from app.base.database import Database
from app.base.errors import Conflict, Forbidden, InvalidField, InvalidKey, NotFound
from app.base.fields import named_fault
from app.catalog.bounds import narrowed
from app.catalog.customers import find_account
from app.catalog.keys import KeyFilter, create_key, list_keys, lock_key
from app.catalog.records import Key
from app.catalog.revocation import disable_key
from app.console.key_fields import KeyFields, columns_of_key, show_key
from app.console.office import page_cursor, page_limit, paged

__all__ = ["KeyDesk"]

_ISSUED_MOST = 1_000
_BY_OPERATORS = ("may_issue", "enabled")

_read = msgspec.json.Decoder(KeyFields).decode


class KeyDesk:
    def __init__(self, database: Database, announce: Callable[[str], Awaitable[None]]) -> None:
        self._database = database
        self._announce = announce

    async def issue(self, issuer_id: str, body: bytes) -> dict[str, Any]:
        values = columns_of_key(_fields(body))
        if "name" not in values:
            raise InvalidField("name", "is required")
        async with self._database.write() as db:
            issuer = await _issuer(db, issuer_id)
            if len(await list_keys(db, KeyFilter(issued_by=issuer_id), "", _ISSUED_MOST)) >= _ISSUED_MOST:
                raise Conflict(f"This key has issued {_ISSUED_MOST} keys: no key may issue more.")
            key, secret = await create_key(db, issuer.account_id, narrowed(issuer, values))
        return {**_shown(key), "key": secret}

    async def list_issued(self, issuer_id: str, query: Mapping[str, str]) -> dict[str, Any]:
        sent = query.get("limit")
        if sent is not None and not (sent.isascii() and sent.isdigit()):
            raise InvalidField("limit", "must be a whole number")
        most = page_limit(None if sent is None else int(sent[:9]))
        cursor = page_cursor(query.get("cursor")) or ""
        async with self._database.read() as db:
            await _issuer(db, issuer_id)
            found = await list_keys(db, KeyFilter(issued_by=issuer_id), cursor, most + 1)
        page = paged(found, most, lambda key: key.id)
        return {"object": "list", "data": [_shown(key) for key in page.items], "next": page.next}

    async def revoke(self, issuer_id: str, key_id: str) -> dict[str, Any]:
        async with self._database.write() as db:
            await _issuer(db, issuer_id)
            key = await lock_key(db, key_id)
            if key is None or key.issued_by != issuer_id:
                raise NotFound(f"This key has issued no key `{key_id}`.")
            revoked = await disable_key(db, key)
        await self._announce(revoked.event)
        return _shown(revoked.key)


async def _issuer(db: AsyncConnection, key_id: str) -> Key:
    """As it is now, not as a worker remembers it. Raises Forbidden, InvalidKey."""
    key = await lock_key(db, key_id)
    if key is None or not key.enabled or (key.expires_at_ms is not None and key.expires_at_ms <= now_ms()):
        raise InvalidKey
    account = await find_account(db, key.account_id)
    if account is None or not account.may_issue_keys or not key.may_issue:
        raise Forbidden("issuing_not_allowed", "This key may not issue others.")
    return key


def _fields(body: bytes) -> KeyFields:
    try:
        fields = _read(body)
    except msgspec.ValidationError as error:
        raise named_fault(str(error)) from None
    except msgspec.DecodeError as error:
        raise InvalidField(None, f"the body is not valid JSON ({error})") from None
    for name in _BY_OPERATORS:
        if getattr(fields, name) is not UNSET:
            raise InvalidField(name, "is for the operators to say")
    return fields


def _shown(key: Key) -> dict[str, Any]:
    return {"object": "key", **show_key(key)}
