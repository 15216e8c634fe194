"""What this worker hands in again when Redis has lost it: holds of requests that run, and settlements that the database
does not have yet. And what it takes back: holds whose admission nobody heard of."""

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from app.base.errors import ServiceUnavailable
from app.base.receipt import BOOKKEEPERS
from app.base.wire import StoreError
from app.proxy.settlement.clerk import Clerk
from app.proxy.settlement.unposted import Unposted
from app.quota.gate import Gate
from app.quota.slots import shard_keys

__all__ = ["LookAtEpochs", "Recovery"]

log = logging.getLogger("tollgate.settlement")

_LOOK_EVERY_S = 0.5
_AGAIN_S = 0.1
_AT_ONCE = 100
_PATIENCE_S = 10.0


class LookAtEpochs(Protocol):
    """The epochs of some shards, as Redis says them; whoever listens is told of those that have changed. Raises
    ServiceUnavailable."""

    async def __call__(self, numbers: Iterable[int], /) -> Mapping[int, bytes]: ...


class Recovery:
    def __init__(self, gate: Gate, clerk: Clerk, unposted: Unposted, look: LookAtEpochs) -> None:
        self._gate = gate
        self._clerk = clerk
        self._unposted = unposted
        self._look = look
        self._changed: set[int] = set()
        self._wake = asyncio.Event()
        self._is_done = asyncio.Event()
        self._is_done.set()

    def changed(self, numbers: Collection[int]) -> None:
        """These shards have begun a new epoch."""
        self._changed.update(numbers)
        self._is_done.clear()
        self._wake.set()

    async def ready(self) -> None:
        """Returns once the holds of this worker are there again: no wallet is rebuilt without them."""
        await self._is_done.wait()

    async def keep(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._round()
            except (ServiceUnavailable, StoreError) as error:
                log.warning("what Redis has lost waits to be handed in: %s", str(error) or type(error).__name__)
                await asyncio.sleep(_AGAIN_S)
                continue
            try:
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def drain(self) -> None:
        """What can still be taken back before this worker ends is."""
        try:
            await self._take_back()
        except (ServiceUnavailable, StoreError):
            log.warning("holds that nobody heard of stay until their lease ends: Redis is away")

    async def _round(self) -> None:
        await self._take_back()
        await self._forget_posted()
        while self._changed:
            numbers, self._changed = self._changed, set()
            try:
                await self._recover(numbers)
            except BaseException:
                self._changed |= numbers
                raise
        self._is_done.set()

    async def _take_back(self) -> None:
        while self._gate.unheard:
            lost = self._gate.unheard[0]
            try:
                await self._gate.void(lost)
            except StoreError:  # its lease ends by itself
                log.exception("the hold of %s, which nobody heard of, can't be taken back", lost.request_id)
            if lost in self._gate.unheard:  # the clerk may have written it to the spool meanwhile
                self._gate.unheard.remove(lost)

    async def _forget_posted(self) -> None:
        waiting = self._unposted.shards
        epochs = await self._look({*waiting, *self._gate.open_shards})
        for number in waiting:
            posted = await self._gate.posted(shard_keys(number), BOOKKEEPERS)
            # The stream of another epoch may have come further, without the entries that are kept here.
            if posted.epoch == epochs[number] and number not in self._changed:
                self._unposted.posted(number, posted.up_to)

    async def _recover(self, numbers: set[int]) -> None:
        """Holds first: until they are there, their money may be spent twice. A settlement that Redis refuses holds up
        nobody: it is tried on beside the rest."""
        holds = 0
        for number in numbers:
            holds += await self._gate.put_back(number)
        if not self._changed:
            self._is_done.set()
        settlements = [each for number in numbers for each in self._unposted.take(number)]
        for start in range(0, len(settlements), _AT_ONCE):
            tasks = [self._clerk.hand_in(each) for each in settlements[start : start + _AT_ONCE]]
            await asyncio.wait(tasks, timeout=_PATIENCE_S)
        if holds or settlements:
            log.warning("Redis lost writes: %d holds put back, %d settlements handed in again", holds, len(settlements))
