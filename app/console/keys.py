"""Customers' keys, as operators issue, list, change and end them."""

from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, get, patch, post
from litestar.params import Parameter
from msgspec import Meta
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.errors import InvalidField, NotFound
from app.base.ids import keys_in
from app.catalog import keys
from app.catalog.keys import KeyFilter
from app.catalog.records import Key
from app.catalog.revocation import bound_issued, disable_key, revoke_secrets
from app.console.key_fields import BulkFields, KeyFields, columns_of_key, columns_of_keys, show_key
from app.console.office import Office, Page, page_cursor, page_limit, paged
from app.console.remit import OPEN_TO_SUBTREE, Remit
from app.console.statement_forms import csv_text, safe_cell

__all__ = ["LEAKED_MOST", "TEXT_MOST", "AccountKeysController", "KeysController", "issued_csv"]

_OVERLAP_MOST_S = 90 * 24 * 3600
TEXT_MOST = 1024 * 1024
LEAKED_MOST = 100
_NO_STORE = {"cache-control": "no-store"}


class Rotation(msgspec.Struct, forbid_unknown_fields=True):
    overlap_seconds: Annotated[int, Meta(ge=0, le=_OVERLAP_MOST_S)] = 0


class LeakedKeys(msgspec.Struct, forbid_unknown_fields=True):
    """A key, or a text with keys in it."""

    key: Annotated[str, Meta(max_length=TEXT_MOST)]


class AccountKeysController(Controller):
    path = "/accounts/{account_id:str}/keys"
    opt = OPEN_TO_SUBTREE

    @post()
    async def create(self, office: Office, remit: Remit, account_id: str, data: KeyFields) -> Response[dict[str, Any]]:
        """The secret is in this answer and nowhere else."""
        values = columns_of_key(data)
        if "name" not in values:
            raise InvalidField("name", "is required")
        async with office.database.write() as db:
            await remit.account(db, account_id)
            key, secret = await keys.create_key(db, account_id, values)
        return Response({**show_key(key), "key": secret}, status_code=201, headers=_NO_STORE)

    @post("/bulk")
    async def create_many(
        self,
        office: Office,
        remit: Remit,
        account_id: str,
        data: BulkFields,
        form: Annotated[str, Parameter(query="format", required=False)] = "json",
    ) -> Response[Any]:
        """All of them or none; the secrets are in this answer and nowhere else."""
        if form not in ("json", "csv"):
            raise InvalidField("format", "must be json or csv")
        wanted = columns_of_keys(data)
        async with office.database.write() as db:
            await remit.account(db, account_id)
            made = await keys.create_keys(db, account_id, wanted)
        if form == "json":
            items = [{**show_key(key), "key": secret} for key, secret in made]
            return Response({"items": items}, status_code=201, headers=_NO_STORE)
        headers = {**_NO_STORE, "content-disposition": f'attachment; filename="keys-{account_id}.csv"'}
        return Response(issued_csv(made), status_code=201, media_type="text/csv; charset=utf-8", headers=headers)

    @get()
    async def list_all(
        self,
        office: Office,
        remit: Remit,
        account_id: str,
        owner: str | None = None,
        tag: str | None = None,
        q: str | None = None,
        cursor: str = "",
        limit: int | None = None,
    ) -> Page:
        async with office.database.read() as db:
            await remit.account(db, account_id)
        wanted = KeyFilter(account_ids=[account_id], owner=owner, tag=tag, q=q)
        return await _listed(office, wanted, cursor, limit)


class KeysController(Controller):
    path = "/keys"
    opt = OPEN_TO_SUBTREE

    @get()
    async def list_all(
        self,
        office: Office,
        remit: Remit,
        account_id: str | None = None,
        owner: str | None = None,
        tag: str | None = None,
        q: str | None = None,
        issued_by: str | None = None,
        cursor: str = "",
        limit: int | None = None,
    ) -> Page:
        async with office.database.read() as db:
            among = await remit.accounts(db)
            if account_id is not None:
                await remit.account(db, account_id)
                among = (account_id,)
        wanted = KeyFilter(account_ids=among, owner=owner, tag=tag, q=q, issued_by=issued_by)
        return await _listed(office, wanted, cursor, limit)

    @get("/{key_id:str}")
    async def read(self, office: Office, remit: Remit, key_id: str) -> dict[str, Any]:
        async with office.database.read() as db:
            return show_key(await _seen(db, remit, await keys.find_key(db, key_id), key_id))

    @patch("/{key_id:str}")
    async def change(self, office: Office, remit: Remit, key_id: str, data: KeyFields) -> dict[str, Any]:
        """One that is disabled, or expires earlier, takes those with it that it issued."""
        values = columns_of_key(data)
        async with office.database.write() as db:
            key = await _seen(db, remit, await keys.lock_key(db, key_id), key_id)
            ended = list((await disable_key(db, key)).issued) if values.get("enabled") is False else []
            changed = await keys.update_key(db, key_id, values)
            assert changed is not None
            if "expires_at_ms" in values:
                ended += await bound_issued(db, changed)
        await office.announce(f"account:{key.account_id}" if ended else f"key:{key_id}")
        return show_key(changed)

    @post("/{key_id:str}/rotate")
    async def rotate(
        self, office: Office, remit: Remit, key_id: str, request: Request[Any, Any, Any]
    ) -> Response[dict[str, Any]]:
        body = await request.body()
        rotation = msgspec.json.decode(body, type=Rotation) if body else Rotation()
        async with office.database.write() as db:
            await _seen(db, remit, await keys.lock_key(db, key_id), key_id)
            secret = await keys.rotate_key(db, key_id, rotation.overlap_seconds * 1000)
            key = await keys.find_key(db, key_id)
            assert key is not None
        await office.announce(f"key:{key_id}")
        return Response({**show_key(key), "key": secret}, status_code=201, headers=_NO_STORE)

    @post("/revoke", status_code=200)
    async def revoke(self, office: Office, remit: Remit, data: LeakedKeys) -> dict[str, Any]:
        """Every key in the text is ended, and what it issued; but one that a rotation has followed loses that secret
        alone, and is `whole: false`. `unknown` counts those that are nobody's."""
        found = keys_in(data.key)
        if not 1 <= len(found) <= LEAKED_MOST:
            raise InvalidField("key", f"must have from 1 to {LEAKED_MOST} keys of a gateway in it")
        async with office.database.write() as db:
            revoked = await revoke_secrets(db, found, remit.has)
        for event in dict.fromkeys(each.event for each in revoked):
            await office.announce(event)
        shown = [{**show_key(each.key), "whole": each.whole, "issued": each.issued} for each in revoked]
        return {"revoked": shown, "unknown": len(found) - len(revoked)}


def issued_csv(made: list[tuple[Key, str]]) -> str:
    """Keys that were just issued, with their secrets."""
    return csv_text(("id", "name", "key"), [(key.id, safe_cell(key.name), secret) for key, secret in made])


async def _listed(office: Office, wanted: KeyFilter, cursor: str, limit: int | None) -> Page:
    most = page_limit(limit)
    async with office.database.read() as db:
        found = await keys.list_keys(db, wanted, page_cursor(cursor) or "", most + 1)
    page = paged(found, most, lambda key: key.id)
    page.items = [show_key(key) for key in page.items]
    return page


async def _seen(db: AsyncConnection, remit: Remit, key: Key | None, key_id: str) -> Key:
    """Raises NotFound where there is none, or none that the operator may know of."""
    if key is None or not await remit.has(db, key.account_id):
        raise NotFound(f"There is no key `{key_id}`.")
    return key
