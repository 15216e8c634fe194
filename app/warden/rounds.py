"""Tests of channels without anyone asking: on their schedule, and of parked credentials until they may return."""

import asyncio
import logging
import random
import time
from collections.abc import Iterable, Mapping

import msgspec

from app.base.database import Database
from app.catalog.channel_events import Kind, add_event, last_event
from app.catalog.records import Channel, Credential
from app.warden.house import House, Way
from app.warden.recorder import tell

__all__ = ["Rounds", "pause_s"]

log = logging.getLogger("tollgate.warden")

_PAUSE_MOST_S = 3600.0
_AT_ONCE = 4
_JITTER = 0.1
_PARKS = (401, 402, 403)


def pause_s(first_s: float, failures: int) -> float:
    """How long a parked credential rests after so many failed tests: twice as long each time, an hour at most."""
    return min(first_s * 2.0 ** min(failures, 30), max(_PAUSE_MOST_S, first_s))


class _Turn(msgspec.Struct):
    """When a way is tested next, in monotonic seconds, and why it is tested at all."""

    is_parked: bool
    at: float
    failures: int = 0


class Rounds:
    """`round` starts what is due and waits for nothing; tests still running end with `close`."""

    def __init__(self, house: House, database: Database, first_pause_s: float) -> None:
        self._house = house
        self._database = database
        self._first_pause_s = first_pause_s
        self._turns: dict[Way, _Turn] = {}
        self._running: dict[Way, asyncio.Task[None]] = {}
        self._seats = asyncio.Semaphore(_AT_ONCE)

    async def round(self) -> None:
        """Raises ServiceUnavailable."""
        parked = {(way.channel_id, way.credential_id) for way in await self._house.ways() if way.parked is not None}
        wanted = {(channel.id, credential.id): (channel, credential) for channel, credential in self._tested(parked)}
        self._turns = {way: turn for way, turn in self._turns.items() if way in wanted}
        now = time.monotonic()
        for way, (channel, credential) in wanted.items():
            turn = self._turns.get(way)
            if turn is None or turn.is_parked != (way in parked):
                turn = self._turns[way] = self._first_turn(channel, way in parked, now)
            if turn.at <= now and way not in self._running:
                task = asyncio.create_task(self._test(channel, credential, turn), name=f"test of {channel.id}")
                self._running[way] = task
                task.add_done_callback(lambda _task, way=way: self._running.pop(way, None))  # type: ignore[misc]

    async def close(self) -> None:
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _tested(self, parked: set[Way]) -> Iterable[tuple[Channel, Credential]]:
        for channel in self._house.channels():
            if not channel.enabled or channel.draining or not channel.models:
                continue
            for credential in channel.ways:
                if channel.test_every_s is not None or (channel.id, credential.id) in parked:
                    yield channel, credential

    def _first_turn(self, channel: Channel, is_parked: bool, now: float) -> _Turn:
        if is_parked:
            return _Turn(is_parked=True, at=now + _about(self._first_pause_s))
        # Somewhere in the first interval: after a start, or a change of wardens, they should not all come at once.
        return _Turn(is_parked=False, at=now + (channel.test_every_s or 0) * random.random())  # noqa: S311

    async def _test(self, channel: Channel, credential: Credential, turn: _Turn) -> None:
        way = (channel.id, credential.id)
        try:
            async with self._seats:
                result = await self._house.probe(channel, next(iter(channel.models)), credential)
            if turn.is_parked and result["ok"]:
                self._house.unpark(way, f"a test was answered in {result['latency_ms']} ms")
            await self._note(channel, credential, result, turn)
        except Exception:  # the vendor's faults are results; this is one of ours, and the next test is due all the same
            log.exception("channel %s could not be tested", channel.id)
        if turn.is_parked:
            turn.failures += 1
            pause = pause_s(self._first_pause_s, turn.failures)
        else:
            pause = float(channel.test_every_s or 0)
        turn.at = time.monotonic() + _about(pause)

    async def _note(self, channel: Channel, credential: Credential, result: Mapping[str, object], turn: _Turn) -> None:
        """An event where a test ended otherwise than the one before it; a vendor's no to the credential parks it."""
        is_ok, status = bool(result["ok"]), result["http_status"]
        if turn.is_parked and not is_ok:
            return  # it is known to be unwell
        way, about = (channel.id, credential.id), {"credential_id": credential.id, "model": str(result["model"])}
        said = f"a test was answered in {result['latency_ms']} ms" if is_ok else _fault(result)
        if isinstance(status, int) and status in _PARKS:
            self._house.park(way, said, status)
        async with self._database.write() as db:
            last = await last_event(db, *way, ("test_failed", "test_passed"))
            was_ok = last is None or last.kind == "test_passed"
            if is_ok != was_ok:
                kind: Kind = "test_passed" if is_ok else "test_failed"
                event = await add_event(db, channel.id, kind, said, "schedule", **about)
                await tell(db, event, channel.name)


def _fault(result: Mapping[str, object]) -> str:
    status, error = result["http_status"], result["error"]
    return f"a test failed: {error}" if status is None else f"a test failed: status {status}, {error}"


def _about(seconds: float) -> float:
    return seconds * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
