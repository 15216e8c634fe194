"""Verify: clean on honest books at every moment, and it finds each way of cooking them."""

import asyncio
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from app.base.receipt import NO_EXTRAS, Attempt, Extras, Receipt, Usage
from app.catalog.pricing import amount_nano
from app.ledger.journal import set_credit_line
from tests.ledger.office import RICH_PRICES, Office

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
    "a receipt is of other prices by a multiplier": (
        "UPDATE receipts SET multiplier = 2000000 WHERE request_id = :request",
        "receipt {request} says",
    ),
    "a free receipt charges": (
        "UPDATE receipts SET policy = 'free' WHERE request_id = :request",
        "receipt {request} says",
    ),
    "a class of tokens is left out": (
        "UPDATE receipts SET audio_input_tokens = 0 WHERE request_id = :rich",
        "receipt {rich} says",
    ),
    "an attempt cost more": (
        "UPDATE receipts SET attempts = :attempts WHERE request_id = :rich",
        "receipt {rich} has an attempt that cost 44 nano, recomputed 43",
    ),
    "a receipt cost less than its attempts": (
        "UPDATE receipts SET upstream_cost_nano = 1 WHERE request_id = :rich",
        "receipt {rich} cost 1 nano, its attempts 48",
    ),
    "a charge names no entry": (
        "UPDATE receipts SET entry_id = NULL WHERE request_id = :request",
        "1 receipts that charge name no entry",
    ),
    "a receipt names an entry of another account": (
        "UPDATE receipts SET entry_id = (SELECT entry_id FROM receipts WHERE account_id <> :account"
        " AND entry_id IS NOT NULL LIMIT 1) WHERE request_id = :request",
        "1 receipts name an entry of another account",
    ),
    "a vendor is owed less, in balance": (
        "UPDATE postings SET amount_nano = amount_nano * 2 WHERE ledger_account IN ('cost:chn_0', 'payable:chn_0')",
        "channel chn_0 cost 5 nano by day, 10 spent and 10 owed by its postings",
    ),
    "a day counts a request more": (
        "UPDATE usage_days SET requests = requests + 1 WHERE channel_id = 'chn_0'",
        "chn_0 is off: requests by 1",
    ),
    "a day costs less": (
        "UPDATE usage_days SET upstream_cost_nano = 0 WHERE channel_id = 'chn_0'",
        "chn_0 is off: upstream_cost_nano by -5",
    ),
    "a day is gone": (
        "DELETE FROM usage_days WHERE account_id = :account AND channel_id = ''",
        "no channel is off: requests by -1",
    ),
    "a day of nobody": (
        "INSERT INTO usage_days SELECT 'acc_x', day, key_id, model, channel_id, requests, input_tokens, output_tokens,"
        " cached_input_tokens, amount_nano, unpaid_nano, upstream_cost_nano FROM usage_days LIMIT 1",
        "of acc_x, key_1, small",
    ),
    "a lot was more than its credit": (
        "UPDATE lots SET amount_nano = amount_nano + 1 WHERE entry_id = :lot",
        "lot {lot} has 77 of 101 nano left, its credit was 100",
    ),
    "a lot has more left": (
        "UPDATE lots SET remaining_nano = remaining_nano + 1 WHERE entry_id = :lot",
        "promotional lots of {account} have 78 nano, its postings 77",
    ),
    "a lot is gone": (
        "DELETE FROM lots WHERE entry_id = :lot",
        "promotional lots of {account} have 0 nano, its postings 77",
    ),
    "a credit line is longer": (
        "UPDATE wallets SET floor_nano = -5 WHERE account_id = :account",
        "wallet {account} may go down to 0 nano in Redis, -5 by the books",
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
    rich = await office.serve_rich(account)
    lot = await office.give(account, 100)
    await office.serve(account, 10)
    await office.serve(account, 0, status="failed", channel_id=None, amount_nano=0)
    await office.keep_books()
    # Old entries leave their stream: what was posted must be proved by the database alone.
    await office.books.wire.call("XTRIM", office.wallets.slots(account).shard.receipts, "MAXLEN", 0)
    other = await office.account(30)
    await office.serve(other, 20)
    await office.keep_books()
    await office.serve(other, 0)
    await office.begin(account, 500)
    async with office.database.read() as db:
        query = text("SELECT entry_id FROM receipts WHERE request_id = :request")
        entry = await db.scalar(query, {"request": receipt.request_id})
    dearer = [msgspec.structs.replace(attempt, cost_nano=attempt.cost_nano + 1) for attempt in rich.attempts[1:]]
    attempts = msgspec.json.encode((rich.attempts[0], *dearer)).decode()
    names = {"request": receipt.request_id, "entry": str(entry), "account": account, "attempts": attempts}
    return receipt, names | {"rich": rich.request_id, "lot": lot}


async def test_honest_books_are_clean(office: Office) -> None:
    """Posted receipts, some still in the stream, unpaid ones, holds, unapplied credits: all of it adds up."""
    receipt, _ = await _honest(office)
    await office.credit(receipt.account_id, 77)
    verdict = await office.verify()
    assert verdict.problems == []
    assert (verdict.ok, verdict.drift_nano) == (True, 0)
    assert verdict.checked == {"entries": 7, "wallets": 2, "lots": 1, "receipts": 6, "redis_wallets": 2}


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


@pytest.mark.parametrize("charged", [Extras(), Extras(service_tier="priority", fields=("web_search_options",))])
async def test_a_receipt_recomputes_with_what_is_priced_beside_its_tokens(office: Office, charged: Extras) -> None:
    """The tier that was served and the fields that were passed on are on the receipt; an attempt whose own differ says
    so. Without them the books are wrong."""
    account = await office.account(10_000)
    usage, served = Usage(input_tokens=20), Extras(service_tier="priority")
    attempt = Attempt(
        channel_id="chn_1",
        http_status=200,
        error=None,
        duration_ms=1,
        cost_nano=amount_nano(RICH_PRICES, usage, extras=served),
        cost_version=office.rich_version,
        extras=served,
    )
    receipt = await office.serve(
        account,
        20,
        usage=usage,
        extras=charged,
        price_version=office.rich_version,
        amount_nano=amount_nano(RICH_PRICES, usage, extras=charged),
        upstream_cost_nano=40,
        attempts=(attempt,),
    )
    assert (attempt.cost_nano, receipt.amount_nano) == (40, 20 if charged == NO_EXTRAS else 65)
    await office.keep_books()
    assert (await office.verify()).problems == []
    other = "NULL" if charged != NO_EXTRAS else """'{"service_tier": "priority"}'"""
    await office.tamper(f"UPDATE receipts SET extras = {other} WHERE request_id = :id", id=receipt.request_id)
    (problem,) = (await office.verify()).problems
    assert f"receipt {receipt.request_id} says" in problem


@pytest.mark.parametrize("nano", [1, -1_000])
async def test_a_balance_changed_in_redis_is_drift(office: Office, nano: int) -> None:
    """The live balance is the journal's, less what waits in the stream; any difference is counted, sign dropped."""
    receipt, _ = await _honest(office)
    await office.books.wire.call("HINCRBY", office.wallets.slots(receipt.account_id).wallet, "b", nano)
    verdict = await office.verify()
    assert (verdict.ok, verdict.drift_nano) == (False, abs(nano))
    assert len(verdict.problems) == 1
    assert receipt.account_id in verdict.problems[0]


@pytest.mark.parametrize("lots", ["{lot}:76:0:1", "{lot}:77:0:0", "{lot}:77:9:1", "ent_x:77:0:1", ""])
async def test_lots_changed_in_redis_are_found(office: Office, lots: str) -> None:
    """What is left, its terms, and which it is: all of it is the journal's, whatever the balance says."""
    receipt, names = await _honest(office)
    wallet = office.wallets.slots(receipt.account_id).wallet
    await office.books.wire.call("HSET", wallet, "l", lots.format(**names))
    verdict = await office.verify()
    assert (verdict.ok, verdict.drift_nano) == (False, 0)
    assert any(f"wallet {receipt.account_id} has lots of" in problem for problem in verdict.problems)


async def test_a_lot_that_redis_has_not_got_yet_is_no_problem(office: Office) -> None:
    """Written, and not applied: like any credit, it is on its way."""
    account = await office.account(100)
    await office.give(account, 10)
    await office.credit(account, 20, promotional=True)
    assert (await office.verify()).problems == []


async def test_holds_of_a_credit_line_that_was_cut_are_no_problem(office: Office) -> None:
    """They were right when they were made, and end as all do."""
    account = await office.account(100)
    for floor in (-500, 0):
        async with office.database.write() as db:
            await set_credit_line(db, account, floor)
        await office.books.apply_credits(account)
        if floor:
            await office.begin(account, 600)
    assert (await office.verify()).problems == []


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
    assert verdict.problems == [
        f"wallet {account} has holds of 101 nano, its requests 0",
        f"wallet {account} holds more than it has",
    ]


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
            await office.credit(account, 100, promotional=True)
            await office.books.apply_credits(account)
            await office.books.take_back(account, 10, "", None)
            await office.keep_books()

    trading = asyncio.create_task(trade())
    verdicts: list[Any] = []
    while not trading.done():
        verdicts.append(await office.verify())
        await asyncio.sleep(0)
    await trading
    assert [problem for verdict in verdicts for problem in verdict.problems] == []
    assert await office.journal_balance(account) == await office.redis_balance(account) == 1_000_000 + 900 - 50 * 23
