"""Lots in a wallet: brought by credits into their place, lapsed when they have expired, spent by what is taken back."""

import asyncio
import itertools

import pytest

from app.base.clock import now_ms
from app.quota.wallets import Wallet
from tests.quota.till import Till

FAR = 4_000_000_000_000
SOON_PROMO, LATE_PROMO, PROMO = f"ent_1:10:{FAR}:1", f"ent_2:20:{FAR + 1}:1", "ent_3:30:0:1"
SOON, LATE = f"ent_4:40:{FAR}:0", f"ent_5:50:{FAR + 1}:0"
ORDER = [SOON_PROMO, LATE_PROMO, PROMO, SOON, LATE]
EXPIRED = "ent_9:300:1000:0"


async def _warm(till: Till, balance: int, lots: str, floor: int = 0) -> None:
    assert await till.wallets.warm(till.account_id, balance, 0, floor, b"", lots) == "ok"


@pytest.mark.parametrize("order", list(itertools.permutations(range(5)))[::17])
async def test_a_lot_is_put_where_it_is_spent(till: Till, order: tuple[int, ...]) -> None:
    """Whatever comes first: given away before paid, what expires next before what expires later, never last."""
    await till.warm(0)
    for number, which in enumerate(order, 1):
        assert await till.wallets.apply_credit(till.account_id, number, 50, ORDER[which], 0) == "ok"
    assert (await till.wallet()).lots == " ".join(ORDER)


async def test_of_equal_lots_the_older_one_is_spent_first(till: Till) -> None:
    await till.warm(0)
    for number, lot in enumerate(("ent_b:1:0:1", "ent_a:1:0:1"), 1):
        await till.wallets.apply_credit(till.account_id, number, 1, lot, 0)
    assert (await till.wallet()).lots == "ent_a:1:0:1 ent_b:1:0:1"


async def test_a_lot_comes_once(till: Till) -> None:
    """With its credit: repeated, neither the money nor the lot is there twice."""
    await till.warm(0)
    answers = [await till.wallets.apply_credit(till.account_id, 1, 30, PROMO, 0) for _ in range(2)]
    assert answers == ["ok", "done"]
    assert await till.wallet() == Wallet(30, 0, 1, 0, PROMO)


async def test_a_credit_line_comes_in_its_turn(till: Till) -> None:
    """It is a numbered entry that moves nothing; an early one is a gap, a late one is done."""
    await till.warm(100)
    answers = [
        await till.wallets.apply_credit(till.account_id, number, 0, "", floor)
        for number, floor in ((2, -9), (1, -500), (1, -7), (2, -300))
    ]
    assert answers == ["gap", "ok", "done", "ok"]
    assert await till.wallet() == Wallet(100, 0, 2, -300)


async def test_a_rebuilt_wallet_has_its_lots(till: Till) -> None:
    await _warm(till, 100, PROMO, floor=-5)
    assert await till.wallet() == Wallet(100, 0, 0, -5, PROMO)


async def test_an_expired_lot_lapses(till: Till) -> None:
    """It leaves the wallet whole, and the stream says how much it was; a second call finds nothing."""
    await _warm(till, 1000, f"{PROMO} {EXPIRED}")
    assert await till.wallets.lapse(till.account_id, "ent_9", b"movement") == (300, 0)
    assert await till.wallets.lapse(till.account_id, "ent_9", b"movement") == (0, 0)
    assert await till.wallet() == Wallet(700, 0, 0, 0, PROMO)
    look = await till.wallets.look(till.shard.number, [])
    assert [entry.fields for entry in look.entries] == [{b"m": b"movement", b"a": b"300"}]


@pytest.mark.parametrize("lot", ["ent_1", "ent_3", "ent_unknown"])
async def test_only_what_has_expired_lapses(till: Till, lot: str) -> None:
    """By Redis's clock: not what expires later, nor what never does."""
    await _warm(till, 1000, f"{SOON_PROMO} {PROMO}")
    assert await till.wallets.lapse(till.account_id, lot, b"movement") == (0, 0)
    assert (await till.wallet()).balance_nano == 1000


async def test_what_is_held_lapses_when_it_is_free(till: Till) -> None:
    """A running request may still spend it; what it leaves goes with the next call."""
    await _warm(till, 300, f"ent_9:300:{FAR}:0")
    await till.admit("req_1", nano=250)
    await till.give_lots(f"ent_9:300:{now_ms() + 2}:0")
    await asyncio.sleep(0.02)
    assert await till.wallets.lapse(till.account_id, "ent_9", b"movement") == (50, 250)
    assert await till.wallets.lapse(till.account_id, "ent_9", b"movement") == (0, 250)
    await till.settle("req_1", nano=100)
    assert await till.wallets.lapse(till.account_id, "ent_9", b"movement") == (150, 0)
    assert await till.wallet() == Wallet(0, 0, 0, 0)


async def test_a_wallet_that_is_not_there_lapses_nothing(till: Till) -> None:
    assert await till.wallets.lapse(till.account_id, "ent_9", b"movement") is None


async def test_money_is_taken_back_like_a_charge(till: Till) -> None:
    """Lots in their order, then the rest; and the stream says what came out of which."""
    await _warm(till, 100, f"{SOON_PROMO} {PROMO}")
    assert await till.wallets.debit(till.account_id, "ent_x", 15, b"movement") == "ok"
    assert await till.wallet() == Wallet(85, 0, 0, 0, "ent_3:25:0:1")
    assert await till.wallets.debit(till.account_id, "ent_y", 60, b"movement") == "ok"
    assert await till.wallet() == Wallet(25, 0, 0, 0)
    assert await till.wallets.debit(till.account_id, "ent_z", 1, b"movement") == "ok"
    look = await till.wallets.look(till.shard.number, [])
    assert [entry.fields.get(b"l") for entry in look.entries] == [b"ent_1:10 ent_3:5", b"ent_3:25", None]
    assert [entry.fields[b"a"] for entry in look.entries] == [b"15", b"60", b"1"]


async def test_what_is_held_is_not_taken_back(till: Till) -> None:
    """Nor what goes below the floor: the wallet is left as it was."""
    await till.warm(100, floor_nano=-20)
    await till.admit("req_1", nano=50)
    assert await till.wallets.debit(till.account_id, "ent_x", 71, b"movement") == "credit"
    assert await till.wallet() == Wallet(100, 50, 0, -20)
    assert await till.wallets.debit(till.account_id, "ent_x", 70, b"movement") == "ok"
    assert (await till.wallet()).balance_nano == 30


async def test_money_is_taken_back_once(till: Till) -> None:
    """The same movement again answers what it took, even where the wallet is gone by now."""
    await till.warm(100)
    assert await till.wallets.debit(till.account_id, "ent_x", 60, b"movement") == "ok"
    assert await till.wallets.debit(till.account_id, "ent_x", 60, b"movement") == "60"
    assert (await till.wallet()).balance_nano == 40
    await till.wire.call("DEL", till.slots.wallet)
    assert await till.wallets.debit(till.account_id, "ent_x", 60, b"movement") == "60"
    assert await till.wallets.debit(till.account_id, "ent_y", 1, b"movement") == "cold"
