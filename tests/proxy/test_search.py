"""Whatever the picks of a plan do and in whichever order: each is ended once, and nothing is left running or open."""

import asyncio
import heapq
import selectors
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from app.base.errors import VendorRefused
from app.proxy.records import Order, Pick, Usage
from app.proxy.relay.attempt import DEADLINE, Attempt, AttemptFailed
from app.proxy.relay.search import RelayFailed, Search
from tests.proxy.makers import make_channel, order
from tests.proxy.plans import ListedPlan


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes only where nobody has anything to do, and then at once."""

    def __init__(self) -> None:
        super().__init__(selectors.DefaultSelector())
        self._now = 1000.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        scheduled: list[Any] = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not self._ready and scheduled:  # type: ignore[attr-defined]
            self._now = max(self._now, scheduled[0].when())
        super()._run_once()  # type: ignore[misc]


class Script(msgspec.Struct, frozen=True):
    """What one pick does, and when."""

    at_s: float
    how: str


class Answer:
    def __init__(self) -> None:
        self.is_open = True


class ScriptedAttempt(Attempt[Answer]):
    """An attempt without a vendor."""

    def __init__(
        self, order: Order, pick: Pick, deadline_at: float | None, script: Script, opened: list[Answer]
    ) -> None:
        super().__init__(order, pick, None, deadline_at)  # type: ignore[arg-type]
        self.script = script
        self._opened = opened

    @property
    def usage(self) -> Usage | None:
        return None

    async def run(self) -> Answer:
        try:
            async with asyncio.timeout_at(self._deadline_at):
                await asyncio.sleep(self.script.at_s)
        except TimeoutError:
            raise AttemptFailed(DEADLINE) from None
        if self.script.how == "refuses":
            raise AttemptFailed("refused", refusal=VendorRefused(400, "no", None, None))
        if self.script.how == "fails":
            raise AttemptFailed("status")
        if self.script.how == "breaks":
            raise ZeroDivisionError
        self._opened.append(Answer())
        return self._opened[-1]

    async def discard(self, answer: Answer) -> None:
        await asyncio.sleep(0.001)
        answer.is_open = False


class SlowPlan(ListedPlan):
    """One that waits for a vendor's limit before it gives the next pick."""

    wait_s = 0.0

    async def next(self) -> Pick | None:
        if self.wait_s:
            await asyncio.sleep(self.wait_s)
        return await super().next()


# A few moments that coincide are worth more than many that never do.
moments = st.sampled_from([0.0, 0.1, 0.2, 0.3, 1.0, 30.0])
scripts = st.builds(
    Script, at_s=moments, how=st.sampled_from(["answers", "answers", "fails", "fails", "refuses", "breaks"])
)


@given(
    listed=st.lists(scripts, max_size=5),
    hedge_s=st.none() | moments,
    deadline_s=st.none() | moments,
    cancel_s=st.none() | moments,
    wait_s=st.sampled_from([0.0, 0.1, 0.25]),
)
def test_every_pick_is_ended_once_and_nothing_is_left(
    listed: list[Script], hedge_s: float | None, deadline_s: float | None, cancel_s: float | None, wait_s: float
) -> None:
    """With hedges, deadlines, refusals, faults of ours, plans that wait, and requests that are cancelled."""
    loop = VirtualLoop()
    try:
        loop.run_until_complete(_search(listed, hedge_s, deadline_s, cancel_s, wait_s))
    finally:
        loop.close()


async def _search(
    listed: list[Script], hedge_s: float | None, deadline_s: float | None, cancel_s: float | None, wait_s: float
) -> None:
    loop = asyncio.get_running_loop()
    channels = [make_channel(f"chn_{number}") for number in range(len(listed))]
    deadline_at = None if deadline_s is None else loop.time() + deadline_s
    plan = SlowPlan(*channels, hedge_s=hedge_s, deadline_at=deadline_at)
    plan.wait_s = wait_s
    begun: list[ScriptedAttempt] = []
    opened: list[Answer] = []

    def begin(order: Order, pick: Pick, deadline_at: float | None) -> ScriptedAttempt:
        script = listed[int(pick.channel.id.removeprefix("chn_"))]
        begun.append(ScriptedAttempt(order, pick, deadline_at, script, opened))
        return begun[-1]

    leftovers: set[asyncio.Task[None]] = set()
    search = Search(order(), plan, begin, leftovers)
    asking = asyncio.create_task(search.run())
    if cancel_s is not None:
        loop.call_later(cancel_s, asking.cancel)
    await asyncio.wait((asking,))
    ended_at = loop.time()
    while leftovers:
        await asyncio.wait(leftovers)
    await asyncio.sleep(0.001)

    won = None
    if not asking.cancelled() and asking.exception() is None:
        attempt, won = asking.result()
        assert search.tries[-1].channel is attempt.pick.channel
        assert search.tries[-1].error is None
        assert attempt.pick.channel.id not in plan.outcomes, "the winner's pick is for the caller to end"
        assert len(search.tries) == len(begun)
        plan.outcomes[attempt.pick.channel.id] = None  # type: ignore[assignment]
    elif not asking.cancelled() and isinstance(asking.exception(), RelayFailed):
        assert len(search.tries) == len(begun)
        is_over = deadline_at is not None and loop.time() >= deadline_at
        is_refused = any(each.error == "refused" for each in search.tries)
        assert is_over or is_refused or len(plan.given) == len(listed)
    assert all(answer.is_open == (answer is won) for answer in opened)
    assert [each.channel.id for each in search.tries if each.error is None] == (
        [] if won is None else [search.tries[-1].channel.id]
    )
    assert len({each.channel.id for each in search.tries}) == len(search.tries) <= len(begun)
    plan.assert_settled()
    if deadline_at is not None:
        assert ended_at <= deadline_at + 0.001
    assert asyncio.all_tasks() == {asyncio.current_task()}
