"""Hypothesis's hands on the world: which step comes next, with which figures. It decides; `world` does and compares."""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.base.clock import now_ms
from app.ledger.stream import Entry as StreamEntry
from tests.ledger.model import Account, Request
from tests.ledger.world import HOUR_MS, World

__all__ = ["BooksMachine"]

_which = st.integers(0, 20)
_nano = st.integers(1, 3_000) | st.integers(1, 2**48)
_key = st.sampled_from([None, None, "one", "two"])
_aims = st.sampled_from(["hold", "half", "free", "all"])
_kinds = st.sampled_from(["plain", "plain", "book", "given", "failed"])
_fates = st.sampled_from(["heard", "heard", "unheard", "unsent"])
_costs = st.integers(0, 50)
_breaks = ["replay", "replay", "no redis", "no redis", "no database", "no bookkeeper"]
_chores = st.sampled_from([*_breaks, "keep books", "apply", "warm", "lapse", "trim", "verify"])
_near = st.integers(-1, 1)


class BooksMachine(RuleBasedStateMachine):
    def __init__(self, home: Path, template: Path, redis_url: str) -> None:
        super().__init__()
        self._home, self._template, self._redis_url = home, template, redis_url
        self._runner = asyncio.Runner()
        self._world: World | None = None
        self._is_sound = True
        self.hands: list[list[StreamEntry]] = []

    # A rule that fails leaves a world that differs from its model: nothing more is compared then.

    def do(self, step: Coroutine[Any, Any, Any]) -> Any:
        try:
            return self._runner.run(step)
        except BaseException:
            self._is_sound = False
            raise

    def teardown(self) -> None:
        try:
            if self._world is not None and self._is_sound:
                self.do(self.world.finish())
        finally:
            if self._world is not None:
                self._runner.run(self.world.close())
                shutil.rmtree(self._folder)
            self._runner.close()

    @property
    def world(self) -> World:
        assert self._world is not None
        return self._world

    def account(self, which: int) -> Account:
        accounts = list(self.world.books.accounts.values())
        return accounts[which % len(accounts)]

    def has_requests(self) -> bool:
        return bool(self.world.books.requests)

    def unsettled(self) -> list[Request]:
        return [each for each in self.world.books.requests if each.settlement is None]

    def settled(self) -> list[Request]:
        return [each for each in self.world.books.requests if each.settlement is not None]

    def request(self, which: int) -> Request:
        """The latest comes first."""
        return _latest(self.world.books.requests, which)

    @initialize(
        policy=st.sampled_from(["free", "full"]), lines=st.lists(st.sampled_from([0, 0, 700]), min_size=1, max_size=3)
    )
    def begin(self, policy: str, lines: list[int]) -> None:
        self._folder = Path(tempfile.mkdtemp(dir=self._home))

        async def begin() -> None:
            self._world = World(self._folder, self._template, self._redis_url, policy)
            await self.world.open()
            for line in lines:
                account = await self.world.open_account(line)
                await self.world.credit(account, 5_000, False, None, "credit", None)
                await self.world.apply_all(account)

        self.do(begin())

    @invariant()
    def redis_is_as_the_model_says(self) -> None:
        if self._world is not None and self._is_sound:
            self.do(self.world.check_redis())

    # Money in

    @rule(
        which=_which,
        amount=_nano,
        promo=st.booleans(),
        hours=st.none() | st.integers(1, 4),
        kind=st.sampled_from(["credit", "credit", "adjustment"]),
        key=_key,
        is_applied=st.sampled_from([True, False, False]),
    )
    def credit(
        self, which: int, amount: int, promo: bool, hours: int | None, kind: str, key: str | None, is_applied: bool
    ) -> None:
        account = self.account(which)
        expires_ms = None if hours is None else now_ms() + hours * HOUR_MS
        self.do(self.world.credit(account, amount, promo, expires_ms, kind, key))
        if is_applied:
            self.do(self.world.apply_all(account))

    @rule(which=_which, other=st.sampled_from(["", "", "amount", "terms"]))
    def credit_again(self, which: int, other: str) -> None:
        """A client that did not hear the answer, or uses a key twice."""
        account = self.account(which)
        for key, made in list(account.keys.items()):
            if made.kind != "refund":
                promo, expires_ms = (made.lot.promo, made.lot.expires_ms) if made.lot else (False, None)
                amount = made.amount + (other == "amount")
                self.do(self.world.credit(account, amount, promo ^ (other == "terms"), expires_ms, made.kind, key))

    @precondition(has_requests)
    @rule(which=_which, share=st.integers(1, 3), more=st.integers(0, 1), key=_key)
    def refund(self, which: int, share: int, more: int, key: str | None) -> None:
        """All, or a part; at times a nano too much."""
        request = self.request(which)
        left = self.world.books.refundable(request) or 0
        self.do(self.world.refund(request, max(1, left // share + more), key))

    @rule(which=_which, amount=st.integers(10, 3_000), hours=st.none() | st.integers(1, 1_000), share=st.integers(1, 3))
    def refund_of_a_gift(self, which: int, amount: int, hours: int | None, share: int) -> None:
        """A request that promotional credit pays in part, given back in parts: chance alone rarely comes to it."""
        account = self.account(which)
        expires_ms = None if hours is None else now_ms() + hours * HOUR_MS
        self.do(self.world.credit(account, amount, True, expires_ms, "credit", None))
        self.do(self.world.apply_all(account))
        self.do(self.world.admit(account, max(0, account.available), (10, 10)))
        if not (unsettled := self.unsettled()):
            return
        request = unsettled[-1]
        self.do(self.world.settle(request, amount + amount // share, "plain", 0, "heard"))
        self.hands.clear()
        self.do(self.world.keep_books())
        for part in (3, 2, 1):
            left = self.world.books.refundable(request) or 0
            self.do(self.world.refund(request, max(1, left // part), None))

    @rule(which=_which, line=st.sampled_from([0, 300, 2_000]), is_applied=st.booleans())
    def credit_line(self, which: int, line: int, is_applied: bool) -> None:
        account = self.account(which)
        self.do(self.world.set_line(account, -line))
        if is_applied:
            self.do(self.world.apply_all(account))

    @rule(which=_which, turn=st.integers(-1, 3))
    def apply_out_of_turn(self, which: int, turn: int) -> None:
        account = self.account(which)
        live = account.live
        number = min(max(1, (live.number if live else 0) + turn), len(account.credits))
        self.do(self.world.apply_one(account, number))

    # Requests

    @rule(which=_which, share=st.integers(1, 4), near=_near, bound=st.tuples(st.integers(0, 500), st.integers(0, 99)))
    def admit(self, which: int, share: int, near: int, bound: tuple[int, int]) -> None:
        """A hold of a share of what is free, or just beyond it."""
        account = self.account(which)
        free = 0 if account.live is None else account.available
        self.do(self.world.admit(account, max(0, free // share + near), bound))

    @rule(which=_which, share=st.integers(1, 4), aim=_aims, near=_near, kind=_kinds, cost=_costs, fate=_fates)
    def serve(self, which: int, share: int, aim: str, near: int, kind: str, cost: int, fate: str) -> None:
        """A whole request, by a wallet that is there: requests are what most of it is about."""
        account = self.account(which)
        self.do(self.world.warm(account))
        self.do(self.world.admit(account, max(0, account.available // share), (10, 10)))
        if unsettled := self.unsettled():
            self.do(self.world.settle(unsettled[-1], _target(unsettled[-1], aim) + near, kind, cost, fate))

    @precondition(has_requests)
    @rule(which=_which, share=st.integers(1, 3), near=_near)
    def extend(self, which: int, share: int, near: int) -> None:
        request = self.request(which)
        free = 0 if request.account.live is None else request.account.available
        self.do(self.world.extend(request, max(1, free // share + near)))

    @precondition(unsettled)
    @rule(which=_which, aim=_aims, near=_near, kind=_kinds, cost=_costs, fate=_fates)
    def settle(self, which: int, aim: str, near: int, kind: str, cost: int, fate: str) -> None:
        """Below, at or beyond the hold, and what the wallet has; in any order, and long after it was ended here."""
        request = _latest(self.unsettled(), which)
        self.do(self.world.settle(request, _target(request, aim) + near, kind, cost, fate))

    @precondition(settled)
    @rule(which=_which)
    def settle_again(self, which: int) -> None:
        self.do(self.world.settle_again(_latest(self.settled(), which)))

    @precondition(unsettled)
    @rule(which=_which, is_swept=st.booleans())
    def run_out(self, which: int, is_swept: bool) -> None:
        """Its worker is dead, or asleep: then it settles late."""
        request = _latest(self.unsettled(), which)
        if request.hold is not None:
            self.do(self.world.run_out(request))
        if is_swept:
            self.do(self.world.sweep())

    @precondition(has_requests)
    @rule(which=_which)
    def renew(self, which: int) -> None:
        self.do(self.world.renew(self.request(which)))

    # Money out

    @rule(which=_which, share=st.integers(1, 3), near=_near, key=_key)
    def take_back(self, which: int, share: int, near: int, key: str | None) -> None:
        account = self.account(which)
        free = 0 if account.live is None else account.available
        earlier = account.debits.get(key or "")
        amount = earlier[1] + (near == 1) if earlier else max(1, free // share + near)
        self.do(self.world.take_back(account, amount, key))

    @rule(hours=st.integers(1, 3), is_lapsed=st.booleans())
    def hours_pass(self, hours: int, is_lapsed: bool) -> None:
        self.do(self.world.pass_hours(hours))
        if is_lapsed:
            self.do(self.world.lapse())

    # Bookkeepers: as many as there are hands, each somewhere between reading and acknowledging

    @rule(is_new=st.booleans(), part=st.integers(0, 5), heard=st.integers(0, 5), is_alive=st.booleans())
    def take(self, is_new: bool, part: int, heard: int, is_alive: bool) -> None:
        """Reads, posts the first of it, acknowledges some of these; with the rest in its hands it dies, or waits."""
        hand = self.do(self.world.take(is_new))
        self._post(hand, part, heard)
        if is_alive and hand[part:]:
            self.hands.append(hand[part:])

    @precondition(lambda self: self.hands)
    @rule(which=_which, part=st.integers(1, 5), heard=st.integers(0, 5))
    def post(self, which: int, part: int, heard: int) -> None:
        """What it had read, and others may have posted since."""
        hand = self.hands.pop(which % len(self.hands))
        self._post(hand, part, heard)
        if hand[part:]:
            self.hands.append(hand[part:])

    def _post(self, hand: list[StreamEntry], part: int, heard: int) -> None:
        self.do(self.world.post(hand[:part]))
        self.do(self.world.acknowledge(hand[: min(part, heard)]))
        if heard % 2:  # what it has not acknowledged stays
            self.do(self.world.trim())

    # The rest, and what goes wrong

    @rule(what=_chores, which=_which)
    def now_and_then(self, what: str, which: int) -> None:
        """One rule for what is rarely worth a step."""
        account = self.account(which)
        match what:
            case "apply":
                self.do(self.world.apply_all(account))
            case "warm":
                self.do(self.world.warm(account))
            case "lapse":
                self.do(self.world.lapse())
            case "trim":
                self.do(self.world.trim())
            case "verify":
                self.do(self.world.check_verdict())
            case "replay":
                self.do(self.world.replay())
            case "keep books":
                self.do(self.world.keep_books())
            case "no redis":
                self._lose_redis(is_late=which % 2 == 1)
            case "no bookkeeper":
                self.hands.clear()
            case "no database":
                self.do(self.world.without_database(account, self.hands[0] if self.hands else []))

    def _lose_redis(self, *, is_late: bool) -> None:
        """And every bookkeeper that had read what is lost: its commit would come too late. A request that ran may end
        before its wallet is back."""
        late = self.unsettled()[-1:] if is_late else []
        target = _target(late[0], "hold") if late else 0
        self.hands.clear()
        self.do(self.world.lose_redis())
        for request in late:
            self.do(self.world.settle(request, target, "plain", 0, "heard"))
            self.do(self.world.replay())


def _target(request: Request, aim: str) -> int:
    """What to charge: some of what is held for it, or of what is there."""
    hold, free = request.hold or 0, 0 if request.account.live is None else max(0, request.account.available)
    return {"hold": hold, "half": hold // 2, "free": free, "all": hold + free}[aim]


def _latest(requests: list[Request], which: int) -> Request:
    return requests[-1 - which % len(requests)]
