"""Whoever tries secrets that are not there is slowed down, by address: in this process, and before any look-up."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from app.base.addresses import neighbourhood
from app.base.errors import RateLimited

__all__ = ["Guesses"]

_BURST = 60
_PER_SECOND = 1.0
_PLACES_MOST = 10_000


class _Bucket:
    """Misses that a place has left. Tries that are under way may each become one."""

    __slots__ = ("at_s", "level", "under_way", "waiting")

    def __init__(self, level: float, at_s: float) -> None:
        self.level = level
        self.at_s = at_s
        self.under_way = 0
        self.waiting: list[asyncio.Future[None]] = []


class Guesses:
    """A miss costs one of `burst`, which come back at `per_second`; a hit costs nothing."""

    def __init__(
        self,
        burst: int = _BURST,
        per_second: float = _PER_SECOND,
        clock: Callable[[], float] = time.monotonic,
        places_most: int = _PLACES_MOST,
    ) -> None:
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        self._places_most = places_most
        self._buckets: OrderedDict[tuple[int, int] | None, _Bucket] = OrderedDict()

    async def begin(self, address: str) -> _Bucket:
        """A try from there begins; it must be ended. Waits while those under way could use up what is left: many good
        keys may come from one place at once. Raises RateLimited where too many have missed."""
        place = neighbourhood(address)
        while True:
            bucket = self._filled(place)
            if bucket.level >= bucket.under_way + 1:
                bucket.under_way += 1
                return bucket
            if bucket.level < 1:
                wait_ms = int((1 - bucket.level) / self._per_second * 1000) + 1
                raise RateLimited("Too many invalid keys were sent from your address.", wait_ms)
            ended = asyncio.get_running_loop().create_future()
            bucket.waiting.append(ended)
            await ended

    def end(self, bucket: _Bucket, *, missed: bool) -> None:
        bucket.under_way -= 1
        if missed:
            bucket.level -= 1
        waiting, bucket.waiting = bucket.waiting, []
        for ended in waiting:
            if not ended.done():  # whoever waited may have left
                ended.set_result(None)

    def _filled(self, place: tuple[int, int] | None) -> _Bucket:
        now_s = self._clock()
        bucket = self._buckets.get(place)
        if bucket is None:
            if len(self._buckets) >= self._places_most:
                self._buckets.popitem(last=False)  # the one that was quiet for longest
            bucket = self._buckets[place] = _Bucket(self._burst, now_s)
        self._buckets.move_to_end(place)
        bucket.level = min(self._burst, bucket.level + (now_s - bucket.at_s) * self._per_second)
        bucket.at_s = now_s
        return bucket
