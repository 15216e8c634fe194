"""One request's way through the ways to a model: the next pick, each time the one before has failed."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence

from app.proxy.dispatch.choice import Candidate, Need, conversation_key, need_of, rank
from app.proxy.dispatch.health import Health, Taken
from app.proxy.dispatch.table import Table
from app.proxy.dispatch.verdict import is_brief
from app.proxy.records import Order, Outcome, Pick
from app.quota.seats import Seat, Seats

__all__ = ["RoutePlan", "seat_at"]

# How long a request waits for a vendor's limit, all in all.
_PATIENCE_MS = 1_000
_BACKOFF_FIRST_MS = 100
_BACKOFF_MOST_MS = 2_000
# A customer whose request finds out whether a way is back shall not pay for it with time.
_PROBE_HEDGE_S = 0.5
_PROBE_HEDGE_MOST_S = 30.0
# These are about one credential, as an unfit channel may be: it may be asked again with another.
_OF_A_CREDENTIAL = frozenset({401, 402, 403, 429})


class RoutePlan:
    """See app.proxy.records.Plan."""

    __slots__ = (
        "_account_id",
        "_attempts",
        "_base_hedge_s",
        "_closed",
        "_full",
        "_health",
        "_last",
        "_live",
        "_need",
        "_order",
        "_patience_ms",
        "_retries",
        "_rng",
        "_seats",
        "_sleep",
        "_table",
        "_tried",
        "deadline_at",
        "hedge_s",
    )

    def __init__(
        self,
        health: Health,
        seats: Seats | None,
        rng: random.Random,
        table: Table,
        account_id: str,
        order: Order,
        excluded: Collection[str],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        routing = table.model.routing
        self._health = health
        self._seats = seats
        self._rng = rng
        self._table = table
        self._sleep = sleep
        self._account_id = account_id
        self._order = order
        self._need: Need | None = None
        self._closed = set(excluded)  # channels that this request may not ask, or not again
        self._tried: list[Taken] = []
        self._last: Outcome | None = None
        self._live = 0
        self._attempts = routing.attempts
        self._retries = routing.retries
        self._patience_ms = _PATIENCE_MS
        self._full: dict[str, int] = {}  # by seat: when there may be room
        self._base_hedge_s = None if routing.hedge_ms is None else routing.hedge_ms / 1000
        self.hedge_s = self._base_hedge_s
        self.deadline_at: float | None = None
        if routing.deadline_ms is not None:
            self.deadline_at = asyncio.get_running_loop().time() + routing.deadline_ms / 1000

    async def next(self) -> Pick | None:
        if self._attempts is not None and len(self._tried) >= self._attempts:
            return None
        while not self._is_late():
            for tier in self._table.tiers:
                for candidate in self._ranked(tier):
                    if (taken := await self._take(candidate)) is not None:
                        return taken
            if self._live:  # a second beside the first is for those who have nothing to wait for
                return None
            if not await self._wait_for_room():
                break
        for candidate in self._least_bad():
            if (taken := await self._take(candidate)) is not None:
                return taken
        return await self._once_more()

    def came(self, pick: Pick, ttft_ms: int) -> None:
        assert isinstance(pick, Taken)
        self._health.came(pick, ttft_ms)

    def ended(self, pick: Pick, outcome: Outcome) -> None:
        assert isinstance(pick, Taken)
        self._live -= 1
        self._last = outcome
        if outcome.http_status in _OF_A_CREDENTIAL or outcome.is_unfit:
            self._closed.discard(pick.channel.id)
        if pick.seat is not None and self._seats is not None:
            unknown = outcome.is_abandoned and not outcome.tokens
            self._seats.free(pick.seat, None if unknown else outcome.tokens)
        self._health.ended(pick, outcome)

    @property
    def retry_after_ms(self) -> int | None:
        """When the first of those that were passed over may be asked again."""
        now = self._health.clock_ms()
        waits = [until_ms - now for until_ms in self._full.values()]
        for each in self._table.candidates:
            hindrance = each.way.hindrance(self._table.model.name, now)
            if hindrance is not None and hindrance.until_ms is not None:
                waits.append(hindrance.until_ms - now)
        return max(1, min(waits)) if waits else None

    def _ranked(self, tier: Sequence[Candidate]) -> Sequence[Candidate]:
        """Those of a priority that may be taken now, best first."""
        model, now = self._table.model, self._health.clock_ms()
        free = [each for each in tier if self._is_open_to(each) and each.way.hindrance(model.name, now) is None]
        if len(free) < 2:
            return free
        if self._need is None:
            self._need = need_of(self._order)
        key = None
        if self._table.sticky:
            key = conversation_key(self._account_id, self._order.conversation, self._order.prompt)
        return rank(free, model, self._need, key, now, self._rng)

    def _is_open_to(self, candidate: Candidate) -> bool:
        if candidate.way.channel.id in self._closed:
            return False
        return not self._tried or all(taken.way is not candidate.way for taken in self._tried)

    async def _take(self, candidate: Candidate) -> Taken | None:
        """None: its vendor's limit is reached."""
        way = candidate.way
        seat: Seat | None = None
        if way.is_limited and self._seats is not None:
            if self._need is None:
                self._need = need_of(self._order)
            seat = seat_at(candidate, f"{self._order.request_id}:{len(self._tried)}", self._need)
            try:
                wait_ms = await self._seats.take(seat)
            except BaseException:  # it may have been taken all the same
                self._seats.free(seat, None)
                raise
            if wait_ms:
                self._full[seat.credential] = self._health.clock_ms() + wait_ms
                return None
            self._full.pop(seat.credential, None)
        taken = self._health.take(way, self._table.model.name, candidate.pace, self._health.clock_ms(), seat)
        self._closed.add(way.channel.id)
        self._tried.append(taken)
        self._live += 1
        self.hedge_s = self._base_hedge_s
        if taken.is_probe:
            patience_s = min(_PROBE_HEDGE_S * 2.0 ** min(way.breaker.probes_lost, 10), _PROBE_HEDGE_MOST_S)
            self.hedge_s = patience_s if self.hedge_s is None else min(self.hedge_s, patience_s)
        return taken

    async def _wait_for_room(self) -> bool:
        """Whether it was worth while: some way has a limit that ends soon."""
        model, now = self._table.model.name, self._health.clock_ms()
        ends = list(self._full.values())
        for each in self._table.candidates:
            hindrance = each.way.hindrance(model, now) if self._is_open_to(each) else None
            if hindrance is not None and hindrance.kind == "cooling" and hindrance.until_ms is not None:
                ends.append(hindrance.until_ms)
        if not ends:
            return False
        wait_ms = max(1, min(ends) - now)
        # Those who wait for the same moment shall not all come at once.
        wait_ms += round(self._rng.random() * (20 + wait_ms / 4))
        if wait_ms > self._patience_ms or self._is_late(wait_ms):
            return False
        self._patience_ms -= wait_ms
        self._full.clear()
        await self._sleep(wait_ms / 1000)
        return True

    def _least_bad(self) -> Iterator[Candidate]:
        """All that is left is broken: the one that is due soonest comes first, rather than nobody."""
        if self._is_late():
            return
        model, now = self._table.model.name, self._health.clock_ms()
        broken: list[tuple[int, float, Candidate]] = []
        for each in self._table.candidates:
            hindrance = each.way.hindrance(model, now) if self._is_open_to(each) else None
            if hindrance is not None and hindrance.until_ms is not None and hindrance.kind in ("open", "probed"):
                broken.append((hindrance.until_ms, self._rng.random(), each))
        for _, _, candidate in sorted(broken, key=lambda each: each[:2]):
            yield candidate

    async def _once_more(self) -> Taken | None:
        """The last channel again, where its error was brief."""
        if not self._tried or self._last is None or not self._retries or not is_brief(self._last):
            return None
        way = self._tried[-1].way
        if not way.is_current or way.parked is not None or way.channel.draining:
            return None
        made = self._table.model.routing.retries - self._retries
        wait_ms = min(_BACKOFF_FIRST_MS * 2**made, _BACKOFF_MOST_MS) * (0.5 + self._rng.random())
        if self._last.retry_after_ms is not None:
            if self._last.retry_after_ms > _BACKOFF_MOST_MS:
                return None
            wait_ms = max(wait_ms, self._last.retry_after_ms)
        if self._is_late(wait_ms):
            return None
        self._retries -= 1
        await self._sleep(wait_ms / 1000)
        candidate = next((each for each in self._table.candidates if each.way is way), None)
        return None if candidate is None else await self._take(candidate)

    def _is_late(self, wait_ms: float = 0) -> bool:
        """The deadline has passed, or will have after so long a wait."""
        return self.deadline_at is not None and (asyncio.get_running_loop().time() + wait_ms / 1000 >= self.deadline_at)


def seat_at(candidate: Candidate, name: str, need: Need) -> Seat:
    credential, channel = candidate.way.credential, candidate.way.channel
    limits = credential.limits
    return Seat(
        credential=f"{channel.id}/{credential.id}",
        name=name,
        tokens=need.tokens,
        rpm=limits.rpm,
        tpm=limits.tpm,
        concurrency=limits.concurrency,
        lease_ms=channel.timeouts.total_ms,
    )
