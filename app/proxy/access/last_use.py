"""When and from where keys were last used: noted in memory, written a batch at a time, each key once a minute at most.
Nobody waits for it."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from app.base.clock import now_ms
from app.base.errors import ServiceUnavailable

__all__ = ["LastUse", "WriteUses"]

log = logging.getLogger("tollgate.access")

_LOOK_EVERY_S = 2.0
_WRITE_EVERY_MS = 60_000
_KEYS_A_WRITE = 500


class WriteUses(Protocol):
    """Writes (key id, ms since 1970, address). Raises ServiceUnavailable."""

    async def __call__(self, uses: Sequence[tuple[str, int, str]], /) -> None: ...


class LastUse:
    def __init__(self, write: WriteUses, clock: Callable[[], int] = now_ms) -> None:
        self._write = write
        self._clock = clock
        self._seen: dict[str, tuple[int, str]] = {}
        self._written: dict[str, int] = {}  # those of the last minute

    def note(self, key_id: str, address: str) -> None:
        self._seen[key_id] = (self._clock(), address)

    async def keep(self) -> None:
        """Writes what is due, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            await self.write()

    async def write(self, *, everything: bool = False) -> None:
        """What is due; where the database is away, at the next call."""
        now = self._clock()
        # Where the clock was set back, nobody waits for it to catch up.
        self._written = {key: at for key, at in self._written.items() if 0 <= now - at < _WRITE_EVERY_MS}
        due = sorted(key for key in self._seen if everything or key not in self._written)
        for start in range(0, len(due), _KEYS_A_WRITE):
            some = {key: self._seen.pop(key) for key in due[start : start + _KEYS_A_WRITE]}
            try:
                await self._write([(key, *use) for key, use in some.items()])
            except ServiceUnavailable as error:
                log.warning("when keys were last used could not be written: %s", error)
                self._seen = some | self._seen
                return
            self._written |= dict.fromkeys(some, now)
