"""A vendor's limits for a credential, over all workers: never more than it lets us, and nobody waits for Redis."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.base.errors import ServiceUnavailable
from app.base.ids import new_id
from app.base.wire import Wire
from app.quota.seats import Seat, Seats
from benchmarks.ports import free_port

_PATIENCE_S = 10.0  # a machine may be busy: what is tested is the count
_LEASE_MS = 60_000


class Vendor:
    """One credential, that no other test uses."""

    def __init__(self, wire: Wire, **limits: int) -> None:
        self.wire = wire
        self.credential = new_id("crd")
        self.limits = {"rpm": 0, "tpm": 0, "concurrency": 0} | limits
        self.workers = [Seats(wire, _PATIENCE_S), Seats(wire, _PATIENCE_S)]
        self._count = 0

    def seat(self, tokens: int = 0, lease_ms: int = _LEASE_MS) -> Seat:
        self._count += 1
        return Seat(self.credential, f"req_{self._count}", tokens, lease_ms=lease_ms, **self.limits)

    async def take(self, tokens: int = 0, lease_ms: int = _LEASE_MS) -> tuple[Seat, int]:
        seat = self.seat(tokens, lease_ms)
        return seat, await self.workers[self._count % 2].take(seat)

    async def free(self, seat: Seat, tokens: int | None = None) -> None:
        self.workers[0].free(seat, tokens)
        await self.workers[0].close()

    async def taken_at_ms(self) -> float:
        """When the last seat was taken, by Redis's clock."""
        return int(await self.wire.call("HGET", f"{{v:{self.credential}}}:rate", "at")) / 1000

    async def rewind(self, ms: int) -> None:
        """As if so much time had passed."""
        key = f"{{v:{self.credential}}}:rate"
        at = await self.wire.call("HGET", key, "at")
        await self.wire.call("HSET", key, "at", int(at) - ms * 1000)


async def test_requests_come_a_few_at_once_and_then_evenly(wire: Wire) -> None:
    """A tenth of the minute's at once; then one each time the vendor's own count has room."""
    vendor = Vendor(wire, rpm=60)
    waits = [(await vendor.take())[1] for _ in range(7)]
    assert waits[:6] == [0] * 6
    assert 0 < waits[6] <= 1_200
    await vendor.rewind(waits[6])
    assert (await vendor.take())[1] == 0
    assert (await vendor.take())[1] > 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rpm=st.integers(1, 2_000), pauses=st.lists(st.integers(0, 20_000), min_size=3, max_size=12))
async def test_no_minute_sees_more_than_the_limit(wire: Wire, rpm: int, pauses: list[int]) -> None:
    """However the requests come: in every window of sixty seconds at most `rpm` are let through."""
    vendor = Vendor(wire, rpm=rpm)
    ahead_ms, taken = 0, []
    for pause_ms in pauses:
        for _ in range(60):
            if (await vendor.take())[1]:
                break
            taken.append(await vendor.taken_at_ms() + ahead_ms)
        ahead_ms += pause_ms
        await vendor.rewind(pause_ms)
    for start in taken:
        assert sum(start <= at < start + 60_000 for at in taken) <= rpm


async def test_a_burst_over_workers_is_counted(wire: Wire) -> None:
    vendor = Vendor(wire, tpm=100)
    waits = await asyncio.gather(*(vendor.take(10) for _ in range(200)))
    assert 1 <= sum(wait == 0 for _, wait in waits) <= 2, "a tenth at once; the next has to wait six seconds"


async def test_tokens_are_held_by_estimate_and_corrected_at_the_end(wire: Wire) -> None:
    vendor = Vendor(wire, tpm=60_000)
    first, wait_ms = await vendor.take(6_000)
    assert wait_ms == 0
    _, wait_ms = await vendor.take(3_000)
    assert 0 < wait_ms <= 3_400, "the leak makes room for them at 54,001 a minute"
    await vendor.free(first, 3_000)
    assert (await vendor.take(3_000))[1] == 0
    await vendor.free(vendor.seat(0), 54_000)
    _, wait_ms = await vendor.take(10)
    assert wait_ms > 50_000, "one that took more than was held has to be waited for"


async def test_one_larger_than_the_bucket_goes_alone(wire: Wire) -> None:
    vendor = Vendor(wire, tpm=1_000)
    assert (await vendor.take(900))[1] == 0
    _, wait_ms = await vendor.take(1)
    assert wait_ms > 50_000
    await vendor.rewind(wait_ms)
    assert (await vendor.take(1))[1] == 0
    assert (await vendor.take(900))[1] > 0


async def test_what_runs_at_the_same_time_is_bounded(wire: Wire) -> None:
    vendor = Vendor(wire, concurrency=3)
    seats = await asyncio.gather(*(vendor.take() for _ in range(20)))
    assert sum(wait_ms == 0 for _, wait_ms in seats) == 3
    running = next(seat for seat, wait_ms in seats if wait_ms == 0)
    await vendor.free(running)
    await vendor.free(running)
    assert (await vendor.take())[1] == 0
    assert (await vendor.take())[1] > 0


async def test_a_seat_whose_worker_died_is_free_again(wire: Wire) -> None:
    """Its lease ends when its attempt would have."""
    vendor = Vendor(wire, concurrency=1)
    await vendor.take(lease_ms=1)
    await asyncio.sleep(0.01)
    assert (await vendor.take())[1] == 0


@pytest.mark.parametrize("limits", [{"rpm": 10}, {"tpm": 1_000}, {"concurrency": 1}])
async def test_looking_takes_nothing(wire: Wire, limits: Any) -> None:
    vendor = Vendor(wire, **limits)
    assert [await vendor.workers[0].look(vendor.seat(100)) for _ in range(5)] == [0] * 5
    assert (await vendor.take(100))[1] == 0
    assert await vendor.workers[0].look(vendor.seat(100)) > 0


async def test_a_refused_one_uses_nothing_up(wire: Wire) -> None:
    """Where one limit refuses, the others have not counted it."""
    vendor = Vendor(wire, rpm=600, tpm=100, concurrency=5)
    assert (await vendor.take(100))[1] == 0
    for _ in range(70):
        assert (await vendor.take(100))[1] > 0
    await vendor.rewind(70_000)
    assert (await vendor.take(100))[1] == 0


async def test_without_redis_nobody_is_kept_from_a_vendor(caplog: pytest.LogCaptureFixture) -> None:
    """And only the first request finds out that it is away."""
    wire = Wire("redis://127.0.0.1:1/0")
    await wire.open()
    try:
        vendor = Vendor(wire, rpm=1)
        vendor.workers = [Seats(wire), Seats(wire)]  # which wait no longer than customers do
        for _ in range(50):
            assert (await vendor.take())[1] == 0
        assert len([each for each in caplog.records if each.name == "tollgate.seats"]) < 10
    finally:
        await wire.close()


async def test_a_lease_is_moved_on_while_its_seat_is_taken(wire: Wire) -> None:
    """And no longer: a renewal that comes after the end takes nothing."""
    vendor = Vendor(wire, concurrency=1)
    seat, wait_ms = await vendor.take(lease_ms=1_000)
    assert wait_ms == 0
    live = f"{{v:{vendor.credential}}}:live"
    before = float(await wire.call("ZSCORE", live, seat.name))
    await vendor.workers[0].renew(msgspec.structs.replace(seat, lease_ms=3_600_000))
    assert float(await wire.call("ZSCORE", live, seat.name)) > before + 3_000_000
    await vendor.free(seat)
    await vendor.workers[0].renew(seat)
    assert await wire.call("ZCARD", live) == 0


async def test_our_own_limits_are_not_waived_without_redis() -> None:
    """A vendor's are: it says itself when it has had enough."""
    wire = Wire(f"redis://127.0.0.1:{free_port()}", deadline_s=0.05)
    await wire.open()
    vendor = Vendor(wire, concurrency=1)
    assert await vendor.workers[0].take(vendor.seat()) == 0
    with pytest.raises(ServiceUnavailable):
        await vendor.workers[0].take_strictly(vendor.seat())
    await wire.close()
