"""The bookkeeper: from the streams into the database, acknowledged after the commit; nothing lost, nothing twice."""

import asyncio
from typing import Any

import msgspec
import pytest

from app.base.ids import shard_of
from app.base.receipt import Usage
from app.books import make_bookkeeper
from app.ledger.posting import post
from app.ledger.reports import find_receipt
from app.ledger.stream import KEEP_MS, ReceiptStreams
from tests.ledger.office import Office


async def test_receipts_are_posted_and_acknowledged(office: Office) -> None:
    """Of every shard; afterwards the books agree with Redis to the nano."""
    accounts = [await office.account(10_000) for _ in range(6)]
    assert len({shard_of(account, office.books.shards) for account in accounts}) > 1
    for account in accounts:
        await office.serve(account, 10)
        await office.serve(account, 20)
    assert await office.keep_books() == 12
    assert await office.pending() == 0
    for account in accounts:
        assert await office.journal_balance(account) == 10_000 - 66 == await office.redis_balance(account)
    assert (await office.verify()).ok


async def test_a_second_bookkeeper_finds_nothing_to_do(office: Office) -> None:
    """What is acknowledged is not read again."""
    account = await office.account(10_000)
    await office.serve(account, 10)
    assert [await office.keep_books(), await office.keep_books()] == [1, 0]


async def test_what_a_dead_bookkeeper_had_taken_is_posted(office: Office) -> None:
    """It died between reading and posting: the next one reads the same entries again."""
    account = await office.account(10_000)
    await office.serve(account, 10)
    await office.streams.prepare()
    assert len(await office.streams.read_new()) == 1
    assert await office.keep_books() == 1
    assert await office.pending() == 0
    assert await office.journal_balance(account) == 10_000 - 23


async def test_what_a_dead_bookkeeper_had_posted_is_not_posted_twice(office: Office) -> None:
    """It died between its commit and its acknowledgement: the receipts are known, and are acknowledged now."""
    account = await office.account(10_000)
    await office.serve(account, 10)
    await office.serve(account, 20)
    await office.streams.prepare()
    taken = await office.streams.read_new()
    await post(office.database, [entry.item for entry in taken if entry.item])
    await office.serve(account, 30)
    assert await office.keep_books() == 1
    assert await office.pending() == 0
    assert await office.journal_balance(account) == 10_000 - 23 - 43 - 63
    assert (await office.verify()).ok


async def test_two_bookkeepers_share_the_work(office: Office) -> None:
    """Started twice by mistake, they post each receipt once."""
    account = await office.account(1_000_000)
    for _ in range(60):
        await office.serve(account, 10)
    stopping = asyncio.Event()
    stopping.set()
    await asyncio.gather(*(make_bookkeeper(office.books).run(stopping) for _ in range(2)))
    assert await office.receipt_count() == 60
    assert await office.journal_balance(account) == 1_000_000 - 60 * 23
    assert (await office.verify()).ok


async def test_what_the_wallet_could_not_pay_is_not_revenue(office: Office) -> None:
    """The receipt names the whole amount; the journal takes what was there."""
    account = await office.account(30)
    await office.serve(account, 20)
    await office.keep_books()
    assert await office.journal_balance(account) == 0 == await office.redis_balance(account)
    assert (await office.verify()).ok


async def test_an_unreadable_entry_is_set_aside(office: Office) -> None:
    """It is kept for an operator beside the stream, and holds nobody else up."""
    account = await office.account(10_000)
    stream = office.wallets.slots(account).shard.receipts
    for fields in ((b"r", b"{"), (b"r", b'{"request_id": "req_x"}'), (b"x", b"y")):
        await office.books.wire.call("XADD", stream, "*", *fields)
    await office.serve(account, 10)
    assert await office.keep_books() == 1
    assert await office.pending() == 0
    rejected = await office.books.wire.call("XRANGE", stream + b":rejected", "-", "+")
    assert [fields[:2] for _, fields in rejected] == [[b"r", b"{"], [b"r", b'{"request_id": "req_x"}'], [b"x", b"y"]]
    assert {(fields[2], *fields[4:]) for _, fields in rejected} == {(b"id", b"error", b"Unreadable")}
    assert [problem.split(" of ")[1] for problem in (await office.verify()).problems] == [
        f"shard {office.wallets.slots(account).shard.number} can't be read, and is set aside"
    ] * 3


@pytest.mark.parametrize(
    "poison",
    [
        {"finish_reason": "st\x00p"},
        {"usage": Usage(input_tokens=10**20), "amount_nano": 2 * 10**20},
    ],
    ids=["a NUL in a text", "a count beyond 64 bits"],
)
async def test_a_receipt_that_the_database_refuses_holds_nobody_up(office: Office, poison: dict[str, Any]) -> None:
    """A vendor chooses some of a receipt's figures and words: none of them may stop the posting of all the others."""
    account = await office.account(10_000)
    await office.serve(account, 10)
    stream = office.wallets.slots(account).shard.receipts
    bad = office.receipt(account, **{"usage": Usage(input_tokens=10)} | poison)
    await office.books.wire.call("XADD", stream, "*", b"r", msgspec.json.encode(bad), b"u", bad.amount_nano)
    await office.serve(account, 20)
    await office.keep_books()
    assert await office.pending() == 0
    assert await office.journal_balance(account) == 10_000 - 23 - 43


async def test_an_overdue_hold_ends_with_a_receipt_that_says_so(office: Office) -> None:
    """Its worker is gone: nothing is charged, what was held is free again, and the books agree."""
    account = await office.account(10_000)
    request_id, _ = await office.begin(account, 4_000)
    leases = office.wallets.slots(account).shard.leases
    await office.books.wire.call("ZADD", leases, "XX", 1, request_id)
    assert await office.keep_books() == 1
    wallet = await office.wallets.read(account)
    assert wallet is not None
    assert (wallet.balance_nano, wallet.held_nano) == (10_000, 0)
    async with office.database.read() as db:
        receipt = await find_receipt(db, request_id, account)
    assert receipt is not None
    assert [receipt[name] for name in ("status", "amount", "model")] == ["expired", "0.00", "small"]
    assert (await office.verify()).ok


async def test_trimming_keeps_what_is_not_acknowledged(office: Office) -> None:
    """Old entries go only when they are acknowledged, and none after the first that is not."""
    await office.streams.prepare()
    stream = b"{s1}:receipts"
    call = office.books.wire.call
    for ms in range(1, 6):
        await call("XADD", stream, f"{ms}-1", "r", "{}")

    async def kept() -> list[bytes]:
        await office.streams.trim()
        return [entry_id for entry_id, _ in await call("XRANGE", stream, "-", "+")]

    all_five = [b"1-1", b"2-1", b"3-1", b"4-1", b"5-1"]
    assert await kept() == all_five, "nothing was read yet"
    await call("XREADGROUP", "GROUP", "books", "books", "COUNT", 4, "STREAMS", stream, ">")
    assert await kept() == all_five, "nothing is acknowledged"
    await call("XACK", stream, "books", "1-1", "3-1")
    assert await kept() == all_five[1:], "2-1 may still have to be posted"
    await call("XACK", stream, "books", "2-1", "4-1")
    assert await kept() == [b"5-1"], "nobody has read 5-1 yet"


async def test_trimming_keeps_what_is_recent(office: Office) -> None:
    """Posted or not: verify's view of the database may be a little older than its view of Redis."""
    account = await office.account(10_000)
    await office.serve(account, 10)
    await office.keep_books()
    await office.streams.trim()
    look = await office.wallets.look(shard_of(account, office.books.shards), [])
    assert len(look.entries) == 1
    assert KEEP_MS >= 10_000


async def test_an_emptied_redis_does_not_stop_the_bookkeeper(office: Office) -> None:
    """Its groups are gone with the streams: it makes them again, and goes on."""
    account = await office.account(10_000)
    stopping = asyncio.Event()
    bookkeeper = make_bookkeeper(office.books)
    running = asyncio.create_task(bookkeeper.run(stopping))
    await office.serve(account, 10)
    while bookkeeper.posted < 1:
        await asyncio.sleep(0.01)
    await office.books.wire.call("FLUSHALL")
    await office.books.warm_wallet(account)
    await office.serve(account, 20)
    while bookkeeper.posted < 2 and not running.done():
        await asyncio.sleep(0.01)
    stopping.set()
    await running
    assert await office.journal_balance(account) == 10_000 - 23 - 43 == await office.redis_balance(account)


async def test_redis_may_be_emptied_in_mid_round(office: Office) -> None:
    """Between two looks at the streams: the script that trims finds no group, and says so in words of its own."""

    class Emptied(ReceiptStreams):
        async def trim(self) -> None:
            if await office.books.wire.call("EXISTS", "{s1}:receipts"):
                await office.books.wire.call("FLUSHALL")
                await office.books.warm_wallet(account)
                await office.serve(account, 20)
            await super().trim()

    account = await office.account(10_000)
    bookkeeper = make_bookkeeper(office.books)
    bookkeeper._streams = Emptied(office.books.wire, office.books.shards)
    stopping = asyncio.Event()
    stopping.set()
    await bookkeeper.run(stopping)
    await office.keep_books()
    assert await office.journal_balance(account) == 10_000 - 43 == await office.redis_balance(account)
