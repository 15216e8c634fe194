"""Accounts above and below each other, on both databases: who pays, whose limits count."""

from typing import Any

import msgspec
import pytest
from sqlalchemy import event

from app.base.database import Database
from app.base.errors import Conflict, InvalidField
from app.base.ids import digest
from app.base.limits import NO_LIMITS, Limits
from app.catalog.books import put_book
from app.catalog.customers import create_account, update_account
from app.catalog.keys import create_key, key_of_secret, write_uses
from app.catalog.lineage import DEPTH_MOST, ancestors, payer_of, subtree
from app.catalog.records import Key


async def opened(db: Database, name: str, **fields: Any) -> str:
    async with db.write() as write:
        return (await create_account(write, name, **fields)).id


async def member(db: Database, name: str, parent_id: str, **fields: Any) -> str:
    return await opened(db, name, **{"parent_id": parent_id, "wallet": "shared"} | fields)


async def key_of(db: Database, account_id: str) -> tuple[Key, bytes]:
    async with db.write() as write:
        _, secret = await create_key(write, account_id, {"name": "key"})
    async with db.read() as read:
        found = await key_of_secret(read, digest(secret))
    assert found is not None
    return found, digest(secret)


async def test_a_chain_ends_at_the_wallet_that_pays(db: Database) -> None:
    """Whatever is above that account does not count, and whatever is beside it neither."""
    top = await opened(db, "top")
    reseller = await opened(db, "reseller", parent_id=top)
    team = await member(db, "team", reseller)
    person = await member(db, "person", team)
    await member(db, "sibling", team)

    key, _ = await key_of(db, person)

    assert [account.name for account in key.chain] == ["person", "team", "reseller"]
    assert [account.name for account in (await key_of(db, top))[0].chain] == ["top"]
    async with db.read() as read:
        assert await ancestors(read, person) == [person, team, reseller, top]
        assert await payer_of(read, person) == reseller
        assert (await subtree(read, team))[person] == 1
        assert set(await subtree(read, person)) == {person}
        assert await ancestors(read, "acc_nobody") == []


async def test_a_key_is_loaded_with_two_queries(db: Database) -> None:
    """However deep its account is."""
    parent = await opened(db, "top")
    for number in range(DEPTH_MOST - 1):
        parent = await member(db, f"member-{number}", parent)
    _, secret_digest = await key_of(db, parent)
    statements = []
    event.listen(db.engine.sync_engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    async with db.read() as read:
        statements.clear()
        await key_of_secret(read, secret_digest)
    assert len([each for each in statements if "SELECT" in each.upper()]) == 2


async def test_an_account_without_limits_has_those_of_its_book(db: Database) -> None:
    """Each in the chain by its own book; one that has limits of its own has no others."""
    async with db.write() as write:
        for name, rpm in (("default", 10), ("resellers", 20)):
            await put_book(write, name, {"limits": msgspec.to_builtins(Limits(rpm=rpm))}, {})
    top = await opened(db, "top", book="resellers")
    team = await member(db, "team", top, limits=msgspec.to_builtins(Limits(tpm=5)))
    person = await member(db, "person", team)

    key, _ = await key_of(db, person)

    assert [account.limits for account in key.chain] == [Limits(rpm=10), Limits(tpm=5), Limits(rpm=20)]
    assert (key.limits, key.book) == (NO_LIMITS, "default")


@pytest.mark.parametrize("depth", [1, 2])
async def test_a_subtree_is_moved_no_deeper_than_accounts_may_be(db: Database, depth: int) -> None:
    """What hangs below the moved account counts."""
    chain = [await opened(db, "top")]
    while len(chain) < DEPTH_MOST - depth:
        chain.append(await opened(db, "below", parent_id=chain[-1]))
    moved = await opened(db, "moved")
    below = moved
    for _ in range(depth):
        below = await opened(db, "below", parent_id=below)
    async with db.write() as write:
        with pytest.raises(Conflict):
            await update_account(write, moved, {"parent_id": chain[-1]})
        with pytest.raises(InvalidField):
            await update_account(write, moved, {"parent_id": below})
        if len(chain) > 1:
            assert await update_account(write, moved, {"parent_id": chain[-2]})


async def test_the_latest_use_stands(db: Database) -> None:
    """Whichever worker writes it first."""
    key, secret_digest = await key_of(db, await opened(db, "acme"))
    for at_ms, address in ((20, "192.0.2.2"), (10, "192.0.2.1")):
        async with db.write() as write:
            await write_uses(write, [(key.id, at_ms, address), ("key_gone", at_ms, address)])
    async with db.read() as read:
        found = await key_of_secret(read, secret_digest)
    assert found is not None and (found.last_used_at_ms, found.last_used_address) == (20, "192.0.2.2")
