"""Money that is taken: written down before Redis is asked, taken once, and found again whoever died in between."""

import asyncio

import msgspec
import pytest
from sqlalchemy import select, text

from app.base.clock import now_ms
from app.base.errors import Conflict, InvalidField
from app.ledger.corrections import refund
from app.ledger.debit_intents import Debit, ask_debit, movement_of, unposted_debits
from app.ledger.debits import Taken, abandon_old_debits
from app.ledger.journal import Credit
from app.ledger.tables import debits
from tests.ledger.office import Office


async def _take(office: Office, account: str, nano: int, key: str | None = "t1") -> Taken:
    return await office.books.take_back(account, nano, "mistake", key)


async def _ask(office: Office, account: str, nano: int, key: str | None = "t1") -> Debit:
    """What a process has done that dies before it asks Redis."""
    async with office.database.write() as db:
        return await ask_debit(db, account, nano, "mistake", key, None)


async def _take_unheard(office: Office, debit: Debit) -> None:
    """Redis takes it, and the process that asked never hears of it."""
    movement = msgspec.json.encode(movement_of(debit))
    assert await office.wallets.debit(debit.account_id, debit.id, debit.amount_nano, movement) == "ok"


async def _states(office: Office) -> list[str]:
    async with office.database.read() as db:
        return list(await db.scalars(select(debits.c.state).order_by(debits.c.created_at_ms, debits.c.id)))


async def _agree(office: Office, account: str, nano: int) -> None:
    """Redis and the journal have the same, and verify finds nothing."""
    await office.keep_books()
    assert await office.redis_balance(account) == await office.journal_balance(account) == nano
    assert (await office.verify()).problems == []


@pytest.mark.parametrize("is_posted", [False, True], ids=["in the stream", "posted"])
async def test_a_key_that_took_money_does_not_give_any(office: Office, is_posted: bool) -> None:
    """-50 and then +50 under one key are two requests: the second is a conflict that says so, whichever it is."""
    account = await office.account(100)
    await _take(office, account, 50)
    if is_posted:
        await office.keep_books()
    for kind in ("adjustment", "credit"):
        with pytest.raises(Conflict, match="used to take money"):
            await office.credit(account, 50, "t1", kind=kind)
    await _agree(office, account, 50)


async def test_a_key_that_took_money_does_not_refund(office: Office) -> None:
    account = await office.account(1_000)
    receipt = await office.serve(account, 10)
    await office.keep_books()
    await _take(office, account, 23)
    with pytest.raises(Conflict, match="used to take money"):
        async with office.database.write() as db:
            await refund(db, receipt.request_id, 23, "", "t1")


async def test_a_key_that_gave_money_does_not_take_any(office: Office) -> None:
    account = await office.account(100)
    await office.credit(account, 50, "t1")
    with pytest.raises(Conflict, match="used to give money"):
        await _take(office, account, 50)
    assert await _states(office) == []


async def test_of_taking_and_giving_at_once_under_one_key_one_happens(office: Office) -> None:
    """Each locks the wallet's row before it looks at the other's."""
    account = await office.account(100)
    answers = await asyncio.gather(_take(office, account, 50), office.credit(account, 50, "t1"), return_exceptions=True)
    (done,) = (each for each in answers if not isinstance(each, Conflict))
    assert isinstance(done, Taken | Credit)
    await office.books.apply_credits(account)
    await _agree(office, account, 50 if isinstance(done, Taken) else 150)


async def test_a_repeat_goes_on_with_a_debit_whose_writer_died(office: Office) -> None:
    """Written down, and Redis was never asked: the key is taken for good, and the same request takes the money."""
    account = await office.account(100)
    debit = await _ask(office, account, 50)
    with pytest.raises(Conflict):
        await office.credit(account, 50, "t1")
    with pytest.raises(Conflict, match="another amount"):
        await _take(office, account, 49)
    taken = await _take(office, account, 50)
    assert (taken.entry_id, taken.is_new) == (debit.id, True)
    await _agree(office, account, 50)


@pytest.mark.parametrize("has_forgotten", [False, True], ids=["the same day", "a day later"])
async def test_what_redis_took_unheard_is_not_taken_again(office: Office, has_forgotten: bool) -> None:
    """Redis remembers a debit for a day; after that the stream does, until it is posted."""
    account = await office.account(100)
    debit = await _ask(office, account, 50)
    await _take_unheard(office, debit)
    if has_forgotten:
        shard = office.wallets.slots(account).shard.number
        assert await office.books.wire.call("DEL", f"{{s{shard}}}:debit:{debit.id}") == 1
    taken = await _take(office, account, 50)
    assert (taken.entry_id, taken.is_new) == (debit.id, False)
    await _agree(office, account, 50)
    assert await _states(office) == ["taken"]


async def test_a_refused_debit_frees_its_key(office: Office) -> None:
    """More than is free moves nothing: the key may stand for another amount then, or for money that is given."""
    account = await office.account(100)
    with pytest.raises(InvalidField, match="more than the wallet has free"):
        await _take(office, account, 101)
    assert await _states(office) == ["refused"]
    assert (await _take(office, account, 60)).is_new
    with pytest.raises(InvalidField):
        await _take(office, account, 41, "t2")
    await office.credit(account, 5, "t2")
    await office.books.apply_credits(account)
    await _agree(office, account, 45)


async def test_a_refusal_frees_no_key_while_another_call_is_unanswered(office: Office) -> None:
    """A call that was cut off may reach Redis late, and find more there: giving money under its key would be a second
    movement then."""
    account = await office.account(100)
    debit = await _ask(office, account, 150)
    with pytest.raises(InvalidField):
        await _take(office, account, 150)
    assert await _states(office) == ["asked"]
    with pytest.raises(Conflict):
        await office.credit(account, 100, "t1")
    await office.credit(account, 100)
    await office.books.apply_credits(account)
    await _take_unheard(office, debit)
    assert not (await _take(office, account, 150)).is_new
    await _agree(office, account, 50)


async def test_a_debit_of_the_version_before_is_known_by_its_entry(office: Office) -> None:
    """That version wrote no row of it: the id of the entry comes from the key, and tells."""
    account = await office.account(100)
    first = await _take(office, account, 50)
    await office.keep_books()
    await office.tamper("DELETE FROM debits")
    with pytest.raises(Conflict):
        await office.credit(account, 50, "t1")
    with pytest.raises(Conflict, match="another amount"):
        await _take(office, account, 49)
    again = await _take(office, account, 50)
    assert (again.entry_id, again.is_new) == (first.entry_id, False)
    assert await _states(office) == ["taken"]


async def test_what_redis_says_that_it_took_is_what_was_taken(office: Office) -> None:
    """A debit of the version before that is in the stream alone: under another amount it is a conflict, and the row
    says what Redis says."""
    account = await office.account(100)
    await _take(office, account, 50)
    await office.tamper("DELETE FROM debits")
    with pytest.raises(Conflict, match="another amount"):
        await _take(office, account, 49)
    async with office.database.read() as db:
        assert [(each.amount_nano, each.state) for each in await unposted_debits(db, [account])] == [(50, "taken")]
    assert not (await _take(office, account, 50)).is_new
    await _agree(office, account, 50)


async def test_old_debits_are_abandoned_where_redis_never_took_them(office: Office) -> None:
    """The stream says so, or the journal; what was never taken moves nothing, and frees its key."""
    account = await office.account(100)
    posted = await _ask(office, account, 10, "posted")
    await _take_unheard(office, posted)
    await office.keep_books()
    await office.books.wire.call("XTRIM", office.wallets.slots(account).shard.receipts, "MAXLEN", 0)
    await _take_unheard(office, await _ask(office, account, 10, "streamed"))
    await _ask(office, account, 10, "never")
    await _ask(office, account, 10, None)
    before_ms = now_ms() + 1

    assert await abandon_old_debits(office.database, office.wallets, before_ms - 3_600_000) == 0
    assert await _states(office) == ["asked"] * 4
    assert await abandon_old_debits(office.database, office.wallets, before_ms) == 2

    assert sorted(await _states(office)) == ["abandoned", "abandoned", "taken", "taken"]
    await office.credit(account, 7, "never")
    with pytest.raises(Conflict):
        await office.credit(account, 7, "streamed")
    await office.books.apply_credits(account)
    await _agree(office, account, 87)


async def test_an_abandoned_debit_can_be_taken_after_all(office: Office) -> None:
    """With its key: the row has the terms of the last request, and the entry is one."""
    account = await office.account(100)
    await _ask(office, account, 10)
    assert await abandon_old_debits(office.database, office.wallets, now_ms() + 1) == 1
    assert (await _take(office, account, 30)).is_new
    await _agree(office, account, 70)


async def test_a_debit_that_redis_lost_is_found_and_taken_again(office: Office) -> None:
    """Acknowledged, not posted, and no longer in the stream: a Redis that lost its last writes."""
    account = await office.account(100)
    taken = await _take(office, account, 50)
    await office.books.wire.call("FLUSHALL")
    async with office.database.read() as db:
        (lost,) = await unposted_debits(db, [account])
    assert (lost.id, lost.amount_nano, lost.memo) == (taken.entry_id, 50, "mistake")
    await office.books.warm_wallet(account)
    assert await office.redis_balance(account) == 50
    await _agree(office, account, 50)
    async with office.database.read() as db:
        assert await unposted_debits(db, [account]) == []
        moved = await db.execute(text("SELECT id, memo FROM entries WHERE kind = 'adjustment'"))
        assert [tuple(row) for row in moved] == [(taken.entry_id, "mistake")]
