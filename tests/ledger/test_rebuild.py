"""A wallet that Redis has lost is rebuilt to the nano: the journal, less what still waits in the stream."""

import asyncio

import pytest

from app.base.errors import NotFound
from tests.ledger.office import Office


async def _lose_wallet(office: Office, account_id: str) -> None:
    await office.books.wire.call("DEL", office.wallets.slots(account_id).wallet)


async def test_a_wallet_that_was_never_there_is_built_from_the_journal(office: Office) -> None:
    """Its first request warms it: all its credits are in it, and none is applied on top."""
    account = await office.account()
    await office.credit(account, 700)
    await office.credit(account, 50)
    await office.books.warm_wallet(account)
    await office.books.apply_credits(account)
    assert await office.redis_balance(account) == 750


async def test_what_the_stream_still_holds_is_taken_off(office: Office) -> None:
    """Settled and not posted: the journal does not know it yet, the wallet had paid it."""
    account = await office.account(10_000)
    await office.serve(account, 10)
    await office.keep_books()
    await office.serve(account, 20)
    await office.serve(account, 30)
    before = await office.redis_balance(account)
    await _lose_wallet(office, account)
    await office.books.warm_wallet(account)
    assert await office.redis_balance(account) == before == 10_000 - 23 - 43 - 63
    await office.keep_books()
    assert await office.journal_balance(account) == before
    assert (await office.verify()).ok


async def test_what_the_wallet_could_not_pay_is_not_taken_off(office: Office) -> None:
    """An unpaid part never left the wallet, so that a rebuilt one does not sink below what it had."""
    account = await office.account(30)
    await office.serve(account, 20)
    await _lose_wallet(office, account)
    await office.books.warm_wallet(account)
    assert await office.redis_balance(account) == 0


async def test_other_accounts_of_the_shard_are_left_out(office: Office) -> None:
    """A stream is shared: only an account's own receipts count against it."""
    accounts = [await office.account(10_000) for _ in range(8)]
    for number, account in enumerate(accounts):
        await office.serve(account, number)
    for account in accounts:
        await _lose_wallet(office, account)
        await office.books.warm_wallet(account)
    balances = [await office.redis_balance(account) for account in accounts]
    assert balances == [10_000 - 2 * number - 3 for number in range(8)]


async def test_running_holds_are_found_again(office: Office) -> None:
    """A request in flight keeps its hold, and its settlement ends it as ever."""
    account = await office.account(10_000)
    await office.begin(account, 4_000)
    await _lose_wallet(office, account)
    await office.books.warm_wallet(account)
    wallet = await office.wallets.read(account)
    assert wallet is not None
    assert (wallet.balance_nano, wallet.held_nano) == (10_000, 4_000)


async def test_many_rebuild_one_wallet_while_it_is_spent(office: Office) -> None:
    """Requests on several workers find it cold together: it is built once, and nothing that was spent comes back."""
    account = await office.account(10_000)
    await _lose_wallet(office, account)

    async def warm_and_spend() -> None:
        await office.books.warm_wallet(account)
        await office.serve(account, 10)

    await asyncio.gather(*(warm_and_spend() for _ in range(5)))
    assert await office.redis_balance(account) == 10_000 - 5 * 23
    await office.keep_books()
    assert (await office.verify()).ok


async def test_an_emptied_redis_loses_nothing_that_was_posted(office: Office) -> None:
    """The database is the truth: rebuilt from it, every wallet is what the journal says."""
    accounts = [await office.account(10_000) for _ in range(3)]
    for account in accounts:
        await office.serve(account, 10)
    await office.keep_books()
    await office.books.wire.call("FLUSHALL")
    for account in accounts:
        await office.books.warm_wallet(account)
        assert await office.redis_balance(account) == 10_000 - 23
    assert (await office.verify()).ok


async def test_nobody_is_rebuilt_who_is_not_there(office: Office) -> None:
    with pytest.raises(NotFound):
        await office.books.warm_wallet("acc_nobody")
