"""Wallets in Redis: built as the journal says, credited once and in order, swept when a worker is gone, and lost."""

import pytest

from app.base.ids import shard_of
from app.quota.gate import Admitted, Settled
from app.quota.slots import shard_keys, slots_of, use_keys
from app.quota.wallets import OverdueHold, Wallet
from tests.quota.till import DRAFT, Till


async def test_a_wallet_is_built_as_told(till: Till) -> None:
    """Balance, floor and the number of its last credit are the caller's; nothing is held in it yet."""
    assert await till.warm(1000, floor_nano=-50, credit_number=7) == "ok"
    assert await till.wallet() == Wallet(balance_nano=1000, held_nano=0, credit_number=7, floor_nano=-50)


async def test_a_wallet_that_is_there_is_never_overwritten(till: Till) -> None:
    """Two workers that warm the same wallet cannot undo what was spent in between."""
    await till.warm(1000)
    await till.admit("req_1", nano=300)
    await till.settle("req_1", nano=300)
    assert await till.warm(1000) == "there"
    assert (await till.wallet()).balance_nano == 700


async def test_a_stream_that_has_grown_is_read_again(till: Till) -> None:
    """A balance worked out from an older state of the stream is not taken."""
    other = Till(till.wire)
    while other.shard.number != till.shard.number:
        other = Till(till.wire)
    await other.warm(10)
    await other.admit("req_1", nano=1)
    await other.settle("req_1", nano=1)
    assert await till.wallets.warm(till.account_id, 1000, 0, 0, b"") == "moved"
    assert await till.wallets.read(till.account_id) is None
    assert await till.warm(1000) == "ok"


async def test_a_rebuilt_wallet_knows_the_holds_that_still_run(till: Till) -> None:
    """Its holds are in the shard: they are summed again, of this account alone."""
    other = Till(till.wire)
    while other.shard.number != till.shard.number:
        other = Till(till.wire)
    await till.warm(1000)
    await other.warm(1000)
    await till.admit("req_1", nano=300)
    await till.admit("req_2", nano=30)
    await other.admit("req_3", nano=3)
    await till.wire.call("DEL", till.slots.wallet)
    await till.warm(1000)
    assert (await till.wallet()).held_nano == 330


async def test_credits_are_applied_once_and_in_order(till: Till) -> None:
    """The journal numbers them: one that was applied is done, one that is early is a gap, and neither moves money."""
    assert await till.wallets.apply_credit(till.account_id, 1, 500) == "cold"
    await till.warm(100)
    outcomes = [await till.wallets.apply_credit(till.account_id, number, 500) for number in (2, 1, 1, 2, 2, 4, 3)]
    assert outcomes == ["gap", "ok", "done", "ok", "done", "gap", "ok"]
    wallet = await till.wallet()
    assert (wallet.balance_nano, wallet.credit_number) == (1600, 3)


async def test_a_debit_is_a_negative_credit(till: Till) -> None:
    """Corrections take money out the way credits bring it in."""
    await till.warm(100)
    await till.wallets.apply_credit(till.account_id, 1, -30)
    assert (await till.wallet()).balance_nano == 70


async def test_a_hold_is_overdue_when_its_lease_has_run_out(till: Till) -> None:
    """The sweeper finds it with all that its receipt has to say; holds that are alive stay out of it."""
    await till.warm(1000)
    await till.admit("req_alive", nano=1)
    await till.admit("req_gone", nano=300)
    await till.run_out("req_gone")
    assert await till.wallets.overdue(till.shard.number) == [
        OverdueHold("req_gone", till.account_id, till.slots.key_id, 300, DRAFT, "-")
    ]
    assert await till.expire("req_gone")
    assert await till.wallets.overdue(till.shard.number) == []
    wallet = await till.wallet()
    assert (wallet.balance_nano, wallet.held_nano) == (1000, 1)


async def test_a_renewed_hold_is_not_overdue(till: Till) -> None:
    """A sign of life moves the lease on; one that has ended is not brought back to life."""
    await till.warm(1000)
    await till.admit("req_1", nano=1)
    await till.run_out("req_1")
    assert await till.gate.renew(till.shard, ["req_1", "req_unknown"]) == 1
    assert await till.wallets.overdue(till.shard.number) == []
    await till.settle("req_1")
    assert await till.gate.renew(till.shard, ["req_1"]) == 0
    assert await till.wire.call("ZCARD", till.shard.leases) == 0


async def test_a_hold_of_an_emptied_redis_still_leaves_its_receipt(till: Till) -> None:
    """The request was served: with no wallet to charge, its receipt waits in the stream for the journal."""
    await till.warm(1000)
    await till.admit("req_1", nano=300)
    await till.wire.call("FLUSHALL", at=till.slots.wallet)
    assert await till.settle("req_1", nano=120) == Settled(balance_nano=0, unpaid_nano=0)
    assert await till.receipts() == [b"req_1"]
    assert await till.wallets.read(till.account_id) is None


async def test_a_hold_of_another_copy_of_the_wallet_is_charged_to_this_one(till: Till) -> None:
    """Rebuilt in the meantime, the wallet knows nothing of the hold, and pays all the same."""
    await till.warm(1000)
    await till.admit("req_1", nano=300)
    await till.wire.call("FLUSHALL", at=till.slots.wallet)
    await till.warm(1000)
    assert await till.settle("req_1", nano=120) == Settled(balance_nano=880, unpaid_nano=0)
    wallet = await till.wallet()
    assert (wallet.balance_nano, wallet.held_nano) == (880, 0)


async def test_a_hold_of_another_copy_is_charged_once_too(till: Till) -> None:
    """Settling is safe to repeat there as well: the answer to the first call may have been lost."""
    await till.warm(1000)
    await till.admit("req_1", nano=300)
    await till.wire.call("FLUSHALL", at=till.slots.wallet)
    await till.warm(1000)
    await till.settle("req_1", nano=120)
    assert await till.settle("req_1", nano=120) is None
    assert (await till.wallet()).balance_nano == 880
    assert await till.receipts() == [b"req_1"]


async def test_each_copy_of_a_wallet_has_a_generation_of_its_own(till: Till) -> None:
    """It is how a hold that ended is told from one that was lost."""
    generations = []
    for _ in range(2):
        await till.wire.call("FLUSHALL", at=till.slots.wallet)
        await till.warm(1000)
        answer = await till.admit("req_1", nano=1)
        assert isinstance(answer, Admitted)
        generations.append(answer.generation)
    assert generations[0] != generations[1]


async def test_a_look_is_one_moment_of_a_shard(till: Till) -> None:
    """Entries and wallets together; None for a wallet that Redis does not have."""
    await till.warm(1000)
    await till.admit("req_1", nano=300)
    await till.settle("req_1", nano=20)
    look = await till.wallets.look(till.shard.number, [till.account_id])
    assert [entry.fields for entry in look.entries] == [{b"r": b"req_1"}]
    assert look.wallets == {till.account_id: Wallet(980, 0, 0, 0)}


@pytest.mark.parametrize("shards", [1, 4, 64])
def test_all_keys_of_a_request_share_a_slot(shards: int) -> None:
    """Redis Cluster hashes what stands between the braces: one script may only touch one shard's keys."""
    slots = slots_of("acc_7", "key_9", shards)
    tag = b"{s%d}:" % shard_of("acc_7", shards)
    shard = slots.shard
    names = (slots.wallet, *use_keys(shard.number, "key_9=c"), shard.holds, shard.leases, shard.receipts)
    assert all(name.startswith(tag) for name in names)
    assert len(set(names)) == len(names)
    assert shard == shard_keys(shard_of("acc_7", shards))
