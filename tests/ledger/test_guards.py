"""The database itself refuses what the books forbid, whoever asks: rows that are only ever added cannot be changed or
removed, and on PostgreSQL no entry is committed off balance."""

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError

from app.ledger.tables import entries, lots, postings, receipts, vouchers
from tests.ledger.office import Office

_ROW = {
    "entries": "SET memo = 'other'",
    "postings": "SET amount_nano = amount_nano + 1",
    "receipts": "SET amount_nano = 0",
    "price_versions": "SET model = 'other'",
}


async def _traded(office: Office) -> str:
    """Books with a row in every guarded table."""
    account = await office.account(10_000)
    await office.serve(account, 10)
    await office.keep_books()
    return account


async def _run(office: Office, statement: str) -> None:
    async with office.database.write() as db:
        await db.execute(text(statement))


@pytest.mark.parametrize("table", _ROW)
async def test_rows_are_only_ever_added(office: Office, table: str) -> None:
    """Neither edited nor removed, and the refusal names the table."""
    await _traded(office)
    for deed in (f"UPDATE {table} {_ROW[table]}", f"DELETE FROM {table}"):
        with pytest.raises(DBAPIError, match=rf"rows of {table}\w* are only ever added: {deed[:6]} is refused"):
            await _run(office, deed)
    assert (await office.verify()).ok


@pytest.mark.parametrize("table", _ROW)
async def test_tables_are_not_emptied(office: Office, table: str) -> None:
    """TRUNCATE and SQLite's DELETE of everything could both go past what guards single rows."""
    await _traded(office)
    deed = f"DELETE FROM {table}" if office.database.is_sqlite else f"TRUNCATE {table} CASCADE"
    with pytest.raises(DBAPIError, match=r"only ever added: (DELETE|TRUNCATE) is refused"):
        await _run(office, deed)
    assert (await office.verify()).ok


async def _parts(office: Office) -> list[str]:
    """The tables that receipts are in: on SQLite, one."""
    if office.database.is_sqlite:
        return ["receipts"]
    async with office.database.read() as db:
        return list(await db.scalars(text("SELECT relid::text FROM pg_partition_tree('receipts') WHERE isleaf")))


async def test_parts_of_the_receipts_are_guarded_too(office: Office) -> None:
    """A month's part is a table of its own, which can be named in a statement; its guards are its own as well."""
    await _traded(office)
    for part in await _parts(office):
        deeds = [f"DELETE FROM {part}"] if part in ("receipts", "receipts_default") else []
        deeds += [] if office.database.is_sqlite else [f"TRUNCATE {part}"]
        assert deeds
        for deed in deeds:
            with pytest.raises(DBAPIError, match="only ever added"):
                await _run(office, deed)


async def _write_entry(office: Office, amounts: list[int]) -> None:
    async with office.database.write() as db:
        row = {"id": "ent_x", "kind": "credit", "account_id": "acc_x", "created_at_ms": 1, "memo": ""}
        await db.execute(insert(entries).values(row))
        for number, amount in enumerate(amounts):
            values = {"entry_id": "ent_x", "ledger_account": f"account {number}", "amount_nano": amount}
            await db.execute(insert(postings).values(values))


async def test_an_entry_off_balance(office: Office) -> None:
    """PostgreSQL refuses it at the commit, naming it; SQLite has no check at that moment, and verify finds it."""
    if office.database.is_sqlite:
        await _write_entry(office, [5, -4])
        verdict = await office.verify()
        assert "entry ent_x is off balance by 1 nano" in verdict.problems
        return
    with pytest.raises(DBAPIError, match="entry ent_x is off balance by 1 nano"):
        await _write_entry(office, [5, -4])
    async with office.database.read() as db:
        assert (await db.execute(select(entries))).all() == []


async def test_postings_may_come_one_by_one(office: Office) -> None:
    """The balance counts at the end of the transaction: each statement by itself may be off."""
    await _write_entry(office, [5, -4, -1])
    assert (await office.verify()).ok


@pytest.mark.parametrize("remaining", [-1, 101])
async def test_a_lot_has_between_nothing_and_all_left(office: Office, remaining: int) -> None:
    """More than was given, or less than nothing, can't be left of a credit."""
    await _write_entry(office, [100, -100])
    with pytest.raises(DBAPIError, match="ck_lots_remaining_nano"):
        async with office.database.write() as db:
            await db.execute(
                insert(lots).values(
                    entry_id="ent_x", account_id="acc_x", promotional=True, amount_nano=100, remaining_nano=remaining
                )
            )


async def test_a_voucher_is_worth_something(office: Office) -> None:
    """A code for nothing, or for less, would be a trap."""
    row = {"digest": b"d" * 32, "id": "vch_1", "batch_id": "vcb_1", "hint": "x", "promotional": True, "note": ""}
    with pytest.raises(DBAPIError, match="ck_vouchers_amount_nano"):
        async with office.database.write() as db:
            await db.execute(insert(vouchers).values(**row, amount_nano=0, created_at_ms=1))


async def test_a_receipt_of_any_id_finds_a_place(office: Office) -> None:
    """An id that is no time of ours is taken like all others, and is there once."""
    account = await office.account(10_000)
    ids = ["req_000001x", "a stray", "req_ffffffffffff0000000000000000", "req_000000000000"]
    for request_id in ids:
        await office.serve(account, 10, request_id=request_id)
    assert await office.keep_books() == len(ids)
    async with office.database.read() as db:
        assert sorted(await db.scalars(select(receipts.c.request_id))) == sorted(ids)
    assert (await office.verify()).ok
