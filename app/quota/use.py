"""What keys and accounts have used, in Redis: counters that it lacks are brought from the books, and looked at."""

from collections.abc import Sequence

import msgspec

from app.base.wire import Wire
from app.quota.rules import WINDOWS_KEPT_S, Counter, Subject
from app.quota.scripts import SEED, USE
from app.quota.slots import shard_keys
from app.quota.wallets import StreamEntry

__all__ = ["Counted", "Seed", "Use", "UseCounters"]


class Seed(msgspec.Struct, frozen=True):
    """What a subject has used in windows: counter, start (ms), and how much, each."""

    subject: str
    counters: tuple[tuple[str, int, int], ...]


class Counted(msgspec.Struct, frozen=True):
    """Of one window: settled, and set aside for requests that run."""

    used: int
    held: int
    start_ms: int


class Use(msgspec.Struct, frozen=True):
    """What a subject has used. Levels of the minute's limits are in millionths, as they are at `now_us`."""

    now_us: int
    fields: dict[str, int]
    in_flight: int

    def level(self, field: str, limit: int) -> int:
        """Of `r` (requests) or `t` (tokens), after what has leaked away."""
        elapsed_us = max(0, self.now_us - self.fields.get("at", self.now_us))
        return max(0, self.fields.get(field, 0) - elapsed_us * limit // 60)

    def knows(self, counter: Counter) -> bool:
        """Whether it was counted in a window that is next to this one, if not in this: else only the books know."""
        return self.fields.get(f"{counter.name}@", -1) >= counter.starts[0]

    def counted(self, counter: Counter) -> Counted:
        """Nothing, in a window that has not been counted in yet."""
        now_ms = self.now_us // 1000
        start_ms = max((start for start in counter.starts if start <= now_ms), default=counter.starts[0])
        began_ms = self.fields.get(f"{counter.name}@", start_ms)
        if began_ms < start_ms:
            return Counted(0, 0, start_ms)
        return Counted(self.fields.get(counter.name, 0), self.fields.get(f"{counter.name}+", 0), began_ms)


class UseCounters:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def look(self, number: int, subject: Subject) -> Use:
        tag = f"{{s{number}}}"
        keys = (f"{tag}:use:{subject.name}".encode(), f"{tag}:live:{subject.name}".encode())
        now_us, flat, in_flight = await self._wire.run(USE, keys)
        fields = {name.decode(): int(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}
        return Use(int(now_us), fields, in_flight)

    async def last_entry(self, number: int) -> bytes:
        """The id of the last entry of a shard's stream; empty where it has none."""
        reply = await self._wire.call(b"XREVRANGE", shard_keys(number).receipts, b"+", b"-", b"COUNT", 1)
        return bytes(reply[0][0]) if reply else b""

    async def entries_between(self, number: int, after: bytes, last: bytes) -> list[StreamEntry]:
        """Of the shard's stream, beyond `after` (from its start, where that is empty), up to `last`."""
        if not last:
            return []
        first = b"(" + after if after else b"-"
        reply = await self._wire.call(b"XRANGE", shard_keys(number).receipts, first, last)
        return [StreamEntry(entry, dict(zip(fields[::2], fields[1::2], strict=True))) for entry, fields in reply]

    async def seed(self, number: int, last_entry: bytes, seeds: Sequence[Seed]) -> bool:
        """False where the stream has grown beyond `last_entry`: what it has now is to be added first."""
        shard = shard_keys(number)
        keys = (shard.holds, shard.receipts, *(f"{{s{number}}}:use:{seed.subject}".encode() for seed in seeds))
        arguments = [
            text
            for seed in seeds
            for text in (seed.subject, " ".join(f"{name} {start} {used}" for name, start, used in seed.counters))
        ]
        reply = await self._wire.run(SEED, keys, last_entry, WINDOWS_KEPT_S, *arguments)
        return bool(reply == b"ok")
