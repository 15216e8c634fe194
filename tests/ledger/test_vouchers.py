"""Vouchers: each redeemed once whoever races for it, and not after it was cancelled or has expired."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from app.base.clock import now_ms
from app.base.errors import Conflict, InvalidField, NotFound
from app.base.ids import digest
from app.base.money import WALLET_MAX_NANO
from app.ledger.journal import Credit
from app.ledger.tables import lots, vouchers
from app.ledger.voucher_codes import new_code
from app.ledger.vouchers import Batch, NewBatch, cancel_batch, create_batch, list_vouchers, redeem
from tests.ledger.office import Office

_DAY_MS = 24 * 3600 * 1000


async def _make(office: Office, key: str | None = None, **values: Any) -> Batch:
    wanted = NewBatch(**{"count": 1, "amount_nano": 5_000_000_000} | values)
    async with office.database.write() as db:
        return await create_batch(db, wanted, key)


async def _redeem(office: Office, account_id: str, code: str) -> Credit:
    async with office.database.write() as db:
        return await redeem(db, account_id, code)


async def _list(office: Office, **values: Any) -> list[dict[str, Any]]:
    wanted: dict[str, Any] = {"batch_id": None, "state": None, "before": None, "limit": 100} | values
    async with office.database.read() as db:
        return await list_vouchers(db, **wanted)


async def test_a_voucher_is_credit_for_who_redeems_it(office: Office) -> None:
    """The entry, the wallet and the voucher tell the same story."""
    account = await office.account()
    batch = await _make(office)
    credit = await _redeem(office, account, batch.codes[0].lower())
    assert await office.journal_balance(account) == credit.amount_nano == 5_000_000_000
    (shown,) = await _list(office, batch_id=batch.id)
    assert (shown["state"], shown["redeemed_by"], shown["entry_id"]) == ("redeemed", account, credit.entry_id)


async def test_of_fifty_accounts_at_once_one_wins(office: Office) -> None:
    """The others are told that it was redeemed, have nothing, and the books are in order."""
    accounts = [await office.account() for _ in range(50)]
    (code,) = (await _make(office)).codes

    async def attempt(account_id: str) -> Credit | Conflict:
        try:
            return await _redeem(office, account_id, code)
        except Conflict as conflict:
            return conflict

    outcomes = await asyncio.gather(*map(attempt, accounts))

    won = [each for each in outcomes if isinstance(each, Credit)]
    assert len(won) == 1
    balances = {account: await office.journal_balance(account) for account in accounts}
    assert sum(balances.values()) == balances[won[0].account_id] == 5_000_000_000
    await office.keep_books()
    assert (await office.verify()).problems == []


async def test_one_account_gets_a_voucher_once(office: Office) -> None:
    """Sent again after a lost answer, it says who redeemed it."""
    account = await office.account()
    (code,) = (await _make(office)).codes
    await _redeem(office, account, code)
    with pytest.raises(Conflict, match="redeemed by you"):
        await _redeem(office, account, code)
    assert await office.journal_balance(account) == 5_000_000_000


async def test_a_code_that_nobody_made_is_not_found(office: Office) -> None:
    account = await office.account()
    with pytest.raises(NotFound):
        await _redeem(office, account, new_code())
    with pytest.raises(InvalidField):
        await _redeem(office, account, "TG-12345")


async def test_an_expired_voucher_is_not_redeemed(office: Office) -> None:
    account = await office.account()
    (code,) = (await _make(office, expires_at_ms=now_ms() - 1)).codes
    with pytest.raises(Conflict, match="expired"):
        await _redeem(office, account, code)
    assert await office.journal_balance(account) == 0


async def test_a_cancelled_batch_keeps_what_was_redeemed(office: Office) -> None:
    """The rest is refused from then on; cancelling again changes nothing."""
    account = await office.account()
    batch = await _make(office, count=3)
    await _redeem(office, account, batch.codes[0])
    for _ in range(2):
        async with office.database.write() as db:
            assert await cancel_batch(db, batch.id) == {"count": 3, "redeemed": 1, "cancelled": 2}
    with pytest.raises(Conflict, match="cancelled"):
        await _redeem(office, account, batch.codes[1])
    assert await office.journal_balance(account) == 5_000_000_000


async def test_a_batch_that_is_not_there_can_not_be_cancelled(office: Office) -> None:
    with pytest.raises(NotFound):
        async with office.database.write() as db:
            await cancel_batch(db, "vbt_nobody")


async def test_promotional_credit_that_lasts_some_days_is_a_lot(office: Office) -> None:
    """Its days count from the redemption."""
    account = await office.account()
    (code,) = (await _make(office, promotional=True, credit_days=30)).codes
    before = now_ms()
    credit = await _redeem(office, account, code)
    async with office.database.read() as db:
        lot = (await db.execute(select(lots).where(lots.c.entry_id == credit.entry_id))).one()
    assert (lot.promotional, lot.remaining_nano) == (True, 5_000_000_000)
    assert before + 30 * _DAY_MS <= lot.expires_at_ms <= now_ms() + 30 * _DAY_MS


async def test_a_voucher_that_does_not_fit_stays_open(office: Office) -> None:
    """Past what a wallet can hold nothing happens: the code is good for another account."""
    full, other = await office.account(WALLET_MAX_NANO - 1), await office.account()
    batch = await _make(office)
    with pytest.raises(Conflict):
        await _redeem(office, full, batch.codes[0])
    assert [each["state"] for each in await _list(office, batch_id=batch.id)] == ["open"]
    assert (await _redeem(office, other, batch.codes[0])).account_id == other


async def test_an_idempotency_key_makes_one_batch(office: Office) -> None:
    """Also at once; the repeats are told which batch it was, for the codes can't be shown again."""

    async def attempt() -> Batch | Conflict:
        try:
            return await _make(office, "order-7", count=20)
        except Conflict as conflict:
            return conflict

    outcomes = await asyncio.gather(*(attempt() for _ in range(5)))

    (made,) = [each for each in outcomes if isinstance(each, Batch)]
    refused = [each for each in outcomes if isinstance(each, Conflict)]
    assert len(refused) == 4 and all(made.id in each.message for each in refused)
    assert len(await _list(office)) == 20


async def test_only_hashes_of_codes_are_kept(office: Office) -> None:
    """No column of any row holds a code, or enough of it to guess."""
    (code,) = (await _make(office, note="summer")).codes
    async with office.database.read() as db:
        (row,) = (await db.execute(select(vouchers))).all()
    assert row.digest == digest(code)
    texts = " ".join(value for value in row if isinstance(value, str))
    assert not any(group in texts for group in code.split("-")[1:])


async def test_vouchers_are_listed_by_state_and_in_pages(office: Office) -> None:
    """Newest first, each in exactly one state."""
    account = await office.account()
    now = now_ms()
    redeemed = await _make(office, count=2, expires_at_ms=now + _DAY_MS)
    expired = await _make(office, count=2, expires_at_ms=now - 1)
    cancelled = await _make(office, count=2)
    waiting = await _make(office, count=2)
    for code in redeemed.codes:
        await _redeem(office, account, code)
    async with office.database.write() as db:
        await cancel_batch(db, cancelled.id)

    batches = {"redeemed": redeemed, "expired": expired, "cancelled": cancelled, "open": waiting}
    for state, batch in batches.items():
        found = await _list(office, state=state)
        assert [(each["batch_id"], each["state"]) for each in found] == [(batch.id, state)] * 2
    everything = [each["id"] for each in await _list(office)]
    assert everything == sorted(everything, reverse=True) and len(everything) == 8
    first = await _list(office, limit=3)
    rest = await _list(office, before=first[-1]["id"])
    assert [each["id"] for each in [*first, *rest]] == everything
