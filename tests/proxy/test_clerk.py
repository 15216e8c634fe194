"""The clerk where Redis was emptied under a running request, or refuses a settlement: at a real till, with a spool on
the disk."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from app.base.limits import NO_LIMITS
from app.base.wire import Wire
from app.catalog.pricing import Prices, Sale
from app.proxy.records import Caller, Delivered, Hold
from app.proxy.settlement.clerk import Clerk, Trip
from app.proxy.settlement.leases import Leases
from app.proxy.settlement.policies import Policies
from app.proxy.settlement.spool import Settlement, Spool
from app.proxy.settlement.unposted import Unposted
from app.quota.gate import Gate
from tests.proxy.makers import ignore_budgets, order
from tests.quota.till import SHARDS, Till

SALE = Sale("prc_1", Prices(input=0, output=0, request=40))
DELIVERED = Delivered(ending="finished", http_status=200, channel=None, tries=(), usage=None, finish_reason="stop")


def _clerk(gate: Gate, spool: Spool, clock: Callable[[], int]) -> Clerk:
    """Who is never told that a request is on the books."""
    return Clerk(gate, Leases(gate), spool, Policies(), never, SHARDS, ignore_budgets, Unposted(), clock=clock)


async def begin(till: Till) -> Trip:
    asked = order()
    await till.warm(1_000)
    await till.admit(asked.request_id, nano=100)
    caller = Caller(
        account_id=till.account_id,
        key_id=till.slots.key_id,
        book="default",
        slots=till.slots,
        limits=NO_LIMITS,
        models=None,
        networks=None,
        expires_at_ms=None,
    )
    hold = Hold(
        amount_nano=100,
        output_bound=10,
        generation=till.generations[asked.request_id],
    )
    return Trip(caller, asked, SALE, hold, 0)


@pytest.mark.parametrize("is_posted", [True, False], ids=["swept and posted", "not on the books"])
async def test_after_redis_was_emptied_the_books_are_asked_first(till: Till, tmp_path: Path, is_posted: bool) -> None:
    """The worker slept for longer than its lease, and the sweeper's receipt may be posted: a second one would take
    money that the journal never sees. Where there is none, the request is made good."""

    async def asked(request_id: str, account_id: str) -> bool:
        return is_posted

    spool = Spool(tmp_path)
    clerk = Clerk(till.gate, Leases(till.gate), spool, Policies(), asked, SHARDS, ignore_budgets, Unposted())
    trip = await begin(till)
    await till.wire.call("FLUSHALL")
    await till.warm(1_000)
    await clerk.settle(trip, DELIVERED)
    (waiting,) = await spool.waiting()
    assert await till.receipts() == []
    await clerk._replay_one(waiting)
    assert await till.receipts() == ([] if is_posted else [waiting.receipt])


class Clock:
    """Milliseconds that pass when the test says so."""

    def __init__(self) -> None:
        self.at_ms = 0

    def __call__(self) -> int:
        return self.at_ms


async def never(request_id: str, account_id: str) -> bool:
    return False


def spooled(till: Till, request_id: str) -> Settlement:
    return Settlement(
        account_id=till.account_id,
        key_id=till.slots.key_id,
        request_id=request_id,
        charge_nano=40,
        tokens=0,
        receipt=request_id.encode(),
        generation=till.generations[request_id],
    )


async def refused_and_good(till: Till, spool: Spool) -> tuple[Till, str, str]:
    """Two settlements in the spool, of two customers: Redis answers the first with an error, as the key of that wallet
    holds something else."""
    broken = Till(till.wire)
    for each, request_id in ((broken, "req_1"), (till, "req_2")):
        await each.warm(1_000)
        await each.admit(request_id, nano=100)
        await spool.keep(spooled(each, request_id))
    await till.wire.call("SET", broken.slots.wallet, "no wallet")
    return broken, "req_1", "req_2"


def errors_in(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.levelno == logging.ERROR for record in caplog.records)


async def test_a_settlement_that_redis_refuses_holds_up_nobody(
    till: Till, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Those behind it are settled; it is tried again after pauses that double, and logged once a minute at most."""
    spool, clock = Spool(tmp_path), Clock()
    clerk = Clerk(
        till.gate, Leases(till.gate), spool, Policies(), never, SHARDS, ignore_budgets, Unposted(), clock=clock
    )
    broken, refused, good = await refused_and_good(till, spool)

    assert await clerk._replay_waiting()
    assert [each.request_id for each in await spool.waiting()] == [refused]
    assert good.encode() in await till.receipts()
    tries = []
    for _ in range(60):
        clock.at_ms += 1_000
        before = await commands(till)
        await clerk._replay_waiting()
        tries.append(await commands(till) > before)
    assert [second for second, is_tried in enumerate(tries, 1) if is_tried] == [1, 3, 7, 15, 31]
    assert errors_in(caplog) == 1

    await till.wire.call("DEL", broken.slots.wallet)
    await broken.warm(1_000)
    clock.at_ms += 600_000
    assert await clerk._replay_waiting()
    assert await spool.waiting() == []


async def commands(till: Till) -> int:
    """How many scripts Redis has run."""
    stats = (await till.wire.call("INFO", "commandstats")).decode()
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in stats.splitlines() if "evalsha" in line)


async def test_a_settlement_that_redis_refuses_for_a_day_is_set_aside(
    till: Till, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As a file that an operator finds, and with an error in the log; never deleted, and not before."""
    spool, clock = Spool(tmp_path), Clock()
    clerk = Clerk(
        till.gate, Leases(till.gate), spool, Policies(), never, SHARDS, ignore_budgets, Unposted(), clock=clock
    )
    _, refused, _ = await refused_and_good(till, spool)
    await clerk._replay_waiting()
    clock.at_ms = 24 * 3_600_000 - 1
    await clerk._replay_waiting()
    kept = (tmp_path / f"{refused}.settlement").read_bytes()
    clock.at_ms += 600_000
    await clerk._replay_waiting()

    assert await spool.waiting() == []
    assert (tmp_path / f"{refused}.failed").read_bytes() == kept
    assert "is set aside" in caplog.records[-1].message


async def test_while_redis_is_away_nothing_counts_as_refused(tmp_path: Path, till: Till) -> None:
    """Then the round stops at the first one, and what waits goes on as soon as Redis is back."""
    spool, clock = Spool(tmp_path), Clock()
    nobody = Wire("redis://127.0.0.1:1", deadline_s=0.05)
    await nobody.open()
    gate = Gate(nobody, 60_000)
    clerk = _clerk(gate, spool, clock)
    await till.warm(1_000)
    await till.admit("req_1", nano=100)
    await spool.keep(spooled(till, "req_1"))
    assert not await clerk._replay_waiting()
    assert not await clerk._replay_waiting()
    assert len(await spool.waiting()) == 1
    await nobody.close()


async def test_more_refused_settlements_than_a_round_reads_hold_up_nobody(
    till: Till, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round reads the oldest files; those that pause are not among them."""
    monkeypatch.setattr("app.proxy.settlement.spool._READ_MOST", 1)
    spool, clock = Spool(tmp_path), Clock()
    clerk = Clerk(
        till.gate, Leases(till.gate), spool, Policies(), never, SHARDS, ignore_budgets, Unposted(), clock=clock
    )
    _, refused, _ = await refused_and_good(till, spool)
    assert await clerk._replay_waiting()
    assert [each.request_id for each in await spool.waiting()] == [refused]
