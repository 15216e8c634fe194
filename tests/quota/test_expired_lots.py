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
