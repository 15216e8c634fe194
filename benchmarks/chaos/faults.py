"""Carries a plan out: each fault at its time, on whoever is its victim then.

Faults of one target wait for each other; at most two are under way at once, and those that hit everything are under way
alone. What was killed is started again, as the process manager of a real installation would.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec

from benchmarks.chaos.errand import Struck
from benchmarks.chaos.lost_writes import strike_redis
from benchmarks.chaos.plan import EXCLUSIVE
from benchmarks.chaos.victims import paused, strike

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.chaos.house import House
    from benchmarks.chaos.plan import Fault
    from benchmarks.chaos.redis_service import RedisService
    from benchmarks.chaos.servers import Postgres, RedisCluster
    from benchmarks.chaos.victims import Victim

_FINDS_S = 100.0  # a slow start on a busy machine, twice
_SETTLES_S = 2.0
_SWEPT_S = 3.0  # until the receipts of holds that have run out are posted
_OVERLAP_MOST = 2


def now_ms() -> int:
    """Wall-clock milliseconds, as receipts have them."""
    return time.time_ns() // 1_000_000


class Breaker:
    """Knows everyone who can be hit. `struck` grows as faults happen."""

    def __init__(
        self,
        house: House,
        redis: RedisService | RedisCluster,
        postgres: Postgres | None,
        lease_s: float,
        say: Callable[[str], None],
    ) -> None:
        self.struck: list[Struck] = []
        self._house, self._redis, self._postgres = house, redis, postgres
        self._lease_s, self._say = lease_s, say
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._room = asyncio.Semaphore(_OVERLAP_MOST)

    async def carry_out(self, plan: Sequence[Fault]) -> None:
        """All of it, to its end. Raises what a server that does not come back raises."""
        async with asyncio.TaskGroup() as tasks:
            for fault in plan:
                await asyncio.sleep(fault.after_s)
                places = _OVERLAP_MOST if fault.kind.target == EXCLUSIVE else 1
                for _ in range(places):
                    await self._room.acquire()
                tasks.create_task(self._one(fault, places))

    async def _one(self, fault: Fault, places: int) -> None:
        try:
            async with self._locks[fault.kind.target]:
                if fault.kind.target in ("worker", "bookkeeper", EXCLUSIVE):
                    await self._mend()
                if fault.kind.target == EXCLUSIVE:
                    await asyncio.sleep(calm_before_s(self.struck, self._lease_s))
                self._say(f"{fault.number}: {fault.kind.name}, {fault.for_s:.1f} s")
                happened = Struck(
                    number=fault.number,
                    kind=fault.kind.name,
                    loses=fault.kind.loses,
                    loses_writes=fault.kind.loses_writes,
                    target=fault.kind.target,
                    began_ms=now_ms(),
                )
                self.struck.append(happened)
                try:
                    happened.did = await self._hit(fault, happened)
                except BaseException as error:
                    happened.did, happened.note = False, repr(error)
                    raise
                finally:
                    happened.ended_ms = now_ms()
                if fault.kind.target == EXCLUSIVE:
                    self._say(f"{fault.number}: {happened.note}")
                    await asyncio.sleep(_SETTLES_S)
        finally:
            for _ in range(places):
                self._room.release()

    async def _mend(self) -> None:
        """A gateway that ended while no fault is at it: it is counted, and started again."""
        if not self._locks["gateway"].locked():
            async with self._locks["gateway"]:
                await self._house.mend()

    async def _hit(self, fault: Fault, happened: Struck) -> bool:
        match fault.kind.target:
            case "worker" | "bookkeeper" as role:
                return await self._hit_child(role, fault)
            case "second bookkeeper":
                return await self._two_bookkeepers(fault)
            case "redis":
                await _hit_server(self._redis, fault, self._redis.family)
            case "postgres":
                assert self._postgres is not None
                await _hit_server(self._postgres, fault, self._postgres.family)
            case "gateway":
                kept_out = self._house.kept_out
                await self._hit_gateway(fault)
                # What was left over and in the way was killed by us, with the requests that it still served.
                happened.loses = happened.loses or self._house.kept_out > kept_out
            case "everything":
                database = self._house.database_file if self._postgres is None else self._postgres.url
                loss = await strike_redis(fault.kind.name, self._redis, database, fault.for_s)
                happened.note = loss.note
                return loss.happened
        return True

    async def _hit_child(self, role: str, fault: Fault) -> bool:
        deadline = time.monotonic() + _FINDS_S
        while not (pids := self._house.pids(role)):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.1)
        victim = pids[int(fault.pick * len(pids))]
        if fault.kind.name.startswith("kill"):
            return strike([victim]) > 0
        return await paused([victim], fault.for_s) > 0

    async def _two_bookkeepers(self, fault: Fault) -> bool:
        second = self._house.second_bookkeeper()
        second.spawn()
        try:
            await asyncio.sleep(fault.for_s)
            return second.alive
        finally:
            await second.stop(signal.SIGTERM if fault.pick < 0.5 else signal.SIGKILL)

    async def _hit_gateway(self, fault: Fault) -> None:
        house = self._house
        await house.mend()
        match fault.kind.name:
            case "kill the supervisor":
                await house.kill()
            case "kill the whole gateway":
                strike(house.family())
                await house.kill()
            case _:
                await house.drain()
        await asyncio.sleep(fault.for_s)
        await house.start()


async def _hit_server(server: Victim, fault: Fault, family: Callable[[], list[int]]) -> None:
    name = fault.kind.name
    if name.startswith("pause"):
        await paused(family(), fault.for_s)
        return
    if name.startswith("restart"):
        # PostgreSQL's "fast" shutdown is SIGINT; Redis takes SIGTERM.
        await server.stop(signal.SIGINT if server.name == "postgres" else signal.SIGTERM)
    else:
        await server.kill()
    await asyncio.sleep(fault.for_s)
    await server.start()


def calm_before_s(struck: Sequence[Struck], lease_s: float) -> float:
    """The seconds from the end of all other faults to one that is alone. Pure.

    Where a worker was killed since the last one that was alone, its holds run out meanwhile, and their receipts are
    posted: they are in nobody's memory, and a Redis that forgets them would take them with it.
    """
    alone = [number for number, fault in enumerate(struck) if fault.target == EXCLUSIVE]
    since = struck[alone[-1] + 1 if alone else 0 :]
    return _SETTLES_S + (lease_s + _SWEPT_S if any(fault.loses for fault in since) else 0.0)


class Tally(msgspec.Struct):
    """Of one kind: how often it was carried out, and how often its victim was not there."""

    done: int = 0
    missed: int = 0


def tally(struck: Sequence[Struck]) -> dict[str, Tally]:
    """By kind."""
    counts: dict[str, Tally] = {}
    for one in struck:
        count = counts.setdefault(one.kind, Tally())
        if one.did:
            count.done += 1
        else:
            count.missed += 1
    return counts
