"""Everything that a run needs, up; and ended, by pid, whatever happened."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from benchmarks.chaos.clients import Caller
from benchmarks.chaos.house import House
from benchmarks.chaos.money_in import Payer
from benchmarks.chaos.office import Office
from benchmarks.chaos.redis_service import RedisService
from benchmarks.chaos.servers import Postgres, RedisCluster, Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_RICH_USD = 200_000
POOR_USD = 15


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is made of."""

    seed: int
    checkout: Path
    database: str
    cluster: bool
    lease_s: int
    workers: int
    clients: int
    top_up_every_s: float


class Stage:
    """The parts of a run. Two customers in three have more than they can spend, the third lives from hand to mouth."""

    def __init__(self, setting: Setting, directory: Path, say: Callable[[str], None]) -> None:
        self.setting, self.say = setting, say
        self.rng = random.Random(setting.seed + 1)
        self.redis = RedisCluster(directory) if setting.cluster else RedisService(directory)
        self.postgres = Postgres(directory) if setting.database == "postgres" else None
        self.upstream = Upstream(directory)
        self.house = House(
            setting.checkout,
            directory,
            self.postgres.url if self.postgres else None,
            self.redis.url,
            setting.lease_s,
            setting.workers,
        )
        self.office = Office(self.house.url, self.house.admin_key)
        self.payer = Payer(self.office, self.rng)
        self.callers: list[Caller] = []
        self.rich: list[str] = []
        self.poor: list[str] = []

    @property
    def accounts(self) -> list[str]:
        return self.rich + self.poor

    async def start(self) -> None:
        for server in (self.redis, self.postgres, self.upstream, self.house):
            if server is not None:
                await server.start()
        await self.office.set_up_model(self.upstream.port)
        self.rich = [await self.office.new_account(f"rich {number}") for number in range(2)]
        self.poor = [await self.office.new_account(f"poor {number}") for number in range(3)]
        for account_id in self.accounts:
            await self.payer.pay(account_id, _RICH_USD if account_id in self.rich else POOR_USD)
        for number in range(self.setting.clients):
            several = self.rich if number % 3 else self.poor
            account_id = several[number // 3 % len(several)]
            limits = {"concurrency": 1} if number % 4 == 0 else {}
            self.callers.append(Caller(account_id, *await self.office.new_key(account_id, f"key {number}", limits)))

    def end(self) -> None:
        """Whatever still runs, at once; by pid."""
        self.house.end_all()
        for server in (self.upstream, self.redis, self.postgres):
            if server is not None:
                server.end()


@contextlib.asynccontextmanager
async def stage(setting: Setting, directory: Path, say: Callable[[str], None]) -> AsyncIterator[Stage]:
    """All of it up; all of it ended, whatever happened."""
    made = Stage(setting, directory, say)
    try:
        await made.start()
        yield made
    finally:
        made.end()
        await made.office.close()
