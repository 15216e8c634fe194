"""Posting: a batch of receipts becomes rows and one balanced entry an account, each receipt once."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import func, select

from app.base.receipt import Attempt, Usage
from app.ledger.items import StreamedReceipt
from app.ledger.posting import post, posted_among
from app.ledger.reports import find_receipt
from app.ledger.tables import entries, postings, receipts, usage_days
from tests.ledger.office import Office


async def _sums(office: Office) -> dict[str, int]:
    """What the journal says of each of its accounts."""
    async with office.database.read() as db:
        query = select(postings.c.ledger_account, func.sum(postings.c.amount_nano)).group_by(postings.c.ledger_account)
        return {name: int(total) for name, total in await db.execute(query)}


async def test_a_batch_is_one_entry_an_account(office: Office) -> None:
    """Charges are summed by account, and costs in an entry of their own; revenue is what the wallets paid."""
    first, second = await office.account(), await office.account()
    batch = [
        office.streamed(first, 10, upstream_cost_nano=7),
        office.streamed(first, 20, upstream_cost_nano=11, channel_id="chn_2"),
        office.streamed(second, 30),
        office.streamed(second, 40, unpaid_nano=50),
    ]
    assert await post(office.database, batch) == 4
    assert await _sums(office) == {
        f"wallet:{first}": -(20 + 3 + 40 + 3),
        f"wallet:{second}": -(60 + 3 + 80 + 3 - 50),
        "revenue": 66 + 96,
        "cost:chn_1": -7,
        "payable:chn_1": 7,
        "cost:chn_2": -11,
        "payable:chn_2": 11,
    }
    assert await office.journal_balance(first) == -66
    assert await office.journal_balance(second) == -96
    async with office.database.read() as db:
        kinds = select(entries.c.kind, func.count()).group_by(entries.c.kind)
        assert {row[0]: row[1] for row in await db.execute(kinds)} == {"usage": 2, "costs": 1}
        named = await db.execute(select(receipts.c.account_id, receipts.c.entry_id).distinct())
        assert len(named.all()) == 2


async def test_posting_again_changes_nothing(office: Office) -> None:
    """Idempotent by request id: a bookkeeper that died before it acknowledged posts the same batch once more."""
    account = await office.account()
    batch = [office.streamed(account, tokens) for tokens in (10, 20)]
    await post(office.database, batch)
    before = await _sums(office)
    assert await post(office.database, batch) == 0
    assert await _sums(office) == before
    assert await office.receipt_count() == 2


async def test_of_a_batch_known_in_part_the_rest_is_posted(office: Office) -> None:
    """What was posted before is left out, what is new is charged, and what comes twice counts once."""
    account = await office.account()
    batch = [office.streamed(account, tokens) for tokens in (10, 20, 30)]
    await post(office.database, batch[1:2])
    assert await post(office.database, [*batch, batch[0]]) == 2
    assert await office.journal_balance(account) == -(23 + 43 + 63)
    assert await office.receipt_count() == 3


@pytest.mark.parametrize("backwards", [False, True])
async def test_two_bookkeepers_post_the_same_batch_at_once(office: Office, backwards: bool) -> None:
    """Each receipt is charged once, in whatever order the other one takes them."""
    account = await office.account()
    for _ in range(3):
        batch = [office.streamed(account, 10) for _ in range(400)]
        other = batch[::-1] if backwards else batch
        posted = await asyncio.gather(post(office.database, batch), post(office.database, other))
        assert sorted(posted) == [0, 400]
    assert await office.journal_balance(account) == -1200 * 23


async def test_what_moves_no_money_has_no_entry(office: Office) -> None:
    """A request that nobody served leaves a receipt, and the journal alone."""
    account = await office.account()
    failed = office.receipt(account, Usage(), status="failed", http_status=503, channel_id=None, amount_nano=0)
    assert await post(office.database, [StreamedReceipt(failed, 0)]) == 1
    assert await _sums(office) == {}
    async with office.database.read() as db:
        assert (await db.execute(select(receipts.c.entry_id))).scalar_one() is None


async def test_an_empty_batch_is_nothing(office: Office) -> None:
    assert await post(office.database, []) == 0


async def test_more_receipts_than_a_statement_has_parameters(office: Office) -> None:
    """Looking up what is posted is cut to pieces that every database takes."""
    account = await office.account()
    batch = [office.streamed(account, 1) for _ in range(1201)]
    await post(office.database, batch[::2])
    assert await post(office.database, batch) == 600
    async with office.database.read() as db:
        assert len(await posted_among(db, [item.receipt.request_id for item in batch])) == 1201
    assert await office.journal_balance(account) == -1201 * 5


async def test_a_receipt_keeps_all_that_it_said(office: Office) -> None:
    """Every field of the stream's receipt is in its row."""
    account = await office.account()
    counts = {name: number for number, name in enumerate(Usage.__struct_fields__, 1)}
    usage = Usage(**counts)
    attempts = (
        Attempt(channel_id="chn_0", http_status=None, error="timeout", duration_ms=12),
        Attempt(channel_id="chn_1", http_status=200, error=None, duration_ms=34),
    )
    said = office.receipt(account, usage, attempts=attempts, ttft_ms=40, duration_ms=56, finish_reason="stop")
    await post(office.database, [StreamedReceipt(said, 0)])
    async with office.database.read() as db:
        found = await find_receipt(db, said.request_id, account)
        assert await find_receipt(db, said.request_id, "acc_other") is None
    assert found is not None
    assert {name: found["usage"][name] for name in found["usage"]} == {name: counts[name] for name in found["usage"]}
    async with office.database.read() as db:
        row = (await db.execute(select(receipts).where(receipts.c.request_id == said.request_id))).one()
    assert {name: getattr(row, name) for name in counts} == counts
    assert [found[name] for name in ("status", "finish_reason", "ttft_ms", "duration_ms")] == ["ok", "stop", 40, 56]


async def test_each_attempt_costs_its_own_channel(office: Office) -> None:
    """One that failed may have cost something too: its vendor is owed, and the day of its channel says so, but counts
    no request."""
    account = await office.account()
    attempts = (
        Attempt(channel_id="chn_0", http_status=500, error="broken", duration_ms=12, cost_nano=5),
        Attempt(channel_id="chn_1", http_status=200, error=None, duration_ms=34, cost_nano=7),
    )
    usage = Usage(input_tokens=10, output_tokens=1)
    said = office.receipt(account, usage, attempts=attempts, upstream_cost_nano=12)
    await post(office.database, [StreamedReceipt(said, 0)])
    sums = await _sums(office)
    assert {name: sums[name] for name in sums if ":chn" in name} == {
        "cost:chn_0": -5,
        "payable:chn_0": 5,
        "cost:chn_1": -7,
        "payable:chn_1": 7,
    }
    assert await _days(office) == [
        ("2023-11-14", "chn_0", 0, 0, 0, 0, 5),
        ("2023-11-14", "chn_1", 1, 10, 1, said.amount_nano, 7),
    ]
    assert (await office.verify()).ok


async def _days(office: Office) -> list[tuple[Any, ...]]:
    """Day, channel, requests, input and output tokens, amount, cost."""
    columns = usage_days.c
    async with office.database.read() as db:
        rows = await db.execute(
            select(
                columns.day,
                columns.channel_id,
                columns.requests,
                columns.input_tokens,
                columns.output_tokens,
                columns.amount_nano,
                columns.upstream_cost_nano,
            ).order_by(columns.day, columns.channel_id)
        )
        return [(str(day), *rest) for day, *rest in rows]


async def test_days_add_up_over_batches(office: Office) -> None:
    """A day's row grows with each batch, by UTC; a request that nobody served is on a row without a channel."""
    account = await office.account()
    midnight = 1_700_006_400_000
    await post(office.database, [office.streamed(account, 10, created_at_ms=midnight - 1)])
    await post(office.database, [office.streamed(account, 20, created_at_ms=midnight) for _ in range(2)])
    unserved = office.receipt(account, Usage(), channel_id=None, amount_nano=0, created_at_ms=midnight)
    await post(office.database, [office.streamed(account, 5, created_at_ms=midnight), StreamedReceipt(unserved, 0)])
    assert await _days(office) == [
        ("2023-11-14", "chn_1", 1, 10, 0, 23, 0),
        ("2023-11-15", "", 1, 0, 0, 0, 0),
        ("2023-11-15", "chn_1", 3, 45, 0, 99, 0),
    ]
    assert (await office.verify()).ok


async def test_many_bookkeepers_never_wait_in_a_circle(office: Office) -> None:
    """Overlapping batches in different orders, with the same days, wallets and lots: all are posted, each once."""
    accounts = [await office.account() for _ in range(5)]
    for account in accounts:
        await office.credit(account, 1_000, promotional=True)
    batch = [office.streamed(accounts[number % 5], 1, parts=None, at_ms=2**45) for number in range(300)]
    orders = [batch, batch[::-1], batch[100:], batch[:200][::-1]]

    # A deadlock would be broken by the database, and raised here.
    assert sum(await asyncio.gather(*(post(office.database, order) for order in orders))) == 300
    assert await office.receipt_count() == 300
    assert {await office.journal_balance(account) for account in accounts} == {1_000 - 60 * 5}
    assert (await office.verify()).ok
