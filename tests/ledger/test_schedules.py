"""Settlements, credits, sweeps, bookkeepers and verify, truly at once: whatever order their steps take, the sums are
right, every request has one receipt, and verify never sees a difference."""

import asyncio
import logging
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from app.base.clock import now_ms
from app.base.errors import InvalidField
from app.base.receipt import Usage
from app.ledger.journal import add_credit
from app.ledger.posting import post
from app.ledger.sweeper import Sweeper
from app.ledger.tables import receipts
from app.quota.gate import LostHold, Settled
from tests.ledger.schedule import Schedule
from tests.ledger.search import TIMEOUT_S, search
from tests.ledger.world import HOUR_MS, World
from tests.servers import RedisServer

_ANY = st.sampled_from(
    ["settle", "settle", "settle", "credit", "apply", "take back", "keep", "keep pending", "sweep", "lapse", "verify"]
)
_START = 10_000
_GIFT = 300


class Desk:
    """One account with a gift that has expired, three requests that run, and what is known of them for certain."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.office = world.office
        self.paid = self.taken = self.credited = 0

    async def open(self, is_cold: bool) -> None:
        world = self.world
        await world.open()
        self.account = await world.open_account(0)
        await world.credit(self.account, _START, False, None, "credit", None)
        await world.credit(self.account, _GIFT, True, now_ms() + HOUR_MS, "credit", None)
        await world.apply_all(self.account)
        for _ in range(3):
            await world.admit(self.account, 3_000, (1, 1))
        await world.run_out(world.books.requests[0])
        await world.pass_hours(2)
        if is_cold:
            await world.lose_redis()
        self.slots = world.quota.slots(self.account.id, "key_1")
        await self.office.streams.prepare()

    def operation(self, name: str, which: int) -> Coroutine[Any, Any, None]:
        price = self.office.books.price
        sweeper = Sweeper(self.office.database, self.office.wallets, price, 0, "free")
        match name:
            case "settle":
                return self._settle(which % 3)
            case "credit":
                return self._credit(100 + which)
            case "apply":
                return self.office.books.apply_credits(self.account.id)
            case "take back":
                return self._take_back(which % 2)
            case "keep" | "keep pending":
                return self._keep(is_new=name == "keep")
            case "sweep":
                return self._sweep(sweeper)
            case "lapse":
                return self._lapse(sweeper)
        return self.world.check_verdict()

    async def _settle(self, which: int) -> None:
        """By the clerk's rules."""
        request = self.world.books.requests[which]
        usage = Usage(input_tokens=1_000 * (which + 1))
        receipt = self.office.receipt(self.account.id, usage, request_id=request.id)

        figures = (request.id, receipt.amount_nano, 0, msgspec.json.encode(receipt), request.generation)
        try:
            answer = await self.office.gate.settle(self.slots, *figures, is_repeat=True)
        except LostHold:
            if await self.office.books.is_posted(request.id, self.account.id):
                return
            answer = await self.office.gate.settle(self.slots, *figures)
        if isinstance(answer, Settled):
            self.paid += receipt.amount_nano - answer.unpaid_nano

    async def _credit(self, amount: int) -> None:
        async with self.office.database.write() as db:
            await add_credit(db, self.account.id, amount, "", None)
        self.credited += amount
        await self.office.books.apply_credits(self.account.id)

    async def _take_back(self, which: int) -> None:
        try:
            taken = await self.office.books.take_back(self.account.id, 50, "", f"key-{which}")
        except InvalidField:  # nothing is free
            return
        self.taken += 50 * taken.is_new

    async def _keep(self, *, is_new: bool) -> None:
        streams = self.office.streams
        hand = await (streams.read_new() if is_new else streams.read_unacknowledged())
        await post(self.office.database, [entry.item for entry in hand if entry.item])
        await streams.acknowledge(hand)

    async def _sweep(self, sweeper: Sweeper) -> None:
        sweeper.answered(0)
        await sweeper.sweep(0)

    async def _lapse(self, sweeper: Sweeper) -> None:
        await sweeper.lapse()

    async def check(self) -> None:
        """At the end of the day."""
        for request in self.world.books.requests:
            await self.world.run_out(request)
        for _ in range(2):
            await self.office.keep_books()
        await self.office.books.warm_wallet(self.account.id)
        wallet = await self.office.wallets.read(self.account.id)
        assert wallet is not None
        async with self.office.database.read() as db:
            columns = receipts.c
            charged = await db.scalar(select(func.sum(columns.amount_nano - columns.unpaid_nano))) or 0
        lapsed = _START + _GIFT + self.credited - self.paid - self.taken - wallet.balance_nano
        assert charged == self.paid
        assert 0 <= lapsed <= _GIFT
        assert await self.office.journal_balance(self.account.id) == wallet.balance_nano
        assert (wallet.held_nano, wallet.lots) == (0, "")
        await self.world.check_verdict()


@search(examples=30)
@given(
    names=st.lists(st.tuples(_ANY, st.integers(0, 5)), min_size=2, max_size=6),
    order=st.lists(st.integers(0, 5), max_size=40),
    is_cold=st.booleans(),
)
@pytest.mark.timeout(TIMEOUT_S)
def test_any_schedule_comes_to_the_same_sums(
    tmp_path: Path,
    migrated_sqlite: Path,
    redis_server: RedisServer,
    caplog: pytest.LogCaptureFixture,
    names: list[tuple[str, int]],
    order: list[int],
    is_cold: bool,
) -> None:
    """Each step of each operation is one call; Hypothesis says whose is next."""
    caplog.set_level(logging.CRITICAL, "tollgate")
    turns = iter(order)

    async def day(folder: Path) -> None:
        desk = Desk(World(folder, migrated_sqlite, redis_server.url, "free"))
        try:
            await desk.open(is_cold)
            schedule = Schedule(desk.office.books.wire, desk.office.database, lambda _: next(turns, 0))
            await schedule.run(*(desk.operation(*name) for name in names))
            await desk.check()
        finally:
            await desk.world.close()

    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        asyncio.run(day(Path(folder)))
