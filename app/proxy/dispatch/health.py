"""The health of every way, as this process knows it: learnt from its own requests, and from what other workers tell.
Nothing here waits."""

import random
from collections.abc import Callable, Iterator

from app.base.clock import monotonic_ms, now_ms
from app.proxy.dispatch.change import Change, Kind, WayHealth
from app.proxy.dispatch.pace import Pace
from app.proxy.dispatch.roll import Roll
from app.proxy.dispatch.verdict import judge, reason_of
from app.proxy.dispatch.way import Cooling, Way
from app.proxy.records import Outcome, Pick
from app.quota.seats import Seat

__all__ = ["Health", "Listener", "Taken"]

Listener = Callable[[Change], None]

_COOL_FIRST_MS = 1_000
_COOL_MOST_MS = 30_000
_RETRY_AFTER_MOST_MS = 3_600_000
# An answer that was cut after its first content can't be hidden from the customer: it counts for two.
_CUT_WEIGHT = 2
_TOO_MANY = "HTTP 429"


class Taken(Pick, frozen=True, kw_only=True):
    """A pick, with what its end has to be told to. `term` is the breaker's when it began; `owns_probe` where the
    breaker waits for its report."""

    way: Way
    model: str
    pace: Pace
    term: int
    seat: Seat | None
    owns_probe: bool = False


class Health(Roll):
    """`clock_ms` never jumps; `wall_ms` is what people and other machines read. Listeners hear of each change that
    this process found out itself, not of those that it was told."""

    def __init__(
        self,
        rng: random.Random | None = None,
        clock_ms: Callable[[], int] = monotonic_ms,
        wall_ms: Callable[[], int] = now_ms,
    ) -> None:
        super().__init__()
        self.clock_ms = clock_ms
        self._wall_ms = wall_ms
        self._rng = rng or random.Random()  # noqa: S311 (jitter)
        self._came: set[int] = set()  # ids of picks whose first content is there
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def take(self, way: Way, model: str, pace: Pace, now: int, seat: Seat | None = None) -> Taken:
        """Begins a request. One whose breaker is not closed is a probe; a due one is the probe, and told to others."""
        way.load.in_flight += 1
        pace.begin(now)
        breaker = way.breaker
        is_probe = breaker.state != "closed"
        owns_probe = is_probe and way.is_current and breaker.is_due(now)
        if owns_probe:
            breaker.begin_probe(now, way.patience_ms)
            self._tell(self._change(way, "half_open", "a probe is under way", until_ms=breaker.until_ms))
        return Taken(
            way.channel,
            way.credential,
            is_probe,
            way=way,
            model=model,
            pace=pace,
            term=breaker.term,
            seat=seat,
            owns_probe=owns_probe,
        )

    def came(self, taken: Taken, ttft_ms: int) -> None:
        """First content is there: the channel is well, whatever comes later."""
        now = self.clock_ms()
        self._came.add(id(taken))
        taken.pace.learn(ttft_ms, now)
        if taken.way.is_current:
            self._served(taken, now, is_whole=False)

    def ended(self, taken: Taken, outcome: Outcome) -> None:
        way, now = taken.way, self.clock_ms()
        way.load.in_flight -= 1
        taken.pace.end()
        came = id(taken) in self._came
        self._came.discard(id(taken))
        if not way.is_current:
            return
        finding = judge(outcome)
        if finding in ("failed", "limited", "denied", "unfit"):
            way.last_error, way.last_error_at_ms = reason_of(outcome), self._wall_ms()
        match finding:
            case "served":
                if not came:
                    self._served(taken, now)
                elif not taken.is_probe and way.breaker.term == taken.term:
                    way.breaker.completed()
            case "refused":
                if taken.is_probe:
                    self._close(way, now)
            case "failed":
                self._failed(taken, outcome, came, now)
            case "limited":
                self._cool(taken, outcome, now)
            case "denied":
                self._park(way, reason_of(outcome), outcome.http_status)
        if taken.owns_probe and way.breaker.state == "half_open" and way.breaker.term == taken.term:
            # It told nothing, or something that is not the breaker's.
            way.breaker.probe_lost(now, self._rng.random())

    def park(self, channel_id: str, credential_id: str, reason: str, http_status: int) -> None:
        """By a test that the vendor refused."""
        for way in self.find(channel_id, credential_id):
            self._park(way, reason, http_status)

    def unpark(self, channel_id: str, credential_id: str | None, reason: str) -> None:
        """By a test that passed, or an operator."""
        for way in self.find(channel_id, credential_id):
            if way.parked is not None:
                self._forgive(way)
                self._tell(self._change(way, "returned", reason))

    def hear(self, change: Change, told_at_ms: int | None = None) -> None:
        """What another worker found out, at `told_at_ms` of its own clock; of a way that has been changed since it is
        nothing."""
        now = self.clock_ms()
        left_ms = max(0, (change.until_ms or 0) - (self._wall_ms() if told_at_ms is None else told_at_ms))
        for way in self.find(change.channel_id, change.credential_id):
            if way.stamp != change.stamp:
                continue
            match change.kind:
                case "opened":
                    way.breaker.opened_elsewhere(now, left_ms, self._rng.random())
                    way.open_reason = change.reason
                case "half_open":
                    way.breaker.probed_elsewhere(now, left_ms)
                case "closed":
                    if way.breaker.state != "closed":
                        way.breaker.close(now)
                case "cooling" if change.model is not None:
                    self._keep_cool(way, change.model, now + min(left_ms, _RETRY_AFTER_MOST_MS))
                case "parked":
                    way.parked = change.reason
                case "returned":
                    self._forgive(way)
            way.review()

    def adopt(self, way: Way, view: WayHealth) -> None:
        """As if what others wrote of a way had been learnt here."""
        now, wall = self.clock_ms(), self._wall_ms()
        way.load.in_flight = view.in_flight
        way.parked, way.open_reason = view.parked, view.open_reason
        if view.open_until_ms is not None:
            way.breaker.restore(view.state, now + view.open_until_ms - wall)
        for model, until_ms in view.cooling.items():
            self._keep_cool(way, model, now + until_ms - wall)
        for model, first_ms in view.first_content_ms.items():
            way.pace(model).learn(first_ms, now)
        way.review()

    def view(self) -> list[WayHealth]:
        """Every way that this process knows."""
        now = self.clock_ms()
        return [self._show(way, now) for way in self.ways()]

    def standing(self) -> Iterator[Change]:
        """What holds ways back now, as the changes that made it so."""
        now = self.clock_ms()
        for way in self.ways():
            if way.is_well:
                continue
            if way.parked is not None:
                yield self._change(way, "parked", way.parked)
            if way.breaker.state != "closed":
                yield self._change(way, "opened", way.open_reason or "", until_ms=way.breaker.until_ms)
            for model, cooling in way.cooling.items():
                if cooling.until_ms > now:
                    yield self._change(way, "cooling", _TOO_MANY, until_ms=cooling.until_ms, model=model)

    def wall_of(self, clock_ms: int) -> int:
        """A time of the monotonic clock as one since 1970."""
        return self._wall_ms() + clock_ms - self.clock_ms()

    def _served(self, taken: Taken, now: int, *, is_whole: bool = True) -> None:
        way, breaker = taken.way, taken.way.breaker
        if taken.is_probe:
            if breaker.state != "closed":
                self._close(way, now)
        elif breaker.term == taken.term:
            breaker.succeeded(now, is_whole=is_whole)
        cooling = way.cooling.get(taken.model) if way.cooling else None
        if cooling is not None and cooling.until_ms <= now:
            del way.cooling[taken.model]
            way.review()

    def _failed(self, taken: Taken, outcome: Outcome, came: bool, now: int) -> None:
        way, breaker, jitter = taken.way, taken.way.breaker, self._rng.random()
        reason = reason_of(outcome)
        if taken.owns_probe:
            is_awaited = breaker.state == "half_open" and breaker.term == taken.term
            # Its first content closed the breaker, and was wrong about that.
            has_misled = came and breaker.state == "closed" and breaker.term == taken.term + 1
            if not (is_awaited or has_misled):
                return
            breaker.probe_failed(now, jitter)
            reason = f"its probe failed: {reason}"
        else:
            if taken.is_probe or breaker.term != taken.term:
                return
            if not breaker.failed(now, jitter, weight=_CUT_WEIGHT if came else 1, retracts=came):
                return
            bad, total = breaker.counts(now)
            reason = f"{bad} of {total} failed, the last with {reason}"
        way.open_reason = reason
        way.review()
        self._tell(self._change(way, "opened", reason, until_ms=breaker.until_ms, http_status=outcome.http_status))

    def _close(self, way: Way, now: int) -> None:
        way.breaker.close(now)
        way.open_reason = None
        way.review()
        self._tell(self._change(way, "closed", "it answers again"))

    def _cool(self, taken: Taken, outcome: Outcome, now: int) -> None:
        way, model = taken.way, taken.model
        known = way.cooling.get(model)
        said_ms = outcome.retry_after_ms
        is_new = known is None or known.until_ms <= now
        if said_ms is None and not is_new:
            return  # it was sent before the first of them was answered
        backoff_ms = _COOL_FIRST_MS if known is None else known.backoff_ms
        if is_new:
            next_ms = min(backoff_ms * 2, _COOL_MOST_MS)
            way.cooling[model] = known = Cooling(now, next_ms)
        assert known is not None
        wait_ms = backoff_ms if said_ms is None else min(max(said_ms, 0), _RETRY_AFTER_MOST_MS)
        known.until_ms = max(known.until_ms, now + wait_ms)
        way.review()
        if is_new:
            change = self._change(way, "cooling", _TOO_MANY, until_ms=known.until_ms, model=model, http_status=429)
            self._tell(change)

    def _keep_cool(self, way: Way, model: str, until_ms: int) -> None:
        known = way.cooling.setdefault(model, Cooling(until_ms, _COOL_FIRST_MS * 2))
        known.until_ms = max(known.until_ms, until_ms)

    def _park(self, way: Way, reason: str, http_status: int | None) -> None:
        if way.parked is not None:
            return
        way.parked = reason
        way.review()
        self._tell(self._change(way, "parked", reason, http_status=http_status))

    def _forgive(self, way: Way) -> None:
        way.parked = None
        if way.breaker.state != "closed":
            way.breaker.close(self.clock_ms())
        way.review()

    def _tell(self, change: Change) -> None:
        for listener in self._listeners:
            listener(change)

    def _change(
        self,
        way: Way,
        kind: Kind,
        reason: str,
        *,
        until_ms: int | None = None,
        model: str | None = None,
        http_status: int | None = None,
    ) -> Change:
        return Change(
            channel_id=way.channel.id,
            credential_id=way.credential.id,
            kind=kind,
            reason=reason,
            model=model,
            until_ms=None if until_ms is None else self.wall_of(until_ms),
            http_status=http_status,
            stamp=way.stamp,
        )

    def _show(self, way: Way, now: int) -> WayHealth:
        bad, total = way.breaker.counts(now)
        is_closed = way.breaker.state == "closed"
        paces = {model: pace.latest_ms() for model, pace in way.paces.items()}
        return WayHealth(
            channel_id=way.channel.id,
            credential_id=way.credential.id,
            stamp=way.stamp,
            state=way.breaker.state,
            open_until_ms=None if is_closed else self.wall_of(way.breaker.until_ms),
            open_reason=way.open_reason,
            parked=way.parked,
            cooling={model: self.wall_of(each.until_ms) for model, each in way.cooling.items() if each.until_ms > now},
            in_flight=way.load.in_flight,
            failures=bad,
            requests=total,
            first_content_ms={model: figure for model, figure in paces.items() if figure is not None},
            last_error=way.last_error,
            last_error_at_ms=way.last_error_at_ms,
        )
