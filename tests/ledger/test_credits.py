"""Credits: written to the journal once for each idempotency key, numbered without gaps, then brought to Redis once."""

import asyncio

import pytest
from sqlalchemy import select

from app.base.errors import Conflict, InvalidField, NotFound
from app.base.money import WALLET_MAX_NANO
from app.ledger.journal import credits_after, unapplied_accounts
from app.ledger.tables import entries
from tests.ledger.office import Office


async def _numbers(office: Office, account_id: str) -> list[int]:
    async with office.database.read() as db:
        query = select(entries.c.credit_number).where(entries.c.account_id == account_id)
        return sorted(await db.scalars(query))


async def test_a_credit_is_an_entry_and_a_balance(office: Office) -> None:
    """The wallet grows by what was paid in, and its first credit is number 1."""
    account = await office.account()
    credit = await office.credit(account, 500)
    assert (credit.number, credit.amount_nano, credit.is_new) == (1, 500, True)
    assert await office.journal_balance(account) == 500


async def test_the_same_key_is_the_same_credit(office: Office) -> None:
    """Sent again, it answers with the entry of the first time, and moves nothing."""
    account = await office.account()
    first = await office.credit(account, 500, "order-1")
    again = await office.credit(account, 500, "order-1")
    assert (again.entry_id, again.number, again.is_new) == (first.entry_id, 1, False)
    assert await office.journal_balance(account) == 500
    assert (await office.credit(account, 7, "order-2")).number == 2


async def test_the_same_key_for_another_amount_is_refused(office: Office) -> None:
    """A key that was used means another request: nothing is guessed, and no number is used up."""
    account = await office.account()
    await office.credit(account, 500, "order-1")
    with pytest.raises(Conflict):
        await office.credit(account, 501, "order-1")
    assert await office.journal_balance(account) == 500
    assert (await office.credit(account, 1)).number == 2


async def test_a_key_belongs_to_its_account(office: Office) -> None:
    """Two customers may be credited under the same key."""
    one, two = await office.account(), await office.account()
    assert (await office.credit(one, 500, "order-1")).is_new
    assert (await office.credit(two, 900, "order-1")).is_new


async def test_the_same_key_at_once_is_one_credit(office: Office) -> None:
    """A client that retries while its first try still runs pays in once."""
    account = await office.account()
    written = await asyncio.gather(*(office.credit(account, 500, "order-1") for _ in range(5)))
    assert sum(credit.is_new for credit in written) == 1
    assert len({credit.entry_id for credit in written}) == 1
    assert await office.journal_balance(account) == 500


async def test_numbers_have_no_gaps(office: Office) -> None:
    """Whatever is refused, repeated or raced: Redis applies credits in order, so none may be missing."""
    account = await office.account()

    async def one(number: int) -> None:
        match number % 3:
            case 0:
                await office.credit(account, 10)
            case 1:
                await office.credit(account, 10, "same")
            case 2:
                with pytest.raises(InvalidField):
                    await office.credit(account, 2 * WALLET_MAX_NANO)

    await asyncio.gather(*(one(number) for number in range(12)))
    assert await _numbers(office, account) == [1, 2, 3, 4, 5]
    assert await office.journal_balance(account) == 50


async def test_a_wallet_stays_within_what_lua_counts_exactly(office: Office) -> None:
    """2^53 - 1 nano is the most; one nano more is refused, naming the field, and changes nothing."""
    account = await office.account()
    await office.credit(account, WALLET_MAX_NANO - 5)
    with pytest.raises(InvalidField) as refusal:
        await office.credit(account, 6)
    assert refusal.value.param == "amount"
    await office.credit(account, 5)
    assert await office.journal_balance(account) == WALLET_MAX_NANO
    assert await _numbers(office, account) == [1, 2]


async def test_nobody_is_credited_who_is_not_there(office: Office) -> None:
    with pytest.raises(NotFound):
        await office.credit("acc_nobody", 1)


async def test_credits_reach_redis_once(office: Office) -> None:
    """Applied by many at the same time, a credit moves the live balance once."""
    account = await office.account(100)
    await office.credit(account, 20)
    await office.credit(account, 3)
    await asyncio.gather(*(office.books.apply_credits(account) for _ in range(4)))
    assert await office.redis_balance(account) == 123
    async with office.database.read() as db:
        assert await unapplied_accounts(db) == []
        assert [credit.amount_nano for credit in await credits_after(db, account, 1)] == [20, 3]


async def test_a_credit_whose_writer_died_is_applied_by_the_bookkeeper(office: Office) -> None:
    """Written to the journal and not brought to Redis: the next round of chores does it."""
    account = await office.account(100)
    await office.credit(account, 20)
    await office.keep_books()
    assert await office.redis_balance(account) == 120


async def test_a_credit_to_a_lost_wallet_rebuilds_it(office: Office) -> None:
    """The journal has them all: the rebuilt wallet needs no credit applied again."""
    account = await office.account(100)
    await office.books.wire.call("FLUSHALL")
    await office.credit(account, 20)
    await office.books.apply_credits(account)
    await office.books.apply_credits(account)
    assert await office.redis_balance(account) == 120


async def test_a_redis_that_lost_its_last_second_gets_its_credits_again(office: Office) -> None:
    """A Redis that came back without the last credit says so by its number, whatever the journal noted as applied."""
    account = await office.account(100)
    await office.credit(account, 20)
    await office.books.apply_credits(account)
    wallet = office.wallets.slots(account).wallet
    await office.books.wire.call("HSET", wallet, "b", 100, "s", 1)
    await office.credit(account, 3)
    await office.books.apply_credits(account)
    assert await office.redis_balance(account) == 123
