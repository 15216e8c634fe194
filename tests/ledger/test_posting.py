"""Posting: a batch of receipts becomes rows and one balanced entry an account, each receipt once."""

import asyncio

import pytest
from sqlalchemy import func, select

from app.base.receipt import Attempt, Usage
from app.ledger.posting import StreamedReceipt, post, posted_among
from app.ledger.reports import find_receipt
from app.ledger.tables import entries, postings, receipts
from tests.ledger.office import Office


async def _sums(office: Office) -> dict[str, int]:
    """What the journal says of each of its accounts."""
    async with office.database.read() as db:
        query = select(postings.c.ledger_account, func.sum(postings.c.amount_nano)).group_by(postings.c.ledger_account)
        return {name: int(total) for name, total in await db.execute(query)}


async def test_a_batch_is_one_entry_an_account(office: Office) -> None:
    """Charges and costs are summed; revenue is what the wallets paid, and each channel is owed its cost."""
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
        assert await db.scalar(select(func.count()).select_from(entries)) == 2
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
    usage = Usage(input_tokens=9, output_tokens=8, cached_input_tokens=7, cache_write_tokens=1, reasoning_tokens=5)
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
    assert found["usage"] == {
        "input_tokens": 9,
        "output_tokens": 8,
        "cached_input_tokens": 7,
        "cache_write_tokens": 1,
        "reasoning_tokens": 5,
    }
    assert [found[name] for name in ("status", "finish_reason", "ttft_ms", "duration_ms")] == ["ok", "stop", 40, 56]
