"""Customers' keys."""

from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, get, patch, post
from litestar.params import Parameter
from msgspec import Meta

from app.base.errors import InvalidField, NotFound
from app.catalog import keys
from app.catalog.keys import KeyFilter
from app.catalog.records import Key
from app.console.accounts import require_account
from app.console.key_fields import KeyFields, columns_of_key, show_key
from app.console.office import Office, Page, page_cursor, page_limit, paged

__all__ = ["AccountKeysController", "KeysController"]

_OVERLAP_MOST_S = 90 * 24 * 3600


class Rotation(msgspec.Struct, forbid_unknown_fields=True):
    overlap_seconds: Annotated[int, Meta(ge=0, le=_OVERLAP_MOST_S)] = 0


class AccountKeysController(Controller):
    path = "/accounts/{account_id:str}/keys"

    @post()
    async def create(self, office: Office, account_id: str, data: KeyFields) -> dict[str, Any]:
        values = columns_of_key(data)
        if "name" not in values:
            raise InvalidField("name", "is required")
        async with office.database.write() as db:
            await require_account(db, account_id)
            key, secret = await keys.create_key(db, account_id, values)
        return {**show_key(key), "key": secret}

    @get()
    async def list_all(
        self,
        office: Office,
        account_id: str,
        owner: str | None = None,
        tag: str | None = None,
        q: str | None = None,
        cursor: str = "",
        limit: int | None = None,
    ) -> Page:
        async with office.database.read() as db:
            await require_account(db, account_id)
        wanted = KeyFilter(account_ids=[account_id], owner=owner, tag=tag, q=q)
        return await _listed(office, wanted, cursor, limit)


class KeysController(Controller):
    path = "/keys"

    @get()
    async def list_all(
        self,
        office: Office,
        account_id: str | None = None,
        owner: str | None = None,
        tag: str | None = None,
        q: str | None = None,
        issued_by: Annotated[str | None, Parameter(required=False)] = None,
        cursor: str = "",
        limit: int | None = None,
    ) -> Page:
        account_ids = None if account_id is None else [account_id]
        wanted = KeyFilter(account_ids=account_ids, owner=owner, tag=tag, q=q, issued_by=issued_by)
        return await _listed(office, wanted, cursor, limit)

    @get("/{key_id:str}")
    async def read(self, office: Office, key_id: str) -> dict[str, Any]:
        async with office.database.read() as db:
            return show_key(_found(await keys.find_key(db, key_id), key_id))

    @patch("/{key_id:str}")
    async def change(self, office: Office, key_id: str, data: KeyFields) -> dict[str, Any]:
        async with office.database.write() as db:
            key = _found(await keys.update_key(db, key_id, columns_of_key(data)), key_id)
        await office.announce(f"key:{key_id}")
        return show_key(key)

    @post("/{key_id:str}/rotate")
    async def rotate(self, office: Office, key_id: str, request: Request[Any, Any, Any]) -> dict[str, Any]:
        body = await request.body()
        rotation = msgspec.json.decode(body, type=Rotation) if body else Rotation()
        async with office.database.write() as db:
            _found(await keys.find_key(db, key_id), key_id)
            secret = await keys.rotate_key(db, key_id, rotation.overlap_seconds * 1000)
            key = _found(await keys.find_key(db, key_id), key_id)
        await office.announce(f"key:{key_id}")
        return {**show_key(key), "key": secret}


async def _listed(office: Office, wanted: KeyFilter, cursor: str, limit: int | None) -> Page:
    most = page_limit(limit)
    async with office.database.read() as db:
        found = await keys.list_keys(db, wanted, page_cursor(cursor) or "", most + 1)
    page = paged(found, most, lambda key: key.id)
    page.items = [show_key(key) for key in page.items]
    return page


def _found(key: Key | None, key_id: str) -> Key:
    if key is None:
        raise NotFound(f"There is no key `{key_id}`.")
    return key
