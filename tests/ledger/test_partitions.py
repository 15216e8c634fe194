"""Receipts by month: on PostgreSQL a month is a range of request ids, made ahead of time; SQLite keeps one table."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from app.base.clock import now_ms
from app.ledger.partitions import first_id, make_partitions, month_of, next_month
from tests.ledger.office import Office


def _ms(year: int, month: int, day: int = 1) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 1000


def _request_id(at_ms: int) -> str:
    return f"req_{at_ms:012x}{7:016x}"


@pytest.mark.parametrize(
    ("at_ms", "month", "following"),
    [
        (_ms(2026, 11, 21), "2026-11-01", "2026-12-01"),
        (_ms(2026, 12, 1), "2026-12-01", "2027-01-01"),
        (_ms(2027, 1, 1) - 1, "2026-12-01", "2027-01-01"),
    ],
)
def test_months_follow_each_other(at_ms: int, month: str, following: str) -> None:
    """By UTC, December into January too."""
    this = month_of(at_ms)
    assert (f"{this:%Y-%m-%d}", f"{next_month(this):%Y-%m-%d}") == (month, following)


def test_a_month_is_a_range_of_ids() -> None:
    """The first id of a month is not before its bound, the last one is before the next."""
    month = month_of(_ms(2026, 11))
    bounds = (first_id(month), first_id(next_month(month)))
    assert bounds[0] <= _request_id(_ms(2026, 11)) < _request_id(_ms(2026, 12) - 1) < bounds[1]
    assert _request_id(_ms(2026, 11) - 1) < bounds[0]


async def _where(office: Office) -> dict[str, str]:
    """Which part each receipt is in; all the same one on SQLite."""
    part = "'receipts'" if office.database.is_sqlite else "tableoid::regclass::text"
    async with office.database.read() as db:
        rows = await db.execute(text(f"SELECT request_id, {part} FROM receipts"))
        return {row[0]: row[1] for row in rows}


async def _serve_in(office: Office, account: str, months: list[int]) -> list[str]:
    ids = [_request_id(at_ms) for at_ms in months]
    for request_id in ids:
        await office.serve(account, 10, request_id=request_id)
    await office.keep_books()
    return ids


async def test_a_receipt_is_in_its_month(office: Office) -> None:
    """This month and the next have parts from the start: what is posted now is in one of them."""
    account = await office.account(10_000)
    now = now_ms()
    (request_id,) = await _serve_in(office, account, [now])
    part = "receipts" if office.database.is_sqlite else f"receipts_{month_of(now):%Y_%m}"
    assert await _where(office) == {request_id: part}


@pytest.mark.parametrize("year", [2041])
async def test_what_waits_in_the_default_part_moves_to_its_month(office: Office, year: int) -> None:
    """No part was there when it was posted, as after a long stop: making the month's takes it along, and no other."""
    account = await office.account(10_000)
    ids = await _serve_in(office, account, [_ms(year, 3), _ms(year, 4, 30), _ms(year, 5)])
    made = await make_partitions(office.database, _ms(year, 3, 31))
    where = [(await _where(office))[request_id] for request_id in ids]
    if office.database.is_sqlite:
        assert (made, where) == ([], ["receipts"] * 3)
    else:
        months = [f"receipts_{year}_03", f"receipts_{year}_04"]
        assert (made, where) == (months, [*months, "receipts_default"])
    assert await make_partitions(office.database, _ms(year, 3, 31)) == [], "they are there"
    assert (await office.verify()).ok


async def test_a_month_made_later_is_guarded(office: Office) -> None:
    """Like those of the first day, the default part that was made anew included."""
    account = await office.account(10_000)
    (request_id,) = await _serve_in(office, account, [_ms(2042, 3)])
    await make_partitions(office.database, _ms(2042, 3))
    parts = ["receipts"] if office.database.is_sqlite else ["receipts_2042_03", "receipts_default", "receipts"]
    for part in parts:
        deed = f"DELETE FROM {part} WHERE request_id = :id" if part != "receipts_default" else f"TRUNCATE {part}"
        with pytest.raises(Exception, match="only ever added"):
            async with office.database.write() as db:
                await db.execute(text(deed), {"id": request_id} if ":id" in deed else {})


async def test_a_month_that_cannot_be_made_now_is_made_later(office: Office) -> None:
    """A long read holds the receipts: posting is not kept waiting behind it, and the next chore tries again."""
    async with office.database.read() as reader:
        await reader.execute(text("SELECT count(*) FROM receipts"))
        assert await make_partitions(office.database, _ms(2043, 3)) == []
    made = await make_partitions(office.database, _ms(2043, 3))
    assert made == ([] if office.database.is_sqlite else ["receipts_2043_03", "receipts_2043_04"])
