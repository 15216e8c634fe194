"""Whether a request is on the books: what the replay of the spool asks before it makes a lost settlement good."""

import asyncio
from pathlib import Path

import msgspec

from app.base.ids import new_id
from app.base.receipt import Usage
from app.ledger.posting import post
from app.proxy.settlement.clerk import Clerk
from app.proxy.settlement.leases import Leases
from app.proxy.settlement.policies import Policies
from app.proxy.settlement.spool import Settlement, Spool
from app.proxy.settlement.unposted import Unposted
from tests.ledger.office import Office
from tests.ledger.schedule import Schedule
from tests.proxy.makers import ignore_budgets


async def test_a_receipt_counts_from_the_stream_on(office: Office) -> None:
    """In the stream, posted and still there, posted and trimmed; and only for the request whose receipt it is."""
    account = await office.account(1_000)
    receipt = await office.serve(account, 10)
    is_posted = office.books.is_posted
    assert await is_posted(receipt.request_id, account)
    assert not await is_posted(new_id("req"), account)
    await office.keep_books()
    assert await is_posted(receipt.request_id, account)
    await office.books.wire.call("XTRIM", office.wallets.slots(account).shard.receipts, "MAXLEN", 0)
    assert await is_posted(receipt.request_id, account)


async def test_what_is_posted_and_trimmed_meanwhile_is_found_at_every_step(office: Office) -> None:
    """The bookkeeper may commit and trim between any two looks: in whichever order, the receipt is in one of them."""
    account = await office.account(1_000)
    call, streams = office.books.wire.call, office.streams
    shard = office.wallets.slots(account).shard
    await streams.prepare()

    async def move() -> None:
        hand = await streams.read_new()
        await post(office.database, [entry.item for entry in hand if entry.item])
        await call("XTRIM", shard.receipts, "MAXLEN", 0)

    for steps_first in range(6):
        receipt = await office.serve(account, 10)
        turns = iter([0] * steps_first + [1] * 20)
        schedule = Schedule(office.books.wire, office.database, lambda n, turns=turns: min(next(turns), n - 1))
        found, _ = await schedule.run(office.books.is_posted(receipt.request_id, account), move())
        assert found, steps_first


async def test_a_spooled_settlement_whose_receipt_is_in_the_stream_is_charged_once(
    office: Office, tmp_path: Path
) -> None:
    """Redis lost the hold, the sweeper's receipt or another worker's is in the stream, and the bookkeeper has not come:
    the database alone would say that nobody has charged it."""
    account = await office.account(1_000)
    request_id, generation = await office.begin(account, 100)
    receipt = office.receipt(account, Usage(input_tokens=10), request_id=request_id)
    encoded = msgspec.json.encode(receipt)
    figures = (request_id, receipt.amount_nano, 10, encoded, generation)
    slots = office.wallets.slots(account, "key_1")
    await office.gate.settle(slots, *figures)
    # The wallet is gone and is built again: by its generation Redis can't know whether the hold has ended.
    await office.books.wire.call("DEL", slots.wallet)
    await office.books.warm_wallet(account)
    spool = Spool(tmp_path / "spool")
    await spool.keep(Settlement(account, "key_1", *figures))
    gate, is_posted = office.gate, office.books.is_posted
    clerk = Clerk(gate, Leases(gate), spool, Policies(), is_posted, office.books.shards, ignore_budgets, Unposted())
    worker = asyncio.create_task(clerk.replay())
    while await spool.waiting():
        await asyncio.sleep(0.01)
    worker.cancel()
    await asyncio.wait([worker])

    await office.keep_books()
    assert await office.redis_balance(account) == await office.journal_balance(account) == 977
    assert await office.receipt_count() == 1
    assert (await office.verify()).problems == []
