"""Verify: clean on honest books at every moment, and it finds each way of cooking them."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from app.base.receipt import Receipt
from tests.ledger.office import Office

# What was done to the books, and what verify has to say about it.
_TAMPERING = {
    "a receipt charges more": (
        "UPDATE receipts SET amount_nano = amount_nano + 1 WHERE request_id = :request",
        "receipt {request} says",
    ),
    "a receipt counts fewer tokens": (
        "UPDATE receipts SET input_tokens = 1 WHERE request_id = :request",
        "receipt {request} says",
    ),
    "a receipt names other prices": (
        "UPDATE receipts SET price_version = 'prc_none' WHERE request_id = :request",
        "receipt {request} says",
    ),
    "a receipt says that less was paid": (
        "UPDATE receipts SET unpaid_nano = 1 WHERE request_id = :request",
        "entry {entry} took",
    ),
    "a receipt is gone": (
        "DELETE FROM receipts WHERE request_id = :request",
        "entry {entry} took",
    ),
    "all receipts of an entry are gone": (
        "DELETE FROM receipts WHERE entry_id = :entry",
        "entry {entry} took",
    ),
    "a posting is off balance": (
        "UPDATE postings SET amount_nano = amount_nano + 1 WHERE entry_id = :entry AND ledger_account = 'revenue'",
        "entry {entry} is off balance by 1 nano",
    ),
    "a posting is gone": (
        "DELETE FROM postings WHERE entry_id = :entry AND ledger_account = 'revenue'",
        "entry {entry} is off balance",
    ),
    "an entry took more, in balance": (
        "UPDATE postings SET amount_nano = amount_nano * 2 WHERE entry_id = :entry",
        "entry {entry} took",
    ),
    "a wallet says more": (
        "UPDATE wallets SET balance_nano = balance_nano + 1 WHERE account_id = :account",
        "wallet {account} says",
    ),
}


async def _honest(office: Office) -> tuple[Receipt, dict[str, str]]:
    """Books with a bit of everything; one posted receipt and its names."""
    account = await office.account(10_000)
    await office.serve(account, 10, upstream_cost_nano=4)
    receipt = await office.serve(account, 20)
    await office.serve(account, 0, status="failed", channel_id=None, amount_nano=0)
    await office.keep_books()
    # Old entries leave their stream: what was posted must be proved by the database alone.
    await office.books.wire.call("XTRIM", office.wallets.slots(account).shard.receipts, "MAXLEN", 0)
    other = await office.account(30)
    await office.serve(other, 20)
    await office.begin(account, 500)
    async with office.database.read() as db:
        query = text("SELECT entry_id FROM receipts WHERE request_id = :request")
        entry = await db.scalar(query, {"request": receipt.request_id})
    return receipt, {"request": receipt.request_id, "entry": str(entry), "account": account}


async def test_honest_books_are_clean(office: Office) -> None:
    """Posted receipts, some still in the stream, unpaid ones, holds, unapplied credits: all of it adds up."""
    receipt, _ = await _honest(office)
    await office.credit(receipt.account_id, 77)
    verdict = await office.verify()
    assert verdict.problems == []
    assert (verdict.ok, verdict.drift_nano) == (True, 0)
    assert verdict.checked == {"entries": 4, "wallets": 2, "receipts": 3, "redis_wallets": 2}


@pytest.mark.parametrize("deed", _TAMPERING)
async def test_tampering_is_found(office: Office, deed: str) -> None:
    """Each invariant has a witness: the problem names what is wrong."""
    _, names = await _honest(office)
    statement, complaint = _TAMPERING[deed]
    used = {name: value for name, value in names.items() if f":{name}" in statement}
    await office.tamper(statement, **used)
    verdict = await office.verify()
    assert not verdict.ok
    assert any(complaint.format(**names) in problem for problem in verdict.problems), verdict.problems


@pytest.mark.parametrize("nano", [1, -1_000])
async def test_a_balance_changed_in_redis_is_drift(office: Office, nano: int) -> None:
    """The live balance is the journal's, less what waits in the stream; any difference is counted, sign dropped."""
    receipt, _ = await _honest(office)
    await office.books.wire.call("HINCRBY", office.wallets.slots(receipt.account_id).wallet, "b", nano)
    verdict = await office.verify()
    assert (verdict.ok, verdict.drift_nano) == (False, abs(nano))
    assert len(verdict.problems) == 1
    assert receipt.account_id in verdict.problems[0]


async def test_drifts_of_two_wallets_do_not_cancel_out(office: Office) -> None:
    """One customer's gain does not make up for another's loss."""
    accounts = [await office.account(100), await office.account(100)]
    for account, nano in zip(accounts, (5, -5), strict=True):
        await office.books.wire.call("HINCRBY", office.wallets.slots(account).wallet, "b", nano)
    assert (await office.verify()).drift_nano == 10


async def test_holds_beyond_the_balance_are_found(office: Office) -> None:
    """Without a credit line, balance less holds is never below zero."""
    account = await office.account(100)
    await office.books.wire.call("HINCRBY", office.wallets.slots(account).wallet, "h", 101)
    verdict = await office.verify()
    assert verdict.problems == [f"wallet {account} holds more than it has"]


async def test_a_lost_wallet_is_no_drift(office: Office) -> None:
    """Redis is a working copy: what is not there will be rebuilt."""
    await office.account(100)
    await office.books.wire.call("FLUSHALL")
    verdict = await office.verify()
    assert (verdict.ok, verdict.checked["redis_wallets"]) == (True, 0)


async def test_books_are_clean_while_they_are_written(office: Office) -> None:
    """Requests, credits and postings go on while verify reads: it compares one moment, and finds no drift."""
    account = await office.account(1_000_000)

    async def trade() -> None:
        for _ in range(10):
            await asyncio.gather(*(office.serve(account, 10) for _ in range(5)))
            await office.credit(account, 100)
            await office.books.apply_credits(account)
            await office.keep_books()

    trading = asyncio.create_task(trade())
    verdicts: list[Any] = []
    while not trading.done():
        verdicts.append(await office.verify())
        await asyncio.sleep(0)
    await trading
    assert [problem for verdict in verdicts for problem in verdict.problems] == []
    assert await office.journal_balance(account) == await office.redis_balance(account) == 1_000_000 + 1_000 - 50 * 23
