"""A Redis that lost its last writes: a lagging replica that was promoted, a crash under `everysec`, an older copy that
was restored. What it lacks is made good from the database, from its stream, and by those who had asked for it."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from sqlalchemy.exc import DBAPIError

from app.base.errors import ServiceUnavailable
from app.base.receipt import Usage
from app.base.wire import Wire
from app.ledger.repair import repair_wallets
from app.proxy.settlement import Clerk, Leases, Policies, Recovery, Spool, Unposted
from app.proxy.settlement.spool import Settlement
from app.quota.gate import Gate, LostHold, Unheard
from app.quota.rules import NO_TRACE
from tests.ledger.office import Office
from tests.proxy.makers import ignore_budgets

_HOLD = 600
_EPOCHS = "{s*}:epoch"


class Copy:
    """What a Redis had at one moment, as another server would have it that takes its place."""

    def __init__(self, wire: Wire, dumps: dict[bytes, bytes]) -> None:
        self._wire = wire
        self._dumps = dumps

    @classmethod
    async def take(cls, wire: Wire) -> "Copy":
        keys = await wire.call("KEYS", "*")
        return cls(wire, {key: await wire.call("DUMP", key) for key in keys})

    async def promote(self) -> None:
        """All that was written since is gone, and clients come back to find another server."""
        await self._wire.call("FLUSHALL")
        for key, dump in self._dumps.items():
            await self._wire.call("RESTORE", key, 0, dump)
        for key in await self._wire.call("KEYS", _EPOCHS):
            await self._wire.call("SET", key, "the-old-master 1")
        await reconnect(self._wire)


async def reconnect(wire: Wire) -> None:
    """As if the server had closed all its connections."""
    with suppress(ServiceUnavailable):
        await wire.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")
    await asyncio.sleep(0.01)
    await wire.call("PING")


class Worker:
    """Settles requests of an office, as a worker does."""

    def __init__(self, office: Office, folder: Path) -> None:
        self.unposted = Unposted()
        self._office = office
        books, gate = office.books, office.gate
        self.clerk = Clerk(
            *(gate, Leases(gate), Spool(folder / "spool"), Policies(), books.is_posted, books.shards, ignore_budgets),
            self.unposted,
        )
        self.recovery = Recovery(
            gate, self.clerk, self.unposted, lambda numbers: books.epochs.look(books.wire, numbers)
        )
        books.epochs.listen(self.recovery.changed)

    async def _look(self, numbers: Iterable[int]) -> Mapping[int, bytes]:
        return await self._office.books.epochs.look(self._office.books.wire, numbers)

    async def serve(self, account_id: str, input_tokens: int) -> str:
        """One request to its end, with its receipt in the stream."""
        request_id, generation = await self._office.begin(account_id, _HOLD)
        await self.settle(account_id, request_id, generation, input_tokens)
        return request_id

    async def settle(self, account_id: str, request_id: str, generation: bytes, input_tokens: int) -> None:
        receipt = self._office.receipt(account_id, Usage(input_tokens=input_tokens), request_id=request_id)
        settlement = Settlement(
            account_id=account_id,
            key_id="key_1",
            request_id=request_id,
            charge_nano=receipt.amount_nano,
            tokens=input_tokens,
            receipt=msgspec.json.encode(receipt),
            generation=generation,
        )
        await self.clerk.hand_in(settlement)

    async def recover(self) -> None:
        """A round of what the worker does all the time."""
        await self.recovery._round()


@pytest.fixture
async def worker(office: Office, tmp_path: Path) -> AsyncIterator[Worker]:
    yield Worker(office, tmp_path)


async def assert_whole(office: Office, account_id: str, balance_nano: int, receipts: int) -> None:
    """The wallet, the journal and the receipts agree, and nothing is held."""
    await office.keep_books()
    await office.books.warm_wallet(account_id)
    wallet = await office.wallets.read(account_id)
    assert wallet is not None
    assert (wallet.balance_nano, wallet.held_nano) == (balance_nano, 0)
    assert await office.journal_balance(account_id) == balance_nano
    assert await office.receipt_count() == receipts
    assert (await office.verify()).problems == []


async def test_a_charge_that_was_posted_and_lost_in_redis_is_not_given_back(office: Office, worker: Worker) -> None:
    """The journal has it: the wallet is rebuilt without that money, and the hold of the request that ended goes."""
    account = await office.account(1_000)
    request_id, generation = await office.begin(account, _HOLD)
    copy = await Copy.take(office.books.wire)
    await worker.settle(account, request_id, generation, 100)
    await office.keep_books()
    await copy.promote()
    await assert_whole(office, account, 1_000 - 203, receipts=1)


async def test_a_settlement_that_was_acknowledged_and_lost_is_made_again(office: Office, worker: Worker) -> None:
    """Nobody had posted it: the worker that settled it still has it, and hands it in once more."""
    account = await office.account(1_000)
    copy = await Copy.take(office.books.wire)
    await worker.serve(account, 100)
    await copy.promote()
    await worker.recover()
    await assert_whole(office, account, 1_000 - 203, receipts=1)


async def test_a_settlement_is_made_again_where_its_hold_came_back(office: Office, worker: Worker) -> None:
    account = await office.account(1_000)
    request_id, generation = await office.begin(account, _HOLD)
    copy = await Copy.take(office.books.wire)
    await worker.settle(account, request_id, generation, 100)
    await copy.promote()
    await worker.recover()
    await assert_whole(office, account, 1_000 - 203, receipts=1)


async def test_what_the_old_master_held_is_held_by_the_new_one(office: Office, worker: Worker) -> None:
    """A request that runs keeps its money: nobody else spends it, and its charge finds it."""
    account = await office.account(1_000)
    copy = await Copy.take(office.books.wire)
    request_id, generation = await office.begin(account, _HOLD)
    await copy.promote()
    await worker.recover()
    await office.books.warm_wallet(account)
    wallet = await office.wallets.read(account)
    assert wallet is not None
    assert wallet.held_nano == _HOLD
    await worker.settle(account, request_id, generation, 100)
    await assert_whole(office, account, 1_000 - 203, receipts=1)


async def test_a_charge_whose_hold_was_lost_is_not_lost(office: Office, worker: Worker) -> None:
    """Settled before anything was put back: the hold is not there, and the charge is made all the same."""
    account = await office.account(1_000)
    copy = await Copy.take(office.books.wire)
    request_id, generation = await office.begin(account, _HOLD)
    await copy.promote()
    await office.books.warm_wallet(account)
    await worker.settle(account, request_id, generation, 100)
    await assert_whole(office, account, 1_000 - 203, receipts=1)


async def test_a_credit_that_was_applied_and_lost_is_there_again(office: Office) -> None:
    account = await office.account(1_000)
    copy = await Copy.take(office.books.wire)
    await office.credit(account, 500)
    await office.books.apply_credits(account)
    await copy.promote()
    await assert_whole(office, account, 1_500, receipts=0)


async def test_what_was_counted_in_a_window_is_read_from_the_books_again(office: Office, worker: Worker) -> None:
    """A counter that lost writes would let a budget be spent twice: windows are forgotten with the epoch."""
    account = await office.account(1_000)
    use = f"{{s{office.wallets.slots(account).shard.number}}}:use:key_1"
    await office.books.wire.call("HSET", use, "usd.day", 5, "usd.day+", 2, "usd.day@", 1, "r", 7, "t", 8, "at", 9)
    copy = await Copy.take(office.books.wire)
    await copy.promote()
    assert await office.books.wire.call("HGETALL", use) == [b"r", b"7", b"t", b"8", b"at", b"9"]


async def test_the_same_server_keeps_its_wallets(office: Office) -> None:
    """A connection that was lost is no lost write."""
    account = await office.account(1_000)
    await reconnect(office.books.wire)
    assert await office.redis_balance(account) == 1_000


async def test_an_emptied_redis_loses_no_settlement(office: Office, worker: Worker) -> None:
    """There is nobody to come back to: the missing epoch tells."""
    account = await office.account(1_000)
    await worker.serve(account, 100)
    await worker.recover()
    await office.books.wire.call("FLUSHALL")
    await worker.recover()
    await assert_whole(office, account, 1_000 - 203, receipts=1)


async def test_a_batch_in_hand_when_redis_is_emptied_leaves_no_drift(office: Office) -> None:
    """The bookkeeper has read it, Redis is emptied, the wallet is rebuilt without it, and only then is it committed."""
    account = await office.account(1_000)
    await office.serve(account, 100)
    await office.streams.prepare()
    hand = await office.streams.read_new()
    await office.books.wire.call("FLUSHALL")
    await office.books.warm_wallet(account)
    await office.books.wire.call("HSET", "{s0}:use:nobody", "r", 1)
    await office.streams.prepare()
    bookkeeper = office.bookkeeper()
    await bookkeeper._post_batch(hand)
    assert (await office.verify()).drift_nano == 203
    await bookkeeper._audit.round()
    await assert_whole(office, account, 1_000 - 203, receipts=1)
    assert "Redis had lost writes" in (await office.memos(account, "repair"))[0]


async def test_settlements_are_kept_until_they_are_posted_and_no_longer(office: Office, worker: Worker) -> None:
    account = await office.account(1_000)
    await worker.serve(account, 10)
    await worker.recover()
    assert len(worker.unposted) == 1
    await office.keep_books()
    await worker.recover()
    assert len(worker.unposted) == 0


@pytest.mark.parametrize("is_given", [True, False], ids=["it had been given", "it comes later"])
async def test_an_admission_that_nobody_heard_of_holds_nothing(office: Office, worker: Worker, is_given: bool) -> None:
    """The customer was told that nothing was charged: its hold is taken back, and one that comes later is refused."""
    account = await office.account(1_000)
    slots = office.wallets.slots(account, "key_1")
    if is_given:
        await office.begin(account, _HOLD, "req_lost")
    office.gate.unheard.append(Unheard(slots, "req_lost", NO_TRACE))
    await worker.recover()
    if not is_given:
        with pytest.raises(AssertionError, match="void"):
            await office.begin(account, _HOLD, "req_lost")
    wallet = await office.wallets.read(account)
    assert wallet is not None
    assert (wallet.balance_nano, wallet.held_nano) == (1_000, 0)
    await office.books.wire.call("ZADD", slots.shard.leases, "XX", 1, "req_lost")
    assert await office.wallets.overdue(slots.shard.number) == []
    assert await office.books.wire.call("HLEN", slots.shard.holds) == 0
    await assert_whole(office, account, 1_000, receipts=0)


async def test_an_admission_that_is_spooled_while_it_is_taken_back_hides_no_other(
    office: Office, worker: Worker
) -> None:
    account = await office.account(2_000)
    slots = office.wallets.slots(account, "key_1")
    for request_id in ("req_1", "req_2"):
        await office.begin(account, _HOLD, request_id)
        office.gate.unheard.append(Unheard(slots, request_id, NO_TRACE))
    await office.books.wire.call("CLIENT", "PAUSE", 300)
    await asyncio.gather(worker.recover(), worker.clerk.forgo("req_1"))
    assert office.gate.unheard == []
    await assert_whole(office, account, 2_000, receipts=0)


async def test_verify_says_what_a_repair_would_change_and_it_changes_that(office: Office) -> None:
    """In Redis alone; the journal gets an entry that says why."""
    account = await office.account(1_000)
    await office.books.wire.call("HINCRBY", office.wallets.slots(account).wallet, "b", -7)
    trial = await repair_wallets(office.database, office.wallets, [account], "asked for", is_trial=True)
    assert [(each.balance_before_nano, each.balance_after_nano, each.entry_id) for each in trial] == [
        (993, 1_000, None)
    ]
    assert await office.redis_balance(account) == 993
    (made,) = await repair_wallets(office.database, office.wallets, [account], "asked for")
    assert made.entry_id is not None
    assert (await office.memos(account, "repair"))[0].startswith("asked for: the wallet in Redis had 0.000000993 USD")
    await assert_whole(office, account, 1_000, receipts=0)


async def test_a_repair_of_a_wallet_that_moves_is_made_on_what_is_there(office: Office) -> None:
    """Settled between the look and the repair: the repair is made again on what it finds then."""
    account = await office.account(1_000)
    slots = office.wallets.slots(account)
    await office.books.wire.call("HINCRBY", slots.wallet, "b", -7)
    stale = await office.wallets.read(account)
    await office.serve(account, 10)
    assert await office.wallets.warm(account, 1_000, 1, 0, b"", instead_of=stale) == "moved"


async def test_a_lost_hold_is_not_taken_for_one_that_ended(office: Office) -> None:
    """Under a wallet that was rebuilt, only the books know whether a request without a hold has ended."""
    account = await office.account(1_000)
    copy = await Copy.take(office.books.wire)
    request_id, generation = await office.begin(account, _HOLD)
    await copy.promote()
    await office.books.warm_wallet(account)
    with pytest.raises(LostHold):
        await office.gate.settle(office.wallets.slots(account), request_id, 1, 1, b"{}", generation, is_repeat=True)


async def test_money_that_was_taken_back_and_lost_is_taken_again(office: Office) -> None:
    """An operator was told that it was taken: the database has it too, and a rebuilt wallet is without it."""
    account = await office.account(1_000)
    lot = await office.give(account, 100)
    copy = await Copy.take(office.books.wire)
    taken = await office.books.take_back(account, 300, "a mistake", "key-1")
    await copy.promote()
    await office.books.warm_wallet(account)
    assert (await office.redis_balance(account), await office.redis_lots(account)) == (800, {})
    again = await office.books.take_back(account, 300, "a mistake", "key-1")
    assert (again.entry_id, again.is_new) == (taken.entry_id, False)
    await assert_whole(office, account, 800, receipts=0)
    assert await office.lots(account) == {}
    assert lot


async def test_a_hold_that_had_grown_grows_again(office: Office, worker: Worker) -> None:
    """The older copy has it as it was given: the rest would be held by nobody, and unpaid."""
    account = await office.account(1_000)
    slots = office.wallets.slots(account)
    request_id, generation = await office.begin(account, 100)
    copy = await Copy.take(office.books.wire)
    assert await office.gate.extend(slots, request_id, 800)
    await copy.promote()
    await worker.recover()
    await office.books.warm_wallet(account)
    wallet = await office.wallets.read(account)
    assert wallet is not None
    assert wallet.held_nano == 900
    await worker.settle(account, request_id, generation, 430)
    await assert_whole(office, account, 1_000 - 863, receipts=1)


async def test_what_no_repair_can_change_is_not_repaired_again_and_again(office: Office, worker: Worker) -> None:
    """A worker that comes back late has put back more than there is: `verify` says so until its request ends."""
    account = await office.account(1_000)
    late = Gate(office.books.wire, 60_000)
    copy = await Copy.take(office.books.wire)
    own, office.gate = office.gate, late
    await office.begin(account, 800)
    office.gate = own
    await copy.promote()
    await worker.recover()
    await office.books.warm_wallet(account)
    await office.begin(account, 900)
    await late.put_back(office.wallets.slots(account).shard.number)
    assert await office.books.repair("asked for", is_trial=False) == []
    assert await office.memos(account, "repair") == []
    assert (await office.verify()).problems == [f"wallet {account} holds more than it has"]


async def test_no_repair_is_made_that_can_not_be_written_down(office: Office) -> None:
    """The entry says why; without it nothing is changed, and the next turn finds it again."""
    account = await office.account(1_000)
    await office.books.wire.call("HINCRBY", office.wallets.slots(account).wallet, "b", -7)
    with pytest.raises((UnicodeEncodeError, DBAPIError)):
        await office.books.repair("a reason that no database takes: \ud800", is_trial=False)
    assert await office.redis_balance(account) == 993
    assert len(await office.books.repair("asked for", is_trial=False)) == 1
    assert len(await office.memos(account, "repair")) == 1
