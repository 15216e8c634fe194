"""The search for an answer: the picks of one plan, one after the other; beside one that is slow, another.

Every pick that the plan gives is ended exactly once, whatever becomes of it.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from app.base.errors import NoChannel, TollgateError, VendorRefused
from app.proxy.records import Order, Outcome, Pick, Plan, Try
from app.proxy.relay.attempt import DEADLINE, Attempt, AttemptFailed, has_passed
from app.proxy.relay.verdict import tokens_taken

__all__ = ["RelayFailed", "Search"]

_RETRY_AFTER_S = 5

T = TypeVar("T")


class RelayFailed(Exception):
    """No pick gave an answer: `error` is for the customer, NoChannel or VendorRefused, and `tries` for the receipt.
    `is_overflow`: the prompt was too long for the model."""

    def __init__(self, error: TollgateError, tries: Sequence[Try], *, is_overflow: bool = False) -> None:
        super().__init__(error.message)
        self.error = error
        self.tries = tuple(tries)
        self.is_overflow = is_overflow

    @property
    def is_refused(self) -> bool:
        """The vendor found fault with the request itself."""
        return isinstance(self.error, VendorRefused)


class Search(Generic[T]):
    """`tries` begins with those of earlier searches for the same request. `not_after`, in the loop's time, bounds the
    wait beside the plan's own deadline. `leftovers` keeps attempts that lost until they have ended."""

    def __init__(
        self,
        order: Order,
        plan: Plan,
        begin: Callable[[Order, Pick, float | None], Attempt[T]],
        leftovers: set[asyncio.Task[None]],
        tries: Sequence[Try] = (),
        not_after: float | None = None,
    ) -> None:
        self._order = order
        self._plan = plan
        self._begin = begin
        self._leftovers = leftovers
        self.tries = list(tries)
        self._deadline_at = _sooner(plan.deadline_at, not_after)
        self._began_at = 0.0 if self._deadline_at is None else asyncio.get_running_loop().time()
        self._refused: AttemptFailed | None = None

    async def run(self) -> tuple[Attempt[T], T]:
        """The attempt that answered, last among the tries, whose pick the caller has to end; and its answer. Raises
        RelayFailed."""
        while self._refused is None and (pick := await self._next()) is not None:
            found = await (self._alone(pick) if self._plan.hedge_s is None else self._race(pick, self._plan.hedge_s))
            if found is not None:
                return found
        if (refused := self._refused) is not None and refused.refusal is not None:
            raise RelayFailed(refused.refusal, self.tries, is_overflow=refused.is_overflow)
        wait_ms = self._plan.retry_after_ms
        wait_s = _RETRY_AFTER_S if wait_ms is None else max(1, -(-wait_ms // 1000))
        raise RelayFailed(NoChannel(wait_s), self.tries)

    async def _next(self) -> Pick | None:
        if self._deadline_at is None:
            return await self._plan.next()
        if has_passed(self._deadline_at):
            return None
        try:
            async with asyncio.timeout_at(self._deadline_at):
                return await self._plan.next()
        except TimeoutError:
            return None

    def _attempt(self, pick: Pick) -> Attempt[T]:
        try:
            return self._begin(self._order, pick, self._deadline_at)
        except BaseException:
            self._plan.ended(pick, Outcome(is_abandoned=True))
            raise

    async def _alone(self, pick: Pick) -> tuple[Attempt[T], T] | None:
        """Without a task: most requests are served by the first pick."""
        attempt = self._attempt(pick)
        try:
            answer = await attempt.run()
        except AttemptFailed as failed:
            self._lost(attempt, failed)
            return None
        except BaseException:
            self._abandoned(attempt)
            raise
        return self._won(attempt, answer)

    async def _race(self, pick: Pick, hedge_s: float) -> tuple[Attempt[T], T] | None:
        """Where one pick runs alone and has said nothing for `hedge_s`, the next is begun beside it. The first to
        answer wins; None where none did."""
        running: dict[asyncio.Task[T], Attempt[T]] = {}
        asking: asyncio.Task[Pick | None] | None = None  # the plan, for the next pick

        def start(pick: Pick) -> None:
            attempt = self._attempt(pick)
            running[asyncio.create_task(attempt.run())] = attempt

        def drop_asking() -> None:
            if asking is not None:
                asking.cancel()
                asking.add_done_callback(self._end_unused)

        start(pick)
        may_hedge = True
        try:
            while running or asking is not None:
                pause_s = None
                if may_hedge and asking is None and len(running) == 1:
                    (alone,) = running.values()
                    pause_s = max(0.0, hedge_s - alone.duration_ms / 1000)
                waited = running if asking is None else (*running, asking)
                done, _ = await asyncio.wait(waited, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    asking = asyncio.create_task(self._next())
                    continue
                if (won := self._first_of(done, running)) is not None:
                    return won
                if self._refused is not None:  # the one that still runs may know better, but nobody else is asked
                    drop_asking()
                    may_hedge, asking = False, None
                elif asking is not None and asking.done():
                    second, asking = asking.result(), None
                    may_hedge = second is not None
                    if second is not None:
                        start(second)
            return None
        finally:
            self._leave(running)
            drop_asking()

    def _first_of(
        self, done: set[asyncio.Task[Any]], running: dict[asyncio.Task[T], Attempt[T]]
    ) -> tuple[Attempt[T], T] | None:
        """The one begun first of those that have answered; the others are left."""
        for task in [task for task in running if task in done]:
            attempt = running[task]
            try:
                answer = task.result()
            except AttemptFailed as failed:
                del running[task]
                self._lost(attempt, failed)
                continue
            del running[task]
            self._leave(running)
            return self._won(attempt, answer)
        return None

    def _end_unused(self, asking: asyncio.Task[Pick | None]) -> None:
        """The pick came too late to be begun."""
        if not asking.cancelled() and asking.exception() is None and (pick := asking.result()) is not None:
            self._plan.ended(pick, Outcome(is_abandoned=True))

    def _won(self, attempt: Attempt[T], answer: T) -> tuple[Attempt[T], T]:
        took_ms = self._record(attempt, None)
        self._plan.came(attempt.pick, took_ms)
        return attempt, answer

    def _lost(self, attempt: Attempt[T], failed: AttemptFailed) -> None:
        self._record(attempt, failed.error)
        if failed.refusal is not None:
            self._refused = self._refused or failed
            self._plan.ended(attempt.pick, Outcome(http_status=attempt.http_status, tokens=tokens_taken(attempt.usage)))
            return
        self._plan.ended(
            attempt.pick,
            Outcome(
                http_status=attempt.http_status,
                error=failed.error,
                retry_after_ms=failed.retry_after_ms,
                is_unfit=failed.is_unfit,
                tokens=tokens_taken(attempt.usage),
                is_abandoned=failed.error == DEADLINE and not self._had_its_time(attempt),
            ),
        )

    def _had_its_time(self, attempt: Attempt[T]) -> bool:
        """Half of what there was, or more: that the deadline came is its own doing."""
        assert self._deadline_at is not None
        return attempt.duration_ms >= (self._deadline_at - self._began_at) * 500

    def _leave(self, running: dict[asyncio.Task[T], Attempt[T]]) -> None:
        """Attempts whose answer nobody waits for any more are closed at once, while the request goes on."""
        for task, attempt in running.items():
            self._record(attempt, "hedged")
            self._abandoned(attempt)
            task.cancel()
            leftover = asyncio.create_task(_put_away(task, attempt))
            self._leftovers.add(leftover)
            leftover.add_done_callback(self._leftovers.discard)
        running.clear()

    def _abandoned(self, attempt: Attempt[T]) -> None:
        outcome = Outcome(http_status=attempt.http_status, tokens=tokens_taken(attempt.usage), is_abandoned=True)
        self._plan.ended(attempt.pick, outcome)

    def _record(self, attempt: Attempt[T], error: str | None) -> int:
        """How long it took, in milliseconds."""
        took_ms = attempt.duration_ms
        self.tries.append(
            Try(
                channel=attempt.pick.channel,
                model=self._order.model,
                http_status=attempt.http_status,
                error=error,
                duration_ms=took_ms,
                usage=None if error is None else attempt.usage,
            )
        )
        return took_ms


async def _put_away(task: asyncio.Task[T], attempt: Attempt[T]) -> None:
    await asyncio.wait((task,))
    if not task.cancelled() and task.exception() is None:  # it answered at the same moment as the winner
        await attempt.discard(task.result())


def _sooner(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
