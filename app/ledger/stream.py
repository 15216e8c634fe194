"""The shards' streams, as the bookkeeper reads them: a consumer group, entries acknowledged only after the commit, and
kept a little longer for verify."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import msgspec

from app.base.receipt import BOOKKEEPERS
from app.base.wire import Reply, Script, StoreError, Wire
from app.ledger.items import Item, read_item
from app.ledger.redis_side import StreamEntry

__all__ = ["Entry", "ReceiptStreams", "Rejected", "read_entry", "read_rejected"]

log = logging.getLogger("tollgate.bookkeeper")

# One name for all: what a bookkeeper that died had taken, the next one finds under its own.
_CONSUMER = b"books"
_COUNT_A_SHARD = 500
# Posted entries stay this long, so that verify's snapshot of the database never lacks what Redis has dropped.
KEEP_MS = 15_000

_UNREADABLE = (msgspec.DecodeError, KeyError, ValueError)
_TRIM = Script((Path(__file__).parent / "trim.lua").read_text())

_REJECTED = b":rejected"
# What an entry that was set aside has beside its own fields: the id that it had in the stream, and the error's class.
_ID = b"id"
_ERROR = b"error"


class Entry(msgspec.Struct, frozen=True):
    """One entry of a stream. `item` is None where it could not be read."""

    stream: bytes
    id: bytes
    fields: dict[bytes, bytes]
    item: Item | None


class Rejected(msgspec.Struct, frozen=True):
    """An entry that was set aside. `id` is its own in `<stream>:rejected`; `subject` names its request or its movement,
    or is the id that it had in the stream where it can't be read; `error` is the class of the error."""

    id: bytes
    subject: str
    error: str
    item: Item | None


def read_entry(entry: StreamEntry) -> Item | None:
    """None, and a line in the log, where it is neither a receipt nor a movement."""
    return _read(entry.id, entry.fields)


def read_rejected(entry_id: bytes, fields: dict[bytes, bytes]) -> Rejected:
    """An entry that was set aside, as of the moment when it was written."""
    id_before = fields.get(_ID, entry_id)
    try:
        item = read_item(id_before, fields)
    except _UNREADABLE:
        item = None
    subject = id_before.decode(errors="replace") if item is None else item.id
    return Rejected(entry_id, subject, fields.get(_ERROR, b"unknown").decode(errors="replace"), item)


def _read(entry_id: bytes, fields: dict[bytes, bytes]) -> Item | None:
    try:
        return read_item(entry_id, fields)
    except _UNREADABLE as error:
        log.error("stream entry %s is not a receipt: %s", entry_id.decode(), error)
        return None


class ReceiptStreams:
    def __init__(self, wire: Wire, shards: int) -> None:
        self._wire = wire
        self._streams = tuple(f"{{s{number}}}:receipts".encode() for number in range(shards))

    async def prepare(self) -> None:
        """Makes the group where it is missing: at the first start, or when Redis was emptied."""
        for stream in self._streams:
            try:
                await self._wire.call(b"XGROUP", b"CREATE", stream, BOOKKEEPERS, b"0", b"MKSTREAM", at=stream)
            except StoreError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    async def ping(self) -> None:
        """Raises ServiceUnavailable where Redis does not answer."""
        await self._wire.ping()

    async def read_new(self) -> list[Entry]:
        """Entries that no bookkeeper has taken yet."""
        return await self._read_group(b">")

    async def read_unacknowledged(self) -> list[Entry]:
        """Entries that were taken and not acknowledged: by a bookkeeper that died."""
        return await self._read_group(b"0")

    async def acknowledge(self, entries: Iterable[Entry]) -> bool:
        """False where Redis knew nothing of some of them: it has lost them, and what came with them, since they were
        read."""
        taken: dict[bytes, list[bytes]] = {}
        for entry in entries:
            taken.setdefault(entry.stream, []).append(entry.id)
        acknowledged = 0
        for stream, ids in taken.items():
            acknowledged += await self._wire.call(b"XACK", stream, BOOKKEEPERS, *ids)
        return acknowledged == sum(map(len, taken.values()))

    async def set_aside(self, entry: Entry, error: str) -> None:
        """Keeps an entry that can't be posted where it is found again, with the class of the error."""
        fields = entry.fields | {_ID: entry.id, _ERROR: error.encode()}
        flat = [part for pair in fields.items() for part in pair]
        await self._wire.call(b"XADD", entry.stream + _REJECTED, b"*", *flat)

    async def rejected(self) -> list[tuple[bytes, Rejected]]:
        """All entries that were set aside, each with the key that has it."""
        found = []
        for key in (stream + _REJECTED for stream in self._streams):
            for entry_id, flat in await self._wire.call(b"XRANGE", key, b"-", b"+"):
                found.append((key, read_rejected(entry_id, dict(zip(flat[::2], flat[1::2], strict=True)))))
        return found

    async def drop_rejected(self, key: bytes, entry_id: bytes) -> None:
        """Of an entry that is posted."""
        await self._wire.call(b"XDEL", key, entry_id)

    async def trim(self) -> None:
        """Drops what is posted and older than KEEP_MS; never what is not acknowledged."""
        for stream in self._streams:
            await self._wire.run(_TRIM, (stream,), BOOKKEEPERS, KEEP_MS)

    async def _read_group(self, after: bytes) -> list[Entry]:
        first, *others = self._wire.together(self._streams)
        if others:
            replies = await asyncio.gather(*(self._read_streams(streams, after) for streams in (first, *others)))
        else:
            replies = [await self._read_streams(first, after)]
        found = []
        for stream, entries in chain.from_iterable(reply or () for reply in replies):
            for entry_id, flat in entries:
                fields = dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {}
                found.append(Entry(stream, entry_id, fields, _read(entry_id, fields)))
        return found

    async def _read_streams(self, streams: Sequence[bytes], after: bytes) -> Reply:
        command: Sequence[bytes | int] = (
            *(b"XREADGROUP", b"GROUP", BOOKKEEPERS, _CONSUMER, b"COUNT", _COUNT_A_SHARD, b"STREAMS"),
            *streams,
            *(after for _ in streams),
        )
        return await self._wire.call(*command, at=streams[0])
