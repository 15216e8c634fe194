"""Whether Redis still has what it acknowledged. A replica that is promoted, a server that lost its last second, an
older copy that is restored: each keeps its data's names and lacks some of its writes, and nothing in the data tells.

What tells is the server. Each one draws a `run_id` when it starts and a `master_replid` when it becomes a master (INFO,
sections server and replication). Both together are its identity, which every shard keeps in `{s17}:epoch`. A new
connection compares them before it is used: where they differ, the shard begins a new epoch, its wallets are dropped and
rebuilt from the database (epoch.lua), and whoever has something to hand in again (holds of running requests,
settlements that are not posted yet) is told.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from hashlib import sha256

from app.base.wire import Connected, StoreError, Wire
from app.quota.scripts import EPOCH
from app.quota.slots import shard_keys

__all__ = ["LOCAL_SETTLING_MS", "Epochs"]

log = logging.getLogger("tollgate.redis")

_IDENTITY = re.compile(rb"^(?:run_id|master_replid):(\S+?)\r?$", re.MULTILINE)
_SCAN_COUNT = 5_000
_SHARD_KEY = re.compile(rb"\{s(\d+)\}:(?:wallet|use):")
# So long after a shard began a new epoch nobody rebuilds its wallets: every worker has its connection back by then, and
# has handed in the holds of its running requests, which a wallet that is rebuilt without them would spend again. A
# connection takes two seconds at most, and is tried again after half a second.
_SETTLING_MS = 3_000
# A server on this machine is reached at once or not at all.
LOCAL_SETTLING_MS = 1_000

Changed = Callable[[Collection[int]], None]


class Epochs:
    """The epochs of all shards, as this process last saw them. `settling_ms` is how old an epoch must be before wallets
    are rebuilt in it."""

    def __init__(self, shards: int, settling_ms: int = _SETTLING_MS) -> None:
        self._shards = shards
        self._settling_ms = settling_ms
        self._known: dict[int, bytes] = {}
        self._listeners: list[Changed] = []

    def listen(self, changed: Changed) -> None:
        """`changed` is called with the numbers of shards that began a new epoch, while this process knew of another;
        before any command is sent over a new connection. It must not wait."""
        self._listeners.append(changed)

    async def vouch(self, server: Connected) -> None:
        """Asked of each new connection before it is used. Raises StoreError, OutcomeUnknown or ServiceUnavailable."""
        identity = await _identify(server)
        mine = [number for number in range(self._shards) if server.serves(_key(number))]
        found = await asyncio.gather(*(server.call(b"GET", _key(number)) for number in mine))
        epochs = dict(zip(mine, found, strict=True))
        stale = {number for number, epoch in epochs.items() if not _is_of(epoch, identity)}
        if stale:
            if any(epochs[number] is not None for number in stale):
                log.warning("this is another Redis than before: the wallets of %d shards are rebuilt", len(stale))
            dropped = await _scan(server, stale)
            for number in stale:
                epochs[number] = await server.run(EPOCH, (_key(number), *dropped.get(number, ())), identity)
        self._note(epochs)

    async def look(self, wire: Wire, numbers: Iterable[int]) -> dict[int, bytes]:
        """Asks again, over a connection that is in use: a Redis that was emptied has no epoch left, and begins a new
        one. Raises ServiceUnavailable."""
        asked = list(numbers)
        epochs = dict(zip(asked, await asyncio.gather(*(self._look(wire, each) for each in asked)), strict=True))
        self._note(epochs)
        return epochs

    async def settle_down(self, wire: Wire, number: int) -> None:
        """Returns once a shard's epoch is old enough for its wallets to be rebuilt. Raises ServiceUnavailable."""
        epoch = await self._look(wire, number)
        self._note({number: epoch})
        seconds, micros = await wire.call(b"TIME", at=_key(number))
        age_ms = int(seconds) * 1000 + int(micros) // 1000 - int(epoch.split(b" ")[1]) // 1000
        if age_ms < self._settling_ms:
            await asyncio.sleep((self._settling_ms - max(0, age_ms)) / 1000)

    async def _look(self, wire: Wire, number: int) -> bytes:
        epoch = await wire.call(b"GET", _key(number))
        if epoch is not None:
            return bytes(epoch)
        identity = self._known.get(number, b"unknown 0").split(b" ")[0]
        return bytes(await wire.run(EPOCH, (_key(number),), identity))

    def _note(self, epochs: Mapping[int, bytes]) -> None:
        changed = [number for number, epoch in epochs.items() if self._known.get(number, epoch) != epoch]
        self._known.update(epochs)
        if changed:
            for listener in self._listeners:
                listener(changed)


def _key(number: int) -> bytes:
    return shard_keys(number).epoch


async def _identify(server: Connected) -> bytes:
    """One word. A server that tells neither of its ids can't be told from another: its word is `unknown`."""
    told: list[bytes] = []
    with suppress(StoreError):  # a user who may not ask
        for section in (b"server", b"replication"):
            told += _IDENTITY.findall(await server.call(b"INFO", section))
    return sha256(b" ".join(told)).hexdigest()[:24].encode() if told else b"unknown"


def _is_of(epoch: bytes | None, identity: bytes) -> bool:
    return epoch is not None and epoch.split(b" ")[0] == identity


async def _scan(server: Connected, numbers: Collection[int]) -> dict[int, list[bytes]]:
    """Wallets and `use` hashes of these shards, by shard."""
    found: dict[int, list[bytes]] = {}
    cursor = b"0"
    while True:
        cursor, keys = await server.call(b"SCAN", cursor, b"MATCH", b"{s*}:[wu]*", b"COUNT", _SCAN_COUNT)
        for key in keys:
            match = _SHARD_KEY.match(key)
            if match is not None and int(match[1]) in numbers:
                found.setdefault(int(match[1]), []).append(key)
        if cursor == b"0":
            return found
