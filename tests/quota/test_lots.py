"""Credits that are given away or expire are spent first, in their order; the stream says how much of each."""

import pytest

from tests.quota.till import Till

PROMO, PAID = "ent_a:300:1800000000000:1", "ent_b:200:0:0"


@pytest.mark.parametrize(
    ("charge", "spent", "left"),
    [
        (0, None, f"{PROMO} {PAID}"),
        (299, b"ent_a:299", f"ent_a:1:1800000000000:1 {PAID}"),
        (300, b"ent_a:300", PAID),
        (301, b"ent_a:300 ent_b:1", "ent_b:199:0:0"),
        (500, b"ent_a:300 ent_b:200", ""),
        (900, b"ent_a:300 ent_b:200", ""),
    ],
)
async def test_lots_are_spent_in_their_order(till: Till, charge: int, spent: bytes | None, left: str) -> None:
    """A charge takes from each lot in turn, and from the rest of the wallet last."""
    await till.warm(1000)
    await till.give_lots(f"{PROMO} {PAID}")
    await till.admit("req_1", nano=1000)
    await till.settle("req_1", nano=charge)
    assert (await till.last_entry()).get(b"l") == spent
    assert await till.lots() == left
    assert (await till.wallet()).balance_nano == 1000 - charge


async def test_only_what_was_paid_is_taken_from_lots(till: Till) -> None:
    """What a wallet can't pay is not taken from anything."""
    await till.warm(100)
    await till.give_lots("ent_a:100:0:1")
    await till.admit("req_1", nano=100)
    await till.settle("req_1", nano=150)
    entry = await till.last_entry()
    assert (entry[b"l"], entry[b"u"]) == (b"ent_a:100", b"50")


async def test_a_wallet_without_lots_says_nothing_of_them(till: Till) -> None:
    await till.warm(100)
    await till.admit("req_1", nano=100)
    await till.settle("req_1", nano=50)
    assert b"l" not in await till.last_entry()


async def test_a_charge_without_a_wallet_is_left_to_the_ledger(till: Till) -> None:
    """Redis was emptied in between: which lots it spends is worked out where the lots are kept."""
    await till.warm(100)
    await till.admit("req_1", nano=100)
    await till.wire.call("DEL", till.slots.wallet, till.shard.holds, till.shard.leases)
    await till.settle("req_1", nano=50)
    assert (await till.last_entry())[b"l"] == b"?"
