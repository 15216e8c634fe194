"""The lease, and who does the warden's jobs: one at a time, another when it is gone."""

import asyncio
from collections.abc import Callable

from app.base.errors import ServiceUnavailable
from app.base.tasks import end_all
from app.base.wire import Wire
from app.warden.lease import Lease
from app.warden.watch import Job, watch
from tests.servers import RedisServer

LONG_S = 30.0


async def soon(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.01)


async def test_one_has_it(wire: Wire, other_wire: Wire) -> None:
    """The first to ask; it may ask again, and only its own release frees it."""
    first, second = Lease(wire, "warden", LONG_S), Lease(other_wire, "warden", LONG_S)

    assert [await first.hold(), await second.hold(), await first.hold()] == [True, False, True]
    await second.release()
    assert not await second.hold(), "somebody else's release frees nothing"
    await first.release()
    assert await second.hold()
    assert (first.is_held, second.is_held) == (False, True)


async def test_many_ask_at_once(wire: Wire, other_wire: Wire) -> None:
    leases = [Lease(each, "warden", LONG_S) for each in (wire, other_wire) * 10]

    assert sum(await asyncio.gather(*(lease.hold() for lease in leases))) == 1


async def test_it_runs_out(wire: Wire, other_wire: Wire) -> None:
    """A holder that says no more loses it, and does not give back what is another's by then."""
    first, second = Lease(wire, "warden", 0.05), Lease(other_wire, "warden", LONG_S)
    assert await first.hold()
    async with asyncio.timeout(10):
        while not await second.hold():
            await asyncio.sleep(0.01)

    assert not first.is_held
    await first.release()
    assert not await first.hold()
    assert second.is_held


async def test_it_ends_here_when_redis_is_away() -> None:
    """Until it has run out it is held; afterwards nobody here may think so."""
    server = RedisServer()
    wire = Wire(server.url, deadline_s=0.1)
    await wire.open()
    try:
        lease = Lease(wire, "warden", 0.6)
        assert await lease.hold()
        server.stop()
        assert await lease.hold()
        await soon(lambda: not lease.is_held)
        assert not await lease.hold()
    finally:
        await wire.close()


class Clerk:
    """Counts its rounds, and fails in those that it is told to."""

    def __init__(self, *faults: Exception) -> None:
        self.rounds = 0
        self._faults = list(faults)

    async def round(self) -> None:
        self.rounds += 1
        if self._faults:
            raise self._faults.pop(0)


async def test_jobs_move_to_the_next_warden(wire: Wire, other_wire: Wire) -> None:
    """While the first watches the second does nothing; when it leaves, the second goes on."""
    first, second = Clerk(), Clerk()
    watching = asyncio.create_task(watch(Lease(wire, "warden", LONG_S), [Job("count", 0.01, first.round)]))
    await soon(lambda: first.rounds > 3)
    waiting = asyncio.create_task(watch(Lease(other_wire, "warden", LONG_S), [Job("count", 0.01, second.round)]))
    await asyncio.sleep(0.1)
    assert second.rounds == 0

    await end_all(watching)
    done = first.rounds
    await soon(lambda: second.rounds > 3)

    assert first.rounds == done
    await end_all(waiting)


async def test_a_lost_lease_ends_the_jobs(wire: Wire) -> None:
    """Redis was emptied and another was quicker: the jobs of this one end within a second or so."""
    lease, clerk = Lease(wire, "warden", LONG_S), Clerk()
    watching = asyncio.create_task(watch(lease, [Job("count", 0.01, clerk.round)]))
    await soon(lambda: clerk.rounds > 0)

    await wire.call("SET", "tollgate:lease:warden", "somebody")
    await soon(lambda: not lease.is_held)
    await asyncio.sleep(0.1)
    done = clerk.rounds
    await asyncio.sleep(0.1)

    assert clerk.rounds == done
    await end_all(watching)


async def test_a_fault_ends_no_job(wire: Wire) -> None:
    """What fails is done again, whatever it was; the other jobs go on meanwhile."""
    faulty, sound = Clerk(ServiceUnavailable(), ValueError("one of ours")), Clerk()
    jobs = [Job("faulty", 0.01, faulty.round, 0.01), Job("sound", 0.01, sound.round)]
    watching = asyncio.create_task(watch(Lease(wire, "warden", LONG_S), jobs))

    await soon(lambda: faulty.rounds > 3 and sound.rounds > 3)

    await end_all(watching)
