"""Payments during the faults: each with an idempotency key, tried until it is acknowledged, some twice; every one must
count exactly once. And the watch that looks at every wallet meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

import httpx
import msgspec

from benchmarks.chaos.faults import now_ms
from benchmarks.chaos.match import is_rebuilding
from benchmarks.chaos.office import Refused, Unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.chaos.errand import Struck
    from benchmarks.chaos.office import Office

_RETRY_S = 0.3
_TRIES_MAX = 200
AWAY = (httpx.TransportError, Refused, Unknown)


class Paid(msgspec.Struct):
    """Payments so far: USD by account, how many, how many calls they took, repeats answered with another entry."""

    usd: dict[str, int]
    count: int = 0
    calls: int = 0
    doubled: int = 0


class Payer:
    """Tops accounts up. `usd` is whole dollars."""

    def __init__(self, office: Office, rng: random.Random) -> None:
        self.paid = Paid(usd={})
        self._office, self._rng = office, rng

    async def run(self, accounts: Sequence[str], usd: int, every_s: float, stopping: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            while not stopping.is_set():
                tasks.create_task(self.pay(self._rng.choice(accounts), usd))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), every_s * self._rng.uniform(0.5, 1.5))

    async def pay(self, account_id: str, usd: int) -> None:
        """Until it is acknowledged. Raises TimeoutError where it never is."""
        self.paid.count += 1
        key, again = f"payment-{self.paid.count}", self._rng.random() < 0.3
        entry = await self._until_acknowledged(account_id, usd, key)
        self.paid.usd[account_id] = self.paid.usd.get(account_id, 0) + usd
        if again and entry != await self._until_acknowledged(account_id, usd, key):
            self.paid.doubled += 1

    async def _until_acknowledged(self, account_id: str, usd: int, key: str) -> str:
        for _ in range(_TRIES_MAX):
            self.paid.calls += 1
            try:
                return await self._office.credit(account_id, f"{usd}.00", key)
            except AWAY:
                await asyncio.sleep(_RETRY_S)
        raise TimeoutError(f"payment {key} was never acknowledged")


class Verified(msgspec.Struct, frozen=True):
    """What the ledger said of itself, and when."""

    at_ms: int
    drift_nano: int


class Watch(msgspec.Struct):
    """What was seen of the wallets and the ledger while things broke. Looks and verdicts while Redis is being rebuilt,
    after it lost writes, are counted in `rebuilding` and nowhere else: a balance may be on its way then."""

    looks: int = 0
    rebuilding: int = 0
    below_zero: int = 0
    held_beyond: int = 0
    verdicts: int = 0
    not_ok: int = 0
    lowest_nano: int | None = None
    problems: list[str] = []
    verified: list[Verified] = []

    async def run(
        self,
        office: Office,
        accounts: Sequence[str],
        struck: Sequence[Struck],
        stopping: asyncio.Event,
        *,
        every_s: float = 0.5,
        verify_every: int = 12,
    ) -> None:
        """Looks every so many seconds until `stopping`, and verifies every so many looks; `struck` grows meanwhile."""
        rounds = 0
        while not stopping.is_set():
            rounds += 1
            for account_id in accounts:
                with contextlib.suppress(*AWAY):
                    await self._look(office, account_id, struck)
            if rounds % verify_every == 0:
                with contextlib.suppress(*AWAY):
                    await self._verify(office, struck)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), every_s)

    async def _verify(self, office: Office, struck: Sequence[Struck]) -> None:
        began_ms = now_ms()
        verdict, problems = await office.verdict()
        if is_rebuilding(struck, began_ms, now_ms()):
            self.rebuilding += 1
            return
        self.verdicts += 1
        self.not_ok += not verdict.ok
        self.problems += problems[:5]
        self.verified.append(Verified(began_ms, verdict.drift_nano))

    async def _look(self, office: Office, account_id: str, struck: Sequence[Struck]) -> None:
        began_ms = now_ms()
        wallet = await office.wallet(account_id)
        if is_rebuilding(struck, began_ms, now_ms()):
            self.rebuilding += 1
            return
        self.looks += 1
        self.below_zero += wallet.balance_nano < 0
        self.held_beyond += wallet.held_nano > max(0, wallet.balance_nano)
        if self.lowest_nano is None or wallet.balance_nano < self.lowest_nano:
            self.lowest_nano = wallet.balance_nano
