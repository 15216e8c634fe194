"""Settlements that Redis has taken and the database does not have yet. Until the bookkeeper has posted them, a Redis
that loses its last writes would take them along: this worker still has them then.

They are kept as bytes, one behind the other. Kept as objects, they would lie scattered among those of every request,
which then find less of their memory in the processor's caches.
"""

import logging
from array import array
from collections import deque

import msgspec

from app.proxy.settlement.spool import Settlement

__all__ = ["Unposted"]

log = logging.getLogger("tollgate.settlement")

# Some 1 KB each. They are more only where the database is away for long under load.
_KEPT_MOST = 50_000
_BLOCK_BYTES = 64 * 1024

EntryId = tuple[int, int]


_encode_into = msgspec.msgpack.Encoder().encode_into
_decode = msgspec.msgpack.Decoder(tuple[bytes, Settlement]).decode


class _Block:
    """Some settlements of a shard with the ids of their entries, encoded in `data`; `ends` is where each ends there.
    Those before `first` are gone."""

    __slots__ = ("data", "ends", "first")

    def __init__(self) -> None:
        self.data = bytearray()
        self.ends = array("L", (0,))
        self.first = 0

    def __len__(self) -> int:
        return len(self.ends) - 1 - self.first

    def __getitem__(self, index: int) -> tuple[bytes, Settlement]:
        """Counted from `first`, or from the end."""
        at = index + (self.first if index >= 0 else len(self.ends) - 1)
        return _decode(memoryview(self.data)[self.ends[at] : self.ends[at + 1]])


class Unposted:
    """By shard, in the order of the shard's stream."""

    def __init__(self, most: int = _KEPT_MOST) -> None:
        self._most = most
        self._kept: dict[int, deque[_Block]] = {}
        self._count = 0
        self._overflowed = False

    def __len__(self) -> int:
        return self._count

    @property
    def shards(self) -> list[int]:
        return [number for number, blocks in self._kept.items() if blocks]

    def keep(self, number: int, entry: bytes, settlement: Settlement) -> None:
        """`entry` is the id that its receipt has in the stream of the shard."""
        blocks = self._kept.get(number)
        if blocks is None:
            blocks = self._kept[number] = deque()
        if not blocks or len(blocks[-1].data) >= _BLOCK_BYTES:
            blocks.append(_Block())
        block = blocks[-1]
        _encode_into((entry, settlement), block.data, -1)
        block.ends.append(len(block.data))
        self._count += 1
        if self._count > self._most:
            self._drop(blocks, 1)
            if not self._overflowed:
                log.warning("more than %d settlements wait to be posted: older ones are not kept here", self._most)
            self._overflowed = True

    def posted(self, number: int, up_to: EntryId) -> None:
        """The database has all of a shard up to this entry."""
        blocks = self._kept.get(number, ())
        while blocks and _parse(blocks[0][-1][0]) <= up_to:
            self._drop(blocks, len(blocks[0]))
        while blocks and _parse(blocks[0][0][0]) <= up_to:
            self._drop(blocks, 1)
        if self._count < self._most:
            self._overflowed = False

    def take(self, number: int) -> list[Settlement]:
        """All of a shard, which are kept no longer: whoever takes them settles them again."""
        blocks = self._kept.pop(number, ())
        self._count -= sum(map(len, blocks))
        return [block[index][1] for block in blocks for index in range(len(block))]

    def _drop(self, blocks: deque[_Block], count: int) -> None:
        """The oldest of a shard, so many of its first block."""
        blocks[0].first += count
        self._count -= count
        if not blocks[0]:
            blocks.popleft()


def _parse(entry: bytes) -> EntryId:
    ms, _, sequence = entry.partition(b"-")
    return int(ms), int(sequence)
