"""Receipts that the database refuses: charged, set aside, and waiting for a release that can post them. Nobody gives
their money back."""

from itertools import count
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from app.alerts.tables import alerts
from app.base.receipt import Attempt, Extras, Movement, Receipt, Usage
from app.ledger.rejected import RejectedEntries
from app.ledger.reports import find_receipt, find_whole_receipt
from app.ledger.stream import KEEP_MS
from tests.ledger.office import PRICES, Office

# No vendor's count gets so far: it stands for whatever a database refuses tomorrow.
_REFUSED = Usage(input_tokens=100, reasoning_tokens=2**63)


async def refused(office: Office, account_id: str) -> Receipt:
    """A request whose receipt the database refuses, charged and set aside."""
    receipt = await office.serve(account_id, 0, usage=_REFUSED, amount_nano=PRICES.input * 100 // 1_000_000 + 3)
    await office.keep_books()
    assert await office.pending() == 0
    return receipt


async def set_aside(office: Office, account_id: str, *fields: Any) -> None:
    """As an older release has left it."""
    await office.books.wire.call("XADD", office.wallets.slots(account_id).shard.rejected, "*", *fields)


async def told(office: Office) -> list[tuple[str, str]]:
    """Subject and error of each alert of a rejected receipt."""
    async with office.database.read() as db:
        rows = await db.execute(select(alerts).where(alerts.c.kind == "receipt.rejected").order_by(alerts.c.id))
        return [(row.subject, row.details["error"]) for row in rows]


async def test_a_vendors_nul_is_posted_as_a_replacement_character(office: Office) -> None:
    """Wherever a vendor's words stand on a receipt; an escape that only looks like one stays as it is."""
    account = await office.account(10_000)
    attempt = Attempt(channel_id="chn_1", http_status=200, error="no\x00thing \\u0000", duration_ms=1)
    receipt = await office.serve(
        account, 10, finish_reason="st\x00p" * 20, attempts=(attempt,), extras=Extras(fields=("a\x00",))
    )
    assert await office.keep_books() == 1
    async with office.database.read() as db:
        shown = await find_receipt(db, receipt.request_id, account)
        whole = await find_whole_receipt(db, receipt.request_id)
    assert shown is not None
    assert whole is not None
    assert shown["finish_reason"] == "st\N{REPLACEMENT CHARACTER}p" * 10
    assert whole.attempts[0].error == "no\N{REPLACEMENT CHARACTER}thing \\u0000"
    assert await office.redis_balance(account) == await office.journal_balance(account) == 10_000 - 23


async def test_no_audit_and_no_repair_gives_the_money_of_a_refused_receipt_back(office: Office) -> None:
    """What is set aside is charged and not yet posted: Redis and the books agree on that."""
    account = await office.account(1_000)
    await refused(office, account)
    bookkeeper = office.bookkeeper()
    for _ in range(6):
        await bookkeeper._audit.round()
    assert await office.books.repair("asked for", is_trial=False) == []
    assert await office.redis_balance(account) == 1_000 - 203
    assert await office.memos(account, "repair") == []
    assert await office.receipt_count() == 0


async def test_a_batch_with_a_refused_receipt_is_no_lost_write(office: Office) -> None:
    """The bookkeeper suspects its wallet, looks, and finds nothing to put right."""
    account = await office.account(1_000)
    await office.serve(account, 10)
    await office.serve(account, 0, usage=_REFUSED, amount_nano=203)
    bookkeeper = office.bookkeeper()
    await bookkeeper._round(0)
    await bookkeeper._audit.round()
    assert await office.redis_balance(account) == 1_000 - 23 - 203
    assert await office.journal_balance(account) == 1_000 - 23
    assert await office.memos(account, "repair") == []


async def test_a_rebuilt_wallet_is_charged_for_a_refused_receipt(office: Office) -> None:
    """In money and in lots."""
    account = await office.account(1_000)
    await office.give(account, 100)
    await refused(office, account)
    await office.books.wire.call("DEL", office.wallets.slots(account).wallet)
    await office.books.warm_wallet(account)
    assert (await office.redis_balance(account), await office.redis_lots(account)) == (1_100 - 203, {})


async def test_verify_names_each_refused_receipt(office: Office) -> None:
    account = await office.account(1_000)
    receipts = [await refused(office, account) for _ in range(2)]
    verdict = await office.verify()
    assert (verdict.ok, verdict.drift_nano) == (False, 0)
    assert [problem.split(" (")[0] for problem in verdict.problems] == [
        f"{receipt.request_id} took 203 nano and can't be posted" for receipt in receipts
    ]


async def test_an_operator_is_told_of_each_refused_receipt_once(office: Office) -> None:
    """By its request's id, with the class of the error; each bookkeeper that starts tries it again."""
    account = await office.account(1_000)
    receipts = [await refused(office, account) for _ in range(2)]
    await office.keep_books()
    bookkeeper = office.bookkeeper()
    await bookkeeper._round(0)
    found = await told(office)
    assert sorted(found) == [(receipt.request_id, "OverflowError") for receipt in receipts]


async def test_the_class_of_an_error_is_the_drivers(office: Office) -> None:
    """Not that of the library between. SQLite has no such error: it takes any character."""
    account = await office.account(1_000)
    receipt = await office.serve(account, 10, model="sm\x00ll")
    await office.keep_books()
    refusal = [] if office.database.is_sqlite else [(receipt.request_id, "CharacterNotInRepertoireError")]
    await office.keep_books()
    assert await told(office) == refusal


async def test_a_refused_receipt_is_told_of_in_the_next_chores(office: Office) -> None:
    """Not only in the next turn, five minutes later."""
    account = await office.account(1_000)
    bookkeeper = office.bookkeeper()
    await bookkeeper._round(0)
    await office.serve(account, 0, usage=_REFUSED, amount_nano=203)
    await bookkeeper._round(1)
    await bookkeeper._round(10_000)
    assert len(await told(office)) == 1


async def test_what_an_older_release_could_not_post_is_posted_at_the_start(office: Office) -> None:
    """A release that fixes the cause needs nobody's hand."""
    account = await office.account(1_000)
    receipt = await refused(office, account)
    slots = office.wallets.slots(account)
    await office.books.wire.call("DEL", slots.shard.rejected)
    mended = msgspec.structs.replace(receipt, usage=Usage(input_tokens=100), finish_reason="stop\x00")
    await set_aside(office, account, "r", msgspec.json.encode(mended))
    await office.keep_books()
    assert await office.receipt_count() == 1
    assert await office.journal_balance(account) == 1_000 - 203 == await office.redis_balance(account)
    assert (await office.verify()).problems == []


async def test_what_is_posted_after_all_goes_a_while_later(office: Office) -> None:
    """Whoever read the database before it was posted finds it in Redis still."""
    account = await office.account(1_000)
    receipt = office.receipt(account, Usage(input_tokens=100))
    await set_aside(office, account, "r", msgspec.json.encode(receipt))
    now = 0
    entries = RejectedEntries(office.database, office.streams, office.books.tell, lambda: now)
    lengths = []
    for now in (0, 300_000 - 1, 300_000):  # noqa: B007 (the clock reads it)
        await entries.round()
        lengths.append(await office.books.wire.call("XLEN", office.wallets.slots(account).shard.rejected))
    assert lengths == [1, 1, 0]
    assert KEEP_MS < 300_000
    assert await office.receipt_count() == 1


async def test_many_refused_receipts_are_tried_some_at_a_time(office: Office) -> None:
    """They hold nobody else up, and each has its turn."""
    account = await office.account(1_000)
    for number in range(120):
        receipt = office.receipt(account, Usage(), request_id=f"req_{number:06}", amount_nano=0)
        await set_aside(office, account, "r", msgspec.json.encode(receipt))
    ticks = count()
    entries = RejectedEntries(office.database, office.streams, office.books.tell, lambda: next(ticks))
    counts = []
    for _ in range(2):
        await entries.round()
        counts.append(await office.receipt_count())
    assert counts == [100, 120]


async def test_a_refused_receipt_is_not_charged_again(office: Office) -> None:
    """A worker that does not know what became of a request finds that it has its receipt."""
    account = await office.account(1_000)
    receipt = await refused(office, account)
    shard = office.wallets.slots(account).shard
    await office.books.wire.call("DEL", shard.receipts)
    assert await office.books.is_posted(receipt.request_id, account)
    assert not await office.books.is_posted("req_other", account)


async def test_money_taken_back_that_the_database_refuses_stays_taken(office: Office) -> None:
    account = await office.account(1_000)
    movement = Movement(id="ent_refused", account_id=account, kind="adjustment", created_at_ms=2**63, memo="a mistake")
    slots = office.wallets.slots(account)
    assert await office.wallets.debit(account, movement.id, 300, msgspec.json.encode(movement)) == "ok"
    await office.keep_books()
    assert await office.books.wire.call("XLEN", slots.shard.rejected) == 1
    assert await office.books.repair("asked for", is_trial=False) == []
    assert await office.redis_balance(account) == 700
    assert ["ent_refused" in problem for problem in (await office.verify()).problems] == [True]


@pytest.mark.parametrize("fields", [(b"r", b"{"), (b"x", b"y"), (b"id", b"\xff"), (b"error", b"\xff")])
async def test_an_unreadable_entry_without_an_id_stops_nobody(office: Office, fields: tuple[bytes, bytes]) -> None:
    account = await office.account(1_000)
    await set_aside(office, account, *fields)
    await office.serve(account, 10)
    assert await office.keep_books() == 1
    await office.books.repair("asked for", is_trial=False)
    assert await office.redis_balance(account) == 1_000 - 23
    assert len(await told(office)) == 1
    assert len((await office.verify()).problems) == 1
