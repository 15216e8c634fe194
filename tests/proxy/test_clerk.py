"""The clerk where Redis was emptied under a running request: at a real till, with a spool on the disk."""

from pathlib import Path

import pytest

from app.base.limits import NO_LIMITS
from app.catalog.pricing import Prices, Sale
from app.proxy.records import Caller, Delivered, Hold
from app.proxy.settlement.clerk import Clerk, Trip
from app.proxy.settlement.leases import Leases
from app.proxy.settlement.policies import Policies
from app.proxy.settlement.spool import Spool
from tests.proxy.makers import ignore_budgets, order
from tests.quota.till import SHARDS, Till

SALE = Sale("prc_1", Prices(input=0, output=0, request=40))
DELIVERED = Delivered(ending="finished", http_status=200, channel=None, tries=(), usage=None, finish_reason="stop")


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
    clerk = Clerk(till.gate, Leases(till.gate), spool, Policies(), asked, SHARDS, ignore_budgets)
    trip = await begin(till)
    await till.wire.call("FLUSHALL")
    await till.warm(1_000)
    await clerk.settle(trip, DELIVERED)
    (waiting,) = await spool.waiting()
    assert await till.receipts() == []
    await clerk._replay_one(waiting)
    assert await till.receipts() == ([] if is_posted else [waiting.receipt])
