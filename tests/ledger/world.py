"""The back office and its model side by side: each step is done to both, and what they answer is compared at once."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from app.base.clock import now_ms
from app.base.database import Database
from app.base.errors import Conflict, InvalidField, NotFound, ServiceUnavailable
from app.base.ids import new_id
from app.base.receipt import Draft
from app.books import Books as RealBooks
from app.ledger.corrections import refund
from app.ledger.debits import take_back
from app.ledger.journal import add_credit, set_credit_line
from app.ledger.posting import post
from app.ledger.rebuild import apply_credits, rebuild_wallet
from app.ledger.stream import Entry as StreamEntry
from app.ledger.sweeper import Sweeper
from app.proxy.settlement.clerk import Clerk
from app.proxy.settlement.leases import Leases
from app.proxy.settlement.policies import Policies
from app.proxy.settlement.spool import Settlement, Spool
from app.proxy.settlement.unposted import Unposted
from app.quota.epochs import Epochs
from app.quota.gate import Admitted, LostHold
from app.quota.rules import NO_RULES
from app.settings import Settings
from tests.ledger.charges import KEY, charge, modelled
from tests.ledger.differences import Differences
from tests.ledger.model import Account, Books, Entry, Request
from tests.ledger.office import Office
from tests.proxy.makers import ignore_budgets

__all__ = ["HOUR_MS", "SHARDS", "World"]

HOUR_MS = 3_600_000
SHARDS = 2
_encode = msgspec.json.Encoder().encode


class World(Differences):
    """`template` is a migrated SQLite database without a row in it. Wallets, streams and journal are real; a worker is
    its gate, its spool and its clerk."""

    def __init__(self, folder: Path, template: Path, redis_url: str, expired_policy: str) -> None:
        path = shutil.copy(template, folder / "tollgate.db")
        settings = Settings(
            data_dir=folder,
            database_url=f"sqlite+aiosqlite:///{path}",
            redis_url=redis_url,
            secret_key="secret",
            lease_seconds=0,  # the sweeper need not wait for one
            policy_expired=expired_policy,
        )
        office = Office(RealBooks(settings, {"shards": str(SHARDS), "admin": "00" * 32}, Epochs(SHARDS, settling_ms=0)))
        super().__init__(office, Books(SHARDS, expired_policy))
        self.away = Database(f"sqlite+aiosqlite:///{folder}/missing/tollgate.db")
        self.gate = self.office.gate
        self.spool = Spool(folder / "spool")
        self._asked = asyncio.Event()
        self._is_away = False
        self._clerk = Clerk(
            self.gate, Leases(self.gate), self.spool, Policies(), self._is_posted, SHARDS, ignore_budgets, Unposted()
        )
        self._sweeper = Sweeper(self.database, self.quota, self.office.books.price, 0, settings.policy_expired)
        self._runs_out = 0

    async def open(self) -> None:
        await self.office.open()
        await self.call("FLUSHALL")

    async def close(self) -> None:
        await self.office.books.close()
        await self.away.close()

    async def open_account(self, line: int) -> Account:
        """Of each shard in turn, whatever ids chance gives: a run can be repeated then."""
        shard = len(self.books.accounts) % SHARDS
        while self.quota.slots(account_id := await self.office.account()).shard.number != shard:
            pass
        account = Account(account_id, shard)
        self.books.accounts[account_id] = account
        if line:
            await self.set_line(account, -line)
        return account

    # Credits

    async def credit(
        self, account: Account, amount: int, promo: bool, expires_ms: int | None, kind: Any, key: str | None
    ) -> None:
        """A key that was used answers with its credit, or refuses where that was another."""
        earlier = account.keys.get(key or "")
        terms = (kind, amount, None, (promo, expires_ms) if promo or expires_ms is not None else None)
        try:
            async with self.database.write() as db:
                made = await add_credit(
                    db, account.id, amount, "", key, promotional=promo, expires_at_ms=expires_ms, kind=kind
                )
        except Conflict:
            assert key in account.debits or (earlier is not None and earlier.terms != terms)
            return
        assert key not in account.debits
        if earlier is not None:
            assert (made.entry_id, made.is_new) == (earlier.id, False) and earlier.terms == terms
            return
        assert (made.is_new, made.number) == (True, len(account.credits) + 1)
        self.books.credit(account, modelled(made), key)

    async def refund(self, request: Request, amount: int, key: str | None) -> None:
        """Never more than was charged, all refunds of a request together; and as promotional credit what that paid."""
        account, left = request.account, self.books.refundable(request)
        earlier = account.keys.get(key or "")
        is_same = earlier is not None and earlier.terms[:3] == ("refund", amount, request.id)
        from_ms = now_ms()
        try:
            async with self.database.write() as db:
                made = await refund(db, request.id, amount, "", key)
        except NotFound:
            assert left is None
            return
        except Conflict:
            assert left is not None and not is_same
            assert key in account.debits or earlier is not None or amount > left
            return
        assert left is not None and key not in account.debits
        if earlier is not None:
            assert is_same and made.entry_id == earlier.id
            return
        assert amount <= left
        promo, expires_ms = self.books.promotional_part(request, amount)
        assert (made.lot.remaining_nano if made.lot else 0) == promo
        if made.lot is not None and expires_ms is not None:
            earliest, latest = (max(expires_ms, at_ms + 720 * HOUR_MS) for at_ms in (from_ms, now_ms()))
            assert made.lot.promotional and earliest <= (made.lot.expires_at_ms or 0) <= latest
        else:
            assert made.lot is None or made.lot.expires_at_ms is None
        self.books.credit(account, modelled(made), key)

    async def set_line(self, account: Account, floor: int) -> None:
        async with self.database.write() as db:
            made = await set_credit_line(db, account.id, floor)
        self.books.credit_line(account, floor, made.entry_id)

    async def apply_all(self, account: Account) -> None:
        await self.office.books.apply_credits(account.id)
        self.books.apply_all(account)

    async def apply_one(self, account: Account, number: int) -> None:
        """Whatever its turn is, and whether it had it before."""
        credit = account.credits[number - 1]
        lot = "" if credit.lot is None else credit.lot.text
        figures = (number, credit.amount, lot, account.floor)
        assert await self.quota.apply_credit(account.id, *figures) == self.books.apply(account, number)

    # Requests

    async def admit(self, account: Account, hold: int, bound: tuple[int, int]) -> None:
        request_id = new_id("req")
        draft = Draft(
            created_at_ms=now_ms(),
            dialect="openai_chat",
            model="small",
            stream=False,
            price_version=self.office.price_version,
            input_bound=bound[0],
            output_bound=bound[1],
        )
        slots = self.quota.slots(account.id, KEY)
        answer = await self.gate.admit(slots, NO_RULES, request_id, hold, 0, _encode(draft))
        if isinstance(answer, Admitted):
            assert self.books.admit(account, hold)
            losses = self.books.losses
            self.books.requests.append(Request(request_id, account, answer.generation, losses, bound, hold))
        elif account.live is None:
            assert answer.rule == "cold"
        else:
            assert (answer.rule, answer.available_nano) == ("credit", account.available)
            assert not self.books.admit(account, hold)

    async def extend(self, request: Request, more: int) -> None:
        slots = self.quota.slots(request.account.id, KEY)
        assert await self.gate.extend(slots, request.id, more) == self.books.extend(request, more)

    async def renew(self, request: Request) -> None:
        held = await self.gate.renew(self.quota.slots(request.account.id).shard, [request.id])
        assert held == (request.hold is not None)
        request.overdue = 0

    async def run_out(self, request: Request) -> None:
        """As if its lease had ended long ago."""
        self._runs_out += 1
        await self.call("ZADD", self.quota.slots(request.account.id).shard.leases, "XX", self._runs_out, request.id)
        request.overdue = self._runs_out

    async def settle(self, request: Request, target: int, kind: str, cost: int, fate: str) -> None:
        """Once for each request. What Redis did not take, or whose answer was lost, is in the spool then."""
        settlement = charge(self.office, request, target, kind, cost)
        if fate != "unsent":
            await self._settle_now(request)
        if fate != "heard":
            await self.spool.keep(settlement)

    async def _settle_now(self, request: Request) -> None:
        """As the clerk does: where Redis was emptied since the hold was given, the spool has it then."""
        at_ms = now_ms()
        assert request.charge is not None and isinstance(request.settlement, Settlement)
        said = request.settlement
        slots = self.quota.slots(said.account_id, said.key_id)
        figures = (said.request_id, said.charge_nano, said.tokens, said.receipt, said.generation)
        try:
            answer = await self.gate.settle(slots, *figures, is_repeat=True)
        except LostHold:
            assert request.hold is None and request.losses < self.books.losses
            await self.spool.keep(said)
            return
        expected = self.books.settle(request, request.charge)
        assert (None if answer is None else (answer.balance_nano, answer.unpaid_nano)) == expected
        _let_pass(at_ms)

    async def settle_again(self, request: Request) -> None:
        """A settlement that has run is found in the spool, whoever left it there."""
        assert isinstance(request.settlement, Settlement)
        await self.spool.keep(request.settlement)

    async def replay(self, is_away: bool = False) -> None:
        """A worker brings to Redis what the spool has; where it has to ask the books and can't, the rest waits."""
        at_ms = now_ms()
        waiting = await self.spool.waiting()
        self._is_away = is_away
        self._asked.clear()
        worker = asyncio.create_task(self._clerk.replay())
        while await self.spool.waiting() and not (is_away and self._asked.is_set()):
            assert not worker.done()
            await asyncio.sleep(0)
        worker.cancel()
        await asyncio.wait([worker])
        self._is_away = False
        left = await self.spool.waiting()
        by_id = {request.id: request for request in self.books.requests}
        for settlement in waiting:
            if settlement not in left:
                request = by_id[settlement.request_id]
                assert request.charge is not None
                self.books.settle(request, request.charge)
        _let_pass(at_ms)

    async def _is_posted(self, request_id: str, account_id: str) -> bool:
        self._asked.set()
        if self._is_away:
            raise ServiceUnavailable
        return await self.office.books.is_posted(request_id, account_id)

    async def sweep(self) -> None:
        self._sweeper.answered(0)
        assert await self._sweeper.sweep(0) == self.books.sweep()

    # Money out

    async def take_back(self, account: Account, amount: int, key: str | None) -> None:
        """A key that gave money does not take any; one whose debit was refused is free again."""
        earlier = account.debits.get(key or "")
        try:
            taken = await self.office.books.take_back(account.id, amount, "", key)
        except Conflict:
            assert key in account.keys or (earlier is not None and earlier[1] != amount)
            return
        except InvalidField:
            self.books.warm(account)
            assert earlier is None and key not in account.keys and amount > account.available
            return
        assert key not in account.keys
        if earlier is not None:
            assert (taken.entry_id, taken.amount_nano, taken.is_new) == (*earlier, False)
            return
        self.books.warm(account)
        assert taken.is_new and amount <= account.available
        self.books.debit(account, taken.entry_id, amount)
        if key is not None:
            account.debits[key] = (taken.entry_id, amount)

    async def pass_hours(self, hours: int) -> None:
        """As if everything had happened earlier, here and there."""
        ms = hours * HOUR_MS
        async with self.database.write() as db:
            await db.execute(text("UPDATE lots SET expires_at_ms = expires_at_ms - :ms"), {"ms": ms})
        self.books.pass_time(ms)
        for account in self.books.accounts.values():
            if account.live is not None and account.live.lots:
                wallet = self.quota.slots(account.id).wallet
                lots = " ".join(lot.text for lot in account.live.lots)
                known = (await self.call("HGET", wallet, "x") or b"").decode().split()
                moved = [(int(expires) - ms, held) for expires, held in (each.split(":") for each in known)]
                await self.call("HSET", wallet, "l", lots, "x", " ".join(f"{at}:{held}" for at, held in moved))
        for request in self.books.requests:
            if request.hold is not None:
                holds = self.quota.slots(request.account.id).shard.holds
                nano, tokens, since, rest = (await self.call("HGET", holds, request.id)).split(b" ", 3)
                earlier = b"%d" % (int(since) - ms * 1000)
                await self.call("HSET", holds, request.id, b" ".join((nano, tokens, earlier, rest)))

    async def lapse(self) -> None:
        assert await self._sweeper.lapse() == self.books.lapse(now_ms())

    # The bookkeeper

    async def take(self, is_new: bool) -> list[StreamEntry]:
        """What a bookkeeper has in its hands then: what nobody had, or what was not acknowledged."""
        await self.office.streams.prepare()
        taken = await (self.office.streams.read_new() if is_new else self.office.streams.read_unacknowledged())
        expected = [
            entry
            for stream in self.books.streams
            for entry in stream
            if (not entry.is_read if is_new else entry.is_read and not entry.is_acknowledged)
        ]
        assert [_id(entry) for entry in taken] == [entry.id for entry in expected]
        for entry in expected:
            entry.is_read = True
        return taken

    async def post(self, hand: list[StreamEntry]) -> None:
        found = self._modelled(hand)
        assert await post(self.database, [entry.item for entry in hand if entry.item]) == self.books.post(found)
        await self.check_journal()

    async def acknowledge(self, hand: list[StreamEntry]) -> None:
        await self.office.streams.acknowledge(hand)
        for entry in self._modelled(hand):
            entry.is_acknowledged = True

    def _modelled(self, hand: list[StreamEntry]) -> list[Entry]:
        by_id = {entry.id: entry for stream in self.books.streams for entry in stream}
        return [by_id[_id(entry)] for entry in hand if _id(entry) in by_id]

    async def keep_books(self) -> None:
        """A real bookkeeper, from its start until nothing is left to do."""
        before = len(self.books.posted)
        posted = await self.office.keep_books()
        self._post_all(is_read=True)
        for account in self.books.accounts.values():
            if len(account.credits) > account.applied:
                self.books.apply_all(account)
        self.books.lapse(now_ms())
        self.books.sweep()
        await self.check_redis()  # which learns the ids of what lapsed
        self._post_all(is_read=False)
        assert posted == len(self.books.posted) - before
        await self.check_journal()

    def _post_all(self, *, is_read: bool) -> None:
        for stream in self.books.streams:
            for entry in stream:
                if entry.is_read == is_read and not entry.is_acknowledged:
                    self.books.post([entry])
                    entry.is_read = entry.is_acknowledged = True

    async def trim(self) -> None:
        """As if all were older than what verify needs kept."""
        await self.office.streams.prepare()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("app.ledger.stream.KEEP_MS", -2 * HOUR_MS)
            await self.office.streams.trim()

    # What goes wrong

    async def lose_redis(self) -> None:
        """It comes back empty; what it had told of and nobody had posted is gone with it."""
        await self.call("FLUSHALL")
        await self.call("SCRIPT", "FLUSH")
        self.books.lose_redis()

    async def warm(self, account: Account) -> None:
        await self.office.books.warm_wallet(account.id)
        self.books.warm(account)

    async def without_database(self, account: Account, hand: list[StreamEntry]) -> None:
        """Whatever needs it says so, and nothing has changed."""
        sweeper = Sweeper(self.away, self.quota, self.office.books.price, 0, "free")
        for attempt in (
            post(self.away, [entry.item for entry in hand if entry.item]),
            rebuild_wallet(self.away, self.quota, account.id),
            apply_credits(self.away, self.quota, account.id),
            take_back(self.away, self.quota, account.id, 1, "", None),
            sweeper.lapse(),
        ):
            with pytest.raises(ServiceUnavailable):
                await attempt
        await self.replay(is_away=True)

    # The end

    async def finish(self) -> None:
        """The end of the day: what runs has ended, what waits is posted, and Redis and the books are one."""
        await self.replay()
        for request in self.books.requests:
            if request.hold is not None:
                await self.run_out(request)
        for _ in range(2):  # what was held back when lots lapsed is free after the sweep
            await self.keep_books()
        for account in self.books.accounts.values():
            await self.warm(account)
            live = account.live
            assert live is not None and (live.balance, live.lots, account.held) == (
                account.journal.balance,
                account.journal.lots,
                0,
            )
        await self.check_redis()
        await self.check_books()
        assert await self.office.pending() == 0


def _id(entry: StreamEntry) -> str:
    assert entry.item is not None
    return entry.item.id


def _let_pass(at_ms: int) -> None:
    """Lots say by their ids when they were made, in ms: what is credited next is later than what was just settled."""
    while now_ms() <= at_ms:
        pass
