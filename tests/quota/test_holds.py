"""Holds: money set aside at admission, and given back or spent exactly once."""

import asyncio

import pytest

from app.quota.gate import Admitted, LostHold, Refused, Settled
from tests.quota.till import Till


async def test_a_cold_wallet_admits_nobody(till: Till) -> None:
    """A wallet that Redis does not have is not guessed at: the ledger has to rebuild it first."""
    assert await till.admit("req_1") == Refused("cold")
    assert await till.wallets.read(till.account_id) is None


async def test_a_hold_is_set_aside_and_settled(till: Till) -> None:
    """The hold leaves the balance alone; settling takes the charge and frees the whole hold."""
    await till.warm(1000)
    assert isinstance(await till.admit("req_1", nano=600), Admitted)
    held = await till.wallet()
    assert (held.balance_nano, held.held_nano) == (1000, 600)
    assert await till.settle("req_1", nano=250) == Settled(balance_nano=750, unpaid_nano=0)
    after = await till.wallet()
    assert (after.balance_nano, after.held_nano) == (750, 0)


async def test_what_others_hold_cannot_be_held_again(till: Till) -> None:
    """Only what nobody holds is available, to the nano; the refusal says how much that is."""
    await till.warm(1000)
    await till.admit("req_1", nano=600)
    assert await till.admit("req_2", nano=401) == Refused("credit", available_nano=400)
    assert isinstance(await till.admit("req_3", nano=400), Admitted)
    assert await till.admit("req_4", nano=1) == Refused("credit", available_nano=0)


async def test_two_hundred_at_once_on_credit_for_twenty(till: Till) -> None:
    """However many start at the same time, exactly those that the wallet affords are admitted."""
    await till.warm(20 * 7 + 6)
    answers = await asyncio.gather(*(till.admit(f"req_{i}", nano=7) for i in range(200)))
    assert sum(isinstance(answer, Admitted) for answer in answers) == 20
    assert (await till.wallet()).held_nano == 140


async def test_a_second_settlement_does_nothing(till: Till) -> None:
    """Settling is safe to repeat: the second call finds no hold, charges nothing and appends nothing."""
    await till.warm(1000)
    await till.admit("req_1", nano=600)
    await till.settle("req_1", nano=250)
    assert await till.settle("req_1", nano=250) is None
    assert (await till.wallet()).balance_nano == 750
    assert await till.receipts() == [b"req_1"]


async def test_many_settlements_of_one_request_at_once(till: Till) -> None:
    """A race of settlements has one winner."""
    await till.warm(1000)
    await till.admit("req_1", nano=600)
    ended = await asyncio.gather(*(till.settle("req_1", nano=100) for _ in range(20)))
    assert sum(each is not None for each in ended) == 1
    assert (await till.wallet()).balance_nano == 900


async def test_a_settlement_after_an_expiry_does_nothing(till: Till) -> None:
    """A hold that the sweeper ended stays ended: its worker comes too late."""
    await till.warm(1000)
    await till.admit("req_1", nano=600)
    assert await till.expire("req_1")
    assert await till.settle("req_1", nano=250) is None
    wallet = await till.wallet()
    assert (wallet.balance_nano, wallet.held_nano) == (1000, 0)
    assert await till.receipts() == [b"expired req_1"]


async def test_an_expiry_after_a_settlement_does_nothing(till: Till) -> None:
    """The sweeper that was slower than the worker leaves no second receipt."""
    await till.warm(1000)
    await till.admit("req_1", nano=600)
    await till.settle("req_1", nano=250)
    assert not await till.expire("req_1")
    assert await till.receipts() == [b"req_1"]


async def test_a_charge_beyond_the_hold_spends_what_is_free(till: Till) -> None:
    """A vendor may count more than was bounded: what nobody holds pays for it."""
    await till.warm(1000)
    await till.admit("req_1", nano=100)
    assert await till.settle("req_1", nano=900) == Settled(balance_nano=100, unpaid_nano=0)


async def test_a_charge_never_spends_the_holds_of_others(till: Till) -> None:
    """What the wallet cannot pay without other requests' holds is unpaid, and the stream says how much."""
    await till.warm(1000)
    await till.admit("req_1", nano=100)
    await till.admit("req_2", nano=700)
    assert await till.settle("req_1", nano=950) == Settled(balance_nano=700, unpaid_nano=650)
    look = await till.wallets.look(till.shard.number, [])
    assert look.entries[-1].fields == {b"r": b"req_1", b"u": b"650"}
    assert await till.settle("req_2", nano=700) == Settled(balance_nano=0, unpaid_nano=0)


async def test_a_paid_receipt_says_nothing_of_unpaid(till: Till) -> None:
    """Only what could not be paid is written beside a receipt."""
    await till.warm(1000)
    await till.admit("req_1", nano=100)
    await till.settle("req_1", nano=1000)
    look = await till.wallets.look(till.shard.number, [])
    assert look.entries[-1].fields == {b"r": b"req_1"}


async def test_a_credit_line_is_the_floor(till: Till) -> None:
    """With a floor of -500 a wallet goes down to it, and not a nano lower."""
    await till.warm(100, floor_nano=-500)
    assert await till.admit("req_1", nano=601) == Refused("credit", available_nano=600)
    assert isinstance(await till.admit("req_2", nano=600), Admitted)
    assert await till.settle("req_2", nano=605) == Settled(balance_nano=-500, unpaid_nano=5)


async def test_below_the_floor_even_a_free_request_waits(till: Till) -> None:
    """A debit can take a wallet below its floor: then nothing starts, not even what costs nothing."""
    await till.warm(100)
    assert await till.wallets.apply_credit(till.account_id, 1, -150) == "ok"
    assert await till.admit("req_1") == Refused("credit", available_nano=-50)


async def test_settling_below_the_floor_takes_nothing_more(till: Till) -> None:
    """A debit while a request runs: its charge is unpaid as far as the floor says, and the balance does not sink."""
    await till.warm(100)
    await till.admit("req_1", nano=80)
    await till.wallets.apply_credit(till.account_id, 1, -150)
    assert await till.settle("req_1", nano=80) == Settled(balance_nano=-50, unpaid_nano=80)


async def test_figures_near_the_largest_wallet_are_exact(till: Till) -> None:
    """Up to 2^53 nano every nano counts."""
    most = 2**53 - 1
    await till.warm(most)
    assert isinstance(await till.admit("req_1", nano=most - 1), Admitted)
    assert await till.admit("req_2", nano=2) == Refused("credit", available_nano=1)
    assert await till.settle("req_1", nano=most - 2) == Settled(balance_nano=2, unpaid_nano=0)
    assert (await till.wallet()).held_nano == 0


async def test_accounts_of_a_shard_do_not_touch_each_other(till: Till) -> None:
    """Two wallets share a shard's holds and stream, and nothing else."""
    other = Till(till.wire)
    while other.shard.number != till.shard.number:
        other = Till(till.wire)
    await till.warm(1000)
    await other.warm(50)
    await till.admit("req_1", nano=1000)
    await other.admit("req_2", nano=50)
    await till.settle("req_1", nano=1000)
    wallet = await other.wallet()
    assert (wallet.balance_nano, wallet.held_nano) == (50, 50)


async def test_a_repeated_settlement_never_charges_a_redis_that_was_emptied(till: Till) -> None:
    """The first call may have run, and been posted: only the ledger knows, so the repeat asks it first."""
    await till.warm(1000)
    await till.admit("req_1", nano=600)
    await till.wire.call("DEL", till.slots.wallet, till.shard.holds, till.shard.leases)
    await till.warm(1000)
    with pytest.raises(LostHold):
        await till.settle_again("req_1", nano=250)
    assert (await till.wallet()).balance_nano == 1000
    assert await till.settle("req_1", nano=250) == Settled(balance_nano=750, unpaid_nano=0)
    assert await till.settle_again("req_1", nano=250) is None


async def test_a_repeated_settlement_charges_once(till: Till) -> None:
    """Whether or not the first call had run."""
    await till.warm(1000)
    await till.admit("req_1", nano=600)
    assert await till.settle_again("req_1", nano=250) == Settled(balance_nano=750, unpaid_nano=0)
    assert await till.settle_again("req_1", nano=250) is None
