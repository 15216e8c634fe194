"""Refunds of what promotional credit paid: it is promotional credit again, in the reverse order of its spending."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from app.base.clock import now_ms
from app.base.errors import Conflict
from app.ledger.corrections import refund
from app.ledger.journal import Credit
from app.ledger.tables import lots, receipts
from tests.ledger.office import Office

_DAY_MS = 24 * 3_600_000


async def _refund(office: Office, request_id: str, nano: int | None) -> Credit:
    async with office.database.write() as db:
        made = await refund(db, request_id, nano, "sorry", None)
    await office.books.apply_credits(made.account_id)
    return made


async def _served(office: Office, account: str, nano: int) -> str:
    """A request of so many nano, on the books: 2 a token, and 3."""
    receipt = await office.serve(account, (nano - 3) // 2)
    assert receipt.amount_nano == nano
    await office.keep_books()
    return receipt.request_id


async def _purses(office: Office, account: str) -> tuple[int, int]:
    """Paid and promotional money, by the journal's postings; the books must prove themselves."""
    await office.keep_books()
    assert (await office.verify()).problems == []
    sums = await office.sums()
    return sums.get(f"wallet:{account}", 0), sums.get(f"promo:{account}", 0)


async def test_what_promotional_credit_paid_comes_back_as_promotional_credit(office: Office) -> None:
    """A charge of 23, of which a gift of 20 paid all but 3: plain money comes back first, and the rest is a lot."""
    account = await office.account(100)
    given = await office.give(account, 20)
    request_id = await _served(office, account, 23)
    async with office.database.read() as db:
        assert await db.scalar(select(receipts.c.lot_parts)) == f"{given}:20"
    plain = await _refund(office, request_id, 2)
    assert (plain.lot, await _purses(office, account)) == (None, (99, 0))
    mixed = await _refund(office, request_id, 5)
    assert mixed.lot is not None
    assert (mixed.amount_nano, mixed.lot.remaining_nano, mixed.lot.promotional) == (5, 4, True)
    assert await _purses(office, account) == (100, 4)
    rest = await _refund(office, request_id, None)
    assert (rest.amount_nano, await _purses(office, account)) == (16, (100, 20))
    assert (await office.sums()).get("revenue", 0) == 0
    assert await office.redis_lots(account) == await office.lots(account) == {mixed.entry_id: 4, rest.entry_id: 16}


async def test_a_refund_never_makes_paid_credit_of_a_gift(office: Office) -> None:
    """A charge that a gift paid whole: what is given back can lapse, as the gift could."""
    account = await office.account()
    await office.give(account, 100, expires_in_ms=90 * _DAY_MS)
    made = await _refund(office, await _served(office, account, 23), None)
    assert made.lot is not None and made.lot.remaining_nano == 23
    assert await _purses(office, account) == (0, 100)


@pytest.mark.parametrize(
    ("days", "lasts"),
    [((90,), 90), ((1,), 30), ((90, 60), 60), ((90, None), 90), ((None,), None)],
    ids=["as the lot did", "a month at least", "the earliest of several", "some never expire", "never"],
)
async def test_it_expires_when_the_lot_did_and_not_within_a_month(office: Office, days: Any, lasts: int | None) -> None:
    account = await office.account()
    for each in days:
        await office.give(account, 20 // len(days), expires_in_ms=None if each is None else each * _DAY_MS)
    from_ms = now_ms()
    request_id = await _served(office, account, 19)
    made = await _refund(office, request_id, None)
    assert made.lot is not None
    if lasts is None:
        assert made.lot.expires_at_ms is None
        return
    async with office.database.read() as db:
        known = list(await db.scalars(select(lots.c.expires_at_ms).where(lots.c.entry_id != made.entry_id)))
    assert made.lot.expires_at_ms is not None
    if lasts == 30:
        assert from_ms + 30 * _DAY_MS <= made.lot.expires_at_ms <= now_ms() + 30 * _DAY_MS
    else:
        assert made.lot.expires_at_ms == min(at_ms for at_ms in known if at_ms is not None)


async def test_the_lot_that_was_spent_last_comes_back_first(office: Office) -> None:
    """Two gifts paid; of a partial refund only the later one's expiry counts, and of the next one the earlier one's."""
    account = await office.account()
    for days in (60, 90):
        await office.give(account, 10, expires_in_ms=days * _DAY_MS)
    async with office.database.read() as db:
        sooner, later = sorted([at_ms for at_ms in await db.scalars(select(lots.c.expires_at_ms)) if at_ms])
    request_id = await _served(office, account, 19)
    parts = [await _refund(office, request_id, nano) for nano in (9, 5, None)]
    assert [each.lot and each.lot.expires_at_ms for each in parts] == [later, sooner, sooner]


async def test_paid_credit_that_expires_comes_back_as_plain_money(office: Office) -> None:
    """It was paid for: giving it back must not take it away again."""
    account = await office.account()
    await office.give(account, 100, expires_in_ms=90 * _DAY_MS, promotional=False)
    made = await _refund(office, await _served(office, account, 23), None)
    assert made.lot is None
    assert await _purses(office, account) == (100, 0)


async def test_a_receipt_of_the_version_before_is_refunded_as_plain_money(office: Office) -> None:
    """Nobody wrote down which lots paid for it."""
    account = await office.account(100)
    await office.give(account, 20)
    request_id = await _served(office, account, 23)
    await office.tamper("UPDATE receipts SET lot_parts = NULL")
    assert (await _refund(office, request_id, None)).lot is None
    assert await _purses(office, account) == (120, 0)


async def test_refunds_of_promotional_credit_at_once_never_pass_the_charge(office: Office) -> None:
    account = await office.account(100)
    await office.give(account, 20)
    request_id = await _served(office, account, 23)
    given = await asyncio.gather(*(_refund(office, request_id, 13) for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(each, Credit) for each in given) == 1
    assert sum(isinstance(each, Conflict) for each in given) == 3
    assert await _purses(office, account) == (100, 10)
