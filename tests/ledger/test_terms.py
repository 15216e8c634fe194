"""Credits on terms: given away, for a time, as a refund, as a credit line; and money taken back. From the journal to
Redis and from Redis to the journal, to the nano."""

import asyncio
from typing import Any

import msgspec
import pytest

from app.base.clock import now_ms
from app.base.errors import Conflict, InvalidField, NotFound
from app.base.receipt import Usage
from app.ledger.corrections import refund
from app.ledger.journal import Credit, set_credit_line
from app.ledger.posting import post
from tests.ledger.office import Office

_HOUR = 3_600_000


async def _lose_wallet(office: Office, account_id: str) -> None:
    await office.books.wire.call("DEL", office.wallets.slots(account_id).wallet)


async def _agree(office: Office, account_id: str) -> None:
    """Redis, rebuilt Redis and the journal say the same of balance and lots, and verify finds nothing."""
    await office.keep_books()
    assert await office.redis_balance(account_id) == await office.journal_balance(account_id)
    assert sorted((await office.redis_lots(account_id)).items()) == sorted((await office.lots(account_id)).items())
    verdict = await office.verify()
    assert verdict.problems == []
    before = await office.wallets.read(account_id)
    await _lose_wallet(office, account_id)
    await office.books.warm_wallet(account_id)
    assert await office.wallets.read(account_id) == before


@pytest.mark.parametrize(
    ("terms", "sums"),
    [
        ({}, {"wallet": 500, "cash": -500}),
        ({"promotional": True}, {"promo": 500, "promotions": -500}),
        ({"expires_at_ms": 2**42}, {"wallet": 500, "cash": -500}),
        ({"kind": "adjustment"}, {"wallet": 500, "adjustments": -500}),
        ({"kind": "adjustment", "promotional": True}, {"promo": 500, "adjustments": -500}),
    ],
)
async def test_where_a_credit_comes_from(office: Office, terms: dict[str, Any], sums: dict[str, int]) -> None:
    """Each kind has its ledger accounts; promotional money is kept apart from what was paid."""
    account = await office.account()
    await office.credit(account, 500, **terms)
    await office.books.apply_credits(account)
    own = {name.replace(f":{account}", ""): nano for name, nano in (await office.sums()).items()}
    assert own == sums
    await _agree(office, account)


async def test_only_what_is_given_or_expires_is_a_lot(office: Office) -> None:
    """Plain money has no terms to keep."""
    account = await office.account(100)
    given = await office.give(account, 20)
    expiring = await office.give(account, 30, _HOUR, promotional=False)
    assert await office.redis_lots(account) == {given: 20, expiring: 30} == await office.lots(account)


@pytest.mark.parametrize(("amount", "terms"), [(0, {}), (-5, {}), (5, {"expires_at_ms": 1})])
async def test_a_credit_is_something_and_lasts(office: Office, amount: int, terms: dict[str, Any]) -> None:
    """What takes money out is another thing, and what has expired already would be a trap; no number is used up."""
    account = await office.account()
    with pytest.raises(InvalidField) as refusal:
        await office.credit(account, amount, **terms)
    assert refusal.value.param == ("expires_at" if terms else "amount")
    assert (await office.credit(account, 5)).number == 1


async def test_a_key_belongs_to_its_terms(office: Office) -> None:
    """The same key for the same credit answers as before; for another kind, or another expiry, it is a conflict."""
    account = await office.account()
    terms = {"promotional": True, "expires_at_ms": now_ms() + _HOUR}
    first = await office.credit(account, 500, "key", **terms)
    again = await office.credit(account, 500, "key", **terms)
    assert (again.is_new, again.entry_id, again.lot) == (False, first.entry_id, first.lot)
    for other in ({}, {"promotional": True}, {**terms, "kind": "adjustment"}):
        with pytest.raises(Conflict):
            await office.credit(account, 500, "key", **other)


async def test_a_charge_spends_lots_first(office: Office) -> None:
    """What was given, then what expires, then plain money; each posted against its own account."""
    account = await office.account(1_000)
    expiring = await office.give(account, 30, _HOUR, promotional=False)
    given = await office.give(account, 20)
    await office.serve(account, 10)  # 23
    assert await office.redis_lots(account) == {expiring: 27}
    await _agree(office, account)
    sums = await office.sums()
    assert (sums.get(f"promo:{account}", 0), sums[f"wallet:{account}"]) == (0, 1_027)
    await office.serve(account, 20)  # 43
    await _agree(office, account)
    assert await office.lots(account) == {}
    assert given != expiring


async def test_an_expired_lot_lapses(office: Office) -> None:
    """Given money goes back to the promotions, paid money that had a term becomes revenue; the rest stays."""
    account = await office.account(1_000)
    await office.give(account, 20, 150)
    await office.give(account, 30, 150, promotional=False)
    kept = await office.give(account, 40, _HOUR)
    await office.serve(account, 10)  # 23: all that was given first, 3 of what expires next
    await asyncio.sleep(0.2)
    await _agree(office, account)
    assert await office.lots(account) == {kept: 37}
    sums = await office.sums()
    assert {name: sums.get(name, 0) for name in ("promotions", "revenue")} == {
        "promotions": -60 + 0,
        "revenue": 23 + 30,
    }
    assert sums[f"promo:{account}"] == 37


async def test_a_lot_of_a_wallet_that_redis_lost_lapses_too(office: Office) -> None:
    """It is rebuilt for that: an account that nobody uses loses what has expired all the same."""
    account = await office.account()
    await office.give(account, 20, 100)
    await _lose_wallet(office, account)
    await asyncio.sleep(0.15)
    await _agree(office, account)
    assert await office.journal_balance(account) == 0


async def test_what_a_request_holds_lapses_after_it(office: Office) -> None:
    """It may still spend what expired while it ran; what it leaves goes later."""
    account = await office.account()
    lot = await office.give(account, 100, 100)
    request_id, generation = await office.begin(account, 60)
    await asyncio.sleep(0.15)
    await office.keep_books()
    assert await office.redis_lots(account) == {lot: 60} == await office.lots(account)
    slots = office.wallets.slots(account, "key_1")
    await office.gate.settle(slots, request_id, 0, 0, _encoded(office, account, request_id), generation)
    await _agree(office, account)
    assert await office.journal_balance(account) == 0


def _encoded(office: Office, account: str, request_id: str) -> bytes:
    return msgspec.json.encode(office.receipt(account, Usage(), request_id=request_id, amount_nano=0, channel_id=None))


async def test_a_charge_that_redis_could_not_place_is_placed_by_the_ledger(office: Office) -> None:
    """Its wallet was gone: rebuilt before or after the posting, Redis and the journal place it alike."""
    account = await office.account(1_000)
    await office.give(account, 30)
    await _undecided(office, account)
    await office.books.warm_wallet(account)
    assert await office.redis_lots(account) == {next(iter(await office.lots(account))): 7}
    await _agree(office, account)


async def test_a_later_credit_has_no_part_in_an_earlier_charge(office: Office) -> None:
    """Written between the rebuild and the posting, a lot that was not there then is not spent by it."""
    account = await office.account(1_000)
    await _undecided(office, account)
    await office.books.warm_wallet(account)
    await asyncio.sleep(0.002)
    lot = await office.give(account, 30)
    await _agree(office, account)
    assert await office.lots(account) == {lot: 30}


async def _undecided(office: Office, account: str) -> None:
    """A charge of 23 that was settled while Redis had no wallet."""
    await _lose_wallet(office, account)
    await asyncio.sleep(0.002)
    stream = office.wallets.slots(account).shard.receipts
    receipt = msgspec.json.encode(office.receipt(account, Usage(input_tokens=10)))
    await office.books.wire.call("XADD", stream, "*", "r", receipt, "l", "?")


async def test_more_than_a_lot_has_left_is_posted_and_found(office: Office) -> None:
    """Redis and the journal disagree on a lot: the receipt is posted in any case, verify says what is wrong, and the
    bookkeeper's audit puts the wallet right, with an entry that says so."""
    account = await office.account(1_000)
    lot = await office.give(account, 10)
    stream = office.wallets.slots(account).shard.receipts
    receipt = msgspec.json.encode(office.receipt(account, Usage(input_tokens=10)))
    await office.books.wire.call("XADD", stream, "*", "r", receipt, "l", f"{lot}:23")
    assert await office.keep_books() == 1
    assert (await office.journal_balance(account), await office.lots(account)) == (1_010 - 23, {})
    assert (await office.redis_balance(account), await office.redis_lots(account)) == (1_010 - 23, {})
    (memo,) = await office.memos(account, "repair")
    assert f"has lots of '{lot}:10:0:1' in Redis, '' by the books" in memo
    assert (await office.verify()).problems == []


async def _line(office: Office, account: str, floor: int) -> Credit:
    async with office.database.write() as db:
        return await set_credit_line(db, account, floor)


async def test_a_credit_line_is_numbered_and_reaches_redis(office: Office) -> None:
    """Among the credits, in their order; an account may spend below zero as far as it goes, and no further."""
    account = await office.account(100)
    assert (await _line(office, account, -500)).number == 2
    await office.credit(account, 10)
    await office.books.apply_credits(account)
    wallet = await office.wallets.read(account)
    assert wallet is not None
    assert (wallet.balance_nano, wallet.floor_nano, wallet.credit_number) == (110, -500, 3)
    await office.begin(account, 610)
    with pytest.raises(AssertionError, match="credit"):
        await office.begin(account, 1)
    await _line(office, account, 0)
    await office.books.apply_credits(account)
    await _agree(office, account)


@pytest.mark.parametrize("floor", [1, -(2**53)])
async def test_a_credit_line_is_within_what_a_wallet_counts(office: Office, floor: int) -> None:
    account = await office.account()
    with pytest.raises(InvalidField, match="credit_line"):
        await _line(office, account, floor)
    with pytest.raises(NotFound):
        await _line(office, "acc_nobody", 0)


async def _refund(office: Office, request_id: str, nano: int | None, key: str | None = None) -> Credit:
    async with office.database.write() as db:
        return await refund(db, request_id, nano, "sorry", key)


async def test_a_refund_gives_revenue_back(office: Office) -> None:
    """As plain money where that paid, naming the request; with the same key once, and never more than was paid in all:
    one rule and one error for whoever asks."""
    account = await office.account(1_000)
    receipt = await office.serve(account, 10)
    await office.keep_books()
    first = await _refund(office, receipt.request_id, 20, "r1")
    again = await _refund(office, receipt.request_id, 20, "r1")
    assert (first.is_new, again.is_new, again.entry_id) == (True, False, first.entry_id)
    with pytest.raises(Conflict, match=r"Only 0\.000000003 USD are left to refund"):
        await _refund(office, receipt.request_id, 4)
    assert (await _refund(office, receipt.request_id, 3)).corrects == receipt.request_id
    await office.books.apply_credits(account)
    assert (await office.sums()).get("revenue", 0) == 0
    await _agree(office, account)
    assert await office.journal_balance(account) == 1_000


async def test_refunds_at_once_never_pass_the_charge(office: Office) -> None:
    """Two operators who refund the same request together give it back once."""
    account = await office.account(1_000)
    receipt = await office.serve(account, 10)
    await office.keep_books()
    given = await asyncio.gather(*(_refund(office, receipt.request_id, 23) for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(each, Credit) for each in given) == 1
    assert await office.journal_balance(account) == 1_000


async def test_what_has_no_receipt_is_not_refunded(office: Office) -> None:
    with pytest.raises(NotFound):
        await _refund(office, "req_none", 1)


async def test_money_is_taken_back_in_redis_first(office: Office) -> None:
    """At once out of the live balance, lots first; posted as an adjustment that names what it corrects."""
    account = await office.account(100)
    given = await office.give(account, 20)
    taken = await office.books.take_back(account, 50, "mistake", "t1", corrects="ent_7")
    assert (taken.amount_nano, taken.is_new) == (50, True)
    assert (await office.redis_balance(account), await office.redis_lots(account)) == (70, {})
    await _agree(office, account)
    sums = await office.sums()
    assert (sums["adjustments"], sums[f"wallet:{account}"], sums.get(f"promo:{account}", 0)) == (50, 70, 0)
    assert given not in await office.lots(account)


@pytest.mark.parametrize("posted", [False, True])
async def test_money_is_taken_back_once_for_a_key(office: Office, posted: bool) -> None:
    """Before and after it was posted, and when Redis has forgotten; another amount under the key is a conflict."""
    account = await office.account(100)
    first = await office.books.take_back(account, 50, "", "t1")
    if posted:
        await office.keep_books()
        await office.books.wire.call("FLUSHALL")
        await office.books.warm_wallet(account)
    again = await office.books.take_back(account, 50, "", "t1")
    assert (again.entry_id, again.is_new) == (first.entry_id, False)
    with pytest.raises(Conflict):
        await office.books.take_back(account, 49, "", "t1")
    await _agree(office, account)
    assert await office.journal_balance(account) == 50


async def test_what_is_not_there_is_not_taken_back(office: Office) -> None:
    """More than is free, nothing, or from nobody: refused, naming the field."""
    account = await office.account(100)
    for amount in (101, 0):
        with pytest.raises(InvalidField, match="amount"):
            await office.books.take_back(account, amount, "", None)
    with pytest.raises(NotFound):
        await office.books.take_back("acc_nobody", 1, "", None)


async def test_a_cold_wallet_is_built_to_take_from(office: Office) -> None:
    account = await office.account(100)
    await _lose_wallet(office, account)
    await office.books.take_back(account, 60, "", None)
    await _agree(office, account)
    assert await office.journal_balance(account) == 40


async def test_movements_are_posted_once(office: Office) -> None:
    """A bookkeeper that died between its commit and its acknowledgement left them in the stream."""
    account = await office.account(100)
    await office.books.take_back(account, 60, "", None)
    await office.streams.prepare()
    taken = await office.streams.read_new()
    await post(office.database, [entry.item for entry in taken if entry.item])
    await office.serve(account, 1)
    await _agree(office, account)
    assert await office.journal_balance(account) == 100 - 60 - 5
