"""Settlements that Redis has taken and the database does not have yet. Until the bookkeeper has posted them, a Redis
that loses its last writes would take them along: this worker still has them then."""

import logging
from collections import deque

from app.proxy.settlement.spool import Settlement

__all__ = ["Unposted"]

log = logging.getLogger("tollgate.settlement")

# Some 1 KB each. They are more only where the database is away for long under load.
_KEPT_MOST = 50_000

EntryId = tuple[int, int]


class Unposted:
    """By shard, in the order of the shard's stream."""

    def __init__(self, most: int = _KEPT_MOST) -> None:
        self._most = most
        self._kept: dict[int, deque[tuple[bytes, Settlement]]] = {}
        self._count = 0
        self._overflowed = False

    def __len__(self) -> int:
        return self._count

    @property
    def shards(self) -> list[int]:
        return [number for number, kept in self._kept.items() if kept]

    def keep(self, number: int, entry: bytes, settlement: Settlement) -> None:
        """`entry` is the id that its receipt has in the stream of the shard."""
        kept = self._kept.get(number)
        if kept is None:
            kept = self._kept[number] = deque()
        kept.append((entry, settlement))
        self._count += 1
        if self._count > self._most:
            kept.popleft()
            self._count -= 1
            if not self._overflowed:
                log.warning("more than %d settlements wait to be posted: older ones are not kept here", self._most)
            self._overflowed = True

    def posted(self, number: int, up_to: EntryId) -> None:
        """The database has all of a shard up to this entry."""
        kept = self._kept.get(number, ())
        while kept and _parse(kept[0][0]) <= up_to:
            kept.popleft()
            self._count -= 1
        if self._count < self._most:
            self._overflowed = False

    def take(self, number: int) -> list[Settlement]:
        """All of a shard, which are kept no longer: whoever takes them settles them again."""
        kept = self._kept.pop(number, ())
        self._count -= len(kept)
        return [settlement for _, settlement in kept]


def _parse(entry: bytes) -> EntryId:
    ms, _, sequence = entry.partition(b"-")
    return int(ms), int(sequence)
