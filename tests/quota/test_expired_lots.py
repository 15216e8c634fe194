"""Credit that has expired and was not swept yet: it pays for what came before, and for nothing else."""

from app.base.clock import now_ms
from app.quota.gate import Admitted, Refused
from tests.quota.till import Till

EXPIRED = "ent_1:100:1000:1"


async def open_till(till: Till, balance: int, lots: str) -> None:
    await till.warm(balance)
    await till.give_lots(lots)


async def test_it_admits_nobody(till: Till) -> None:
    await open_till(till, 130, EXPIRED)
    assert await till.admit("req_1", nano=31) == Refused("credit", available_nano=30)
    assert isinstance(await till.admit("req_2", nano=30), Admitted)


async def test_it_pays_for_no_request_that_came_later(till: Till) -> None:
    """What is left of it lapses; the plain money has paid."""
    await open_till(till, 130, EXPIRED)
    await till.admit("req_1", nano=30)
    settled = await till.settle("req_1", nano=30)
    assert settled is not None
    assert (settled.balance_nano, settled.unpaid_nano) == (100, 0)
    assert await till.lots() == EXPIRED


async def test_it_pays_for_a_request_that_came_before(till: Till) -> None:
    await open_till(till, 130, f"ent_1:100:{now_ms() + 150}:1")
    await till.admit("req_1", nano=60)
    await till.give_lots(f"ent_1:100:{now_ms() + 1}:1")
    await till.wire.call("DEBUG", "SLEEP", "0.01")
    assert await till.admit("req_2", nano=31) == Refused("credit", available_nano=30)
    assert await till.settle("req_1", nano=60) is not None
    assert b"ent_1:60" in (await till.last_entry())[b"l"]


async def test_what_runs_keeps_its_part_of_a_lot_that_lapses(till: Till) -> None:
    """And the plain money is not held for it instead."""
    await open_till(till, 150, f"ent_1:100:{now_ms() + 150}:1")
    await till.admit("req_1", nano=60)
    await till.give_lots("ent_1:100:1000:1")
    assert await till.wallets.lapse(till.account_id, "ent_1", b"{}") == (40, 60)
    assert (await till.wallet()).balance_nano == 110
    assert await till.admit("req_2", nano=51) == Refused("credit", available_nano=50)


async def test_it_is_not_taken_back(till: Till) -> None:
    """An operator who takes money back takes what the customer has."""
    await open_till(till, 130, EXPIRED)
    assert await till.wallets.debit(till.account_id, "ent_a", 31, b"{}") == "credit"
    assert await till.wallets.debit(till.account_id, "ent_b", 30, b"{}") == "ok"
    assert await till.lots() == EXPIRED


async def test_it_extends_no_hold(till: Till) -> None:
    await open_till(till, 130, EXPIRED)
    await till.admit("req_1", nano=10)
    assert not await till.extend("req_1", 31)
    assert await till.extend("req_1", 20)


async def open_with_one_running(till: Till, balance: int, hold: int) -> None:
    """100 of the wallet expired after `req_a` had been admitted."""
    await open_till(till, balance, f"ent_1:100:{now_ms() + 60_000}:1")
    await till.admit("req_a", nano=hold)
    await till.give_lots(f"ent_1:100:{now_ms() + 1}:1")
    await till.wire.call("DEBUG", "SLEEP", "0.01")


async def test_the_hold_of_one_newcomer_frees_it_for_no_other(till: Till) -> None:
    """What a newcomer holds is plain money: the expired lot does not stand in for it."""
    await open_till(till, 200, EXPIRED)
    assert isinstance(await till.admit("req_1", nano=100), Admitted)
    assert await till.admit("req_2", nano=1) == Refused("credit", available_nano=0)
    assert not await till.extend("req_1", 1)
    assert await till.wallets.debit(till.account_id, "ent_a", 1, b"{}") == "credit"
    assert await till.wallets.lapse(till.account_id, "ent_1", b"{}") == (100, 0)
    settled = await till.settle("req_1", nano=100)
    assert settled is not None and settled.unpaid_nano == 0
    assert (await till.wallet()).balance_nano == 0


async def test_newcomers_leave_what_was_promised(till: Till) -> None:
    """A charge within a hold that was given before the expiry is paid, whoever comes and ends in between."""
    await open_with_one_running(till, 200, hold=50)
    assert isinstance(await till.admit("req_b", nano=100), Admitted)
    assert await till.admit("req_c", nano=50) == Refused("credit", available_nano=0)
    for request_id, nano in (("req_b", 100), ("req_a", 50)):
        settled = await till.settle(request_id, nano=nano)
        assert settled is not None and settled.unpaid_nano == 0
    assert await till.wallets.lapse(till.account_id, "ent_1", b"{}") == (50, 0)
    assert (await till.wallet()).balance_nano == 0


async def test_paid_credit_that_comes_later_does_not_lapse(till: Till) -> None:
    await open_till(till, 200, EXPIRED)
    await till.admit("req_1", nano=100)
    await till.settle("req_1", nano=100)
    assert await till.wallets.lapse(till.account_id, "ent_1", b"{}") == (100, 0)
    assert await till.wallets.apply_credit(till.account_id, 1, 100) == "ok"
    assert await till.wallets.lapse(till.account_id, "ent_1", b"{}") == (0, 0)
    assert (await till.wallet()).balance_nano == 100


async def test_a_hold_that_grows_keeps_what_it_is_entitled_to(till: Till) -> None:
    """Of one admitted before the expiry, the whole hold may be spent from the lot; of a newcomer's, nothing."""
    await open_with_one_running(till, 150, hold=20)
    await till.admit("req_b", nano=10)
    assert await till.extend("req_a", 40)
    assert await till.wallets.lapse(till.account_id, "ent_1", b"{}") == (40, 60)
    assert await till.extend("req_b", 40)
    assert await till.wallets.lapse(till.account_id, "ent_1", b"{}") == (0, 60)
    for request_id, nano in (("req_b", 50), ("req_a", 60)):
        settled = await till.settle(request_id, nano=nano)
        assert settled is not None and settled.unpaid_nano == 0
    assert (await till.wallet()).balance_nano == 0


async def test_what_expired_is_spent_before_what_others_may_have(till: Till) -> None:
    """By the one request that may: otherwise what pays for newcomers would go, and the rest would lapse."""
    far = f"ent_2:50:{now_ms() + 60_000}:1"
    await open_till(till, 100, f"{far} ent_1:50:{now_ms() + 60_000}:0")
    await till.admit("req_a", nano=50)
    await till.give_lots(f"{far} ent_1:50:{now_ms() + 1}:0")
    await till.wire.call("DEBUG", "SLEEP", "0.01")
    assert isinstance(await till.admit("req_b", nano=50), Admitted)
    for request_id, lot in (("req_a", b"ent_1:50"), ("req_b", b"ent_2:50")):
        settled = await till.settle(request_id, nano=50)
        assert settled is not None and settled.unpaid_nano == 0
        assert (await till.last_entry())[b"l"] == lot


async def test_a_rebuilt_wallet_knows_who_came_before(till: Till) -> None:
    """From the times that the holds of its shard have."""
    await open_with_one_running(till, 200, hold=30)
    await till.admit("req_b", nano=10)
    lots = await till.lots()
    await till.wire.call("DEL", till.slots.wallet)
    look = await till.wallets.look(till.shard.number, [])
    assert await till.wallets.warm(till.account_id, 200, 0, 0, look.last_entry, lots) == "ok"
    assert await till.admit("req_c", nano=91) == Refused("credit", available_nano=90)
    assert await till.wallets.lapse(till.account_id, "ent_1", b"{}") == (70, 30)


async def test_a_hold_that_is_put_back_is_entitled_as_before(till: Till) -> None:
    """A worker hands in what Redis has lost after the wallet was rebuilt without it."""
    await open_with_one_running(till, 200, hold=30)
    lots = await till.lots()
    await till.wire.call("DEL", till.slots.wallet, till.shard.holds)
    assert await till.wallets.warm(till.account_id, 200, 0, 0, b"", lots) == "ok"
    assert await till.gate.put_back(till.shard.number) == 1
    assert await till.wallets.lapse(till.account_id, "ent_1", b"{}") == (70, 30)


async def test_a_lot_that_comes_after_it_has_expired_pays_for_no_newcomer(till: Till) -> None:
    """A credit may reach Redis late; what was held by newcomers then does not count on it."""
    await till.warm(100)
    await till.admit("req_1", nano=100)
    assert await till.wallets.apply_credit(till.account_id, 1, 100, EXPIRED) == "ok"
    assert await till.admit("req_2", nano=1) == Refused("credit", available_nano=0)
    assert await till.wallets.lapse(till.account_id, "ent_1", b"{}") == (100, 0)
