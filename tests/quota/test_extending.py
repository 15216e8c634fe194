"""Holds that grow while their request runs: never past what the wallet has."""

import asyncio

from tests.quota.till import Till


async def test_a_hold_grows_and_is_given_back_whole(till: Till) -> None:
    """What was added is held like the rest, and released with it."""
    await till.warm(1000)
    await till.admit("req_1", nano=600)
    assert await till.extend("req_1", 150)
    assert (await till.wallet()).held_nano == 750
    await till.settle("req_1", nano=700)
    wallet = await till.wallet()
    assert (wallet.balance_nano, wallet.held_nano) == (300, 0)


async def test_a_hold_cannot_grow_past_the_wallet(till: Till) -> None:
    """To the nano; a refusal changes nothing, and what others hold is theirs."""
    await till.warm(1000)
    await till.admit("req_1", nano=600)
    await till.admit("req_2", nano=300)
    assert not await till.extend("req_1", 101)
    assert (await till.wallet()).held_nano == 900
    assert await till.extend("req_1", 100)
    assert (await till.wallet()).held_nano == 1000


async def test_a_credit_line_can_be_held(till: Till) -> None:
    await till.warm(100, floor_nano=-500)
    await till.admit("req_1", nano=100)
    assert await till.extend("req_1", 500)
    assert not await till.extend("req_1", 1)


async def test_many_streams_growing_at_once_share_what_there_is(till: Till) -> None:
    """A race of extensions: as many are granted as the wallet pays for."""
    await till.warm(100)
    for i in range(20):
        await till.admit(f"req_{i}", nano=1)
    granted = await asyncio.gather(*(till.extend(f"req_{i}", 10) for i in range(20)))
    assert sum(granted) == 8
    assert (await till.wallet()).held_nano == 100


async def test_a_hold_that_has_ended_stays_ended(till: Till) -> None:
    """An extension that comes too late holds nothing: what the request comes to is for its settlement."""
    await till.warm(1000)
    await till.admit("req_1", nano=600)
    await till.expire("req_1")
    assert await till.extend("req_1", 100)
    assert (await till.wallet()).held_nano == 0
