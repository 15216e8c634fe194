"""The faults that take from Redis what it had acknowledged, and how much each of them took.

While the lost state is put in place nobody finds Redis at its address, so that what it has then is what it kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import msgspec

from benchmarks.chaos.redis_service import RedisService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from benchmarks.chaos.servers import RedisCluster, Stream

_BLOCK_MOST_S = 20.0
_REBUILD_S = 1.0  # for the gateway to rebuild wallets from a journal that lacks the batch


class Loss(msgspec.Struct, frozen=True):
    """How much Redis lost, in words; `happened` is False where it lost nothing that counts."""

    note: str
    happened: bool


def streams_lost(had: Mapping[str, Stream], kept: Mapping[str, Stream]) -> list[str]:
    """The streams of receipts that went back, each with the id of its last entry before and after. Pure."""
    lost = []
    for shard, stream in had.items():
        last_id = kept[shard].last_id if shard in kept else "0-0"
        if _order(last_id) < _order(stream.last_id):
            lost.append(f"{shard} {stream.last_id} -> {last_id}")
    return lost


def _order(entry_id: str) -> tuple[int, int]:
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number)


def _loss(what: str, had: Mapping[str, Stream], kept: Mapping[str, Stream]) -> Loss:
    lost = streams_lost(had, kept)
    return Loss(f"{what}; streams that went back: {', '.join(lost) or 'none'}", bool(lost))


async def promote_lagging_replica(redis: RedisService, lag_s: float) -> Loss:
    """A replica takes over that lacks what its master acknowledged in the last `lag_s`.

    The replica is promoted first, and its master killed only afterwards: one that is paused or cut off would still
    apply what waits in its socket.
    """
    master, replica = redis.server, await redis.new_replica()
    replica.order(b"REPLICAOF NO ONE")
    kept, kept_bytes = replica.streams(), _offset(replica.info(b"replication"))
    await asyncio.sleep(lag_s)
    had, had_bytes = master.streams(), _offset(master.info(b"replication"))
    with redis.no_address():
        await master.kill()
        redis.server = replica
    return _loss(f"the replica lacked {had_bytes - kept_bytes} bytes of {lag_s:.1f} s", had, kept)


def _offset(replication: Mapping[str, str]) -> int:
    return int(replication["master_repl_offset"])


async def lose_last_second(redis: RedisService, lost_s: float) -> Loss:
    """A power cut under `appendfsync everysec`: the file ends where it did `lost_s` before the crash.

    A file that Redis rewrote meanwhile is left as it is: its size then says nothing.
    """
    file = redis.server.append_only_file
    before = file.stat()
    await asyncio.sleep(lost_s)
    had = redis.streams()
    with redis.no_address():
        await redis.kill()
        after = file.stat()
        cut = after.st_size - before.st_size if after.st_ino == before.st_ino else 0
        if cut > 0:
            os.truncate(file, before.st_size)
        await redis.start()
        kept = redis.streams()
    return _loss(f"{cut} bytes of {lost_s:.1f} s cut off", had, kept)


async def restore_older_copy(redis: RedisService, age_s: float) -> Loss:
    """Redis comes back with a copy of its file that is `age_s` old."""
    file = redis.server.append_only_file
    copy = file.with_suffix(".copy")
    await asyncio.to_thread(shutil.copyfile, file, copy)
    await asyncio.sleep(age_s)
    had = redis.streams()
    with redis.no_address():
        await redis.stop(signal.SIGTERM)
        fewer = file.stat().st_size - copy.stat().st_size
        copy.replace(file)
        await redis.start()
        kept = redis.streams()
    return _loss(f"a copy of {age_s:.1f} s before, {fewer} bytes smaller", had, kept)


async def empty(redis: RedisService | RedisCluster) -> Loss:
    """`FLUSHALL` at any moment."""
    had = redis.streams()
    done = redis.ask(b"FLUSHALL").startswith(b"+OK")
    return Loss(f"{len(had)} streams, {_in_hand(had)} receipts read and not acknowledged", done)


async def empty_with_batch_in_hand(redis: RedisService | RedisCluster, database: str | Path, wait_s: float) -> Loss:
    """`FLUSHALL` while the bookkeeper has read receipts and waits for the database, for `wait_s` and longer.

    Only writes of receipts wait. A database that is paused as a whole lets the bookkeeper's commit go first, and
    wallets are rebuilt after it; here they are rebuilt while the batch is in nobody's hands but the bookkeeper's.
    """
    async with _receipts_wait(database):
        await asyncio.sleep(wait_s)
        had = redis.streams()
        done = redis.ask(b"FLUSHALL").startswith(b"+OK")
        await asyncio.sleep(_REBUILD_S)
    in_hand = _in_hand(had)
    return Loss(f"{in_hand} receipts in hand for {wait_s:.1f} s, {len(had)} streams gone", done and in_hand > 0)


def _in_hand(streams: Mapping[str, Stream]) -> int:
    return sum(stream.unacknowledged for stream in streams.values())


@contextlib.asynccontextmanager
async def _receipts_wait(database: str | Path) -> AsyncIterator[None]:
    """Whoever writes receipts waits meanwhile, and everybody reads: PostgreSQL at a URL, or the file of SQLite."""
    if isinstance(database, Path):
        file = sqlite3.connect(database, timeout=_BLOCK_MOST_S, isolation_level=None, check_same_thread=False)
        with contextlib.closing(file):
            await asyncio.to_thread(file.execute, "BEGIN IMMEDIATE")
            yield
            file.execute("ROLLBACK")
        return
    connection = await asyncpg.connect(database, timeout=_BLOCK_MOST_S)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE receipts IN SHARE ROW EXCLUSIVE MODE", timeout=_BLOCK_MOST_S)
            yield
    finally:
        await connection.close()


async def strike_redis(name: str, redis: RedisService | RedisCluster, database: str | Path, for_s: float) -> Loss:
    """Carries out the fault of this name, once more where it lost nothing; how much it took."""
    first = await _strike_once(name, redis, database, for_s)
    if first.happened:
        return first
    second = await _strike_once(name, redis, database, for_s)
    return Loss(f"{first.note}; again: {second.note}", second.happened)


async def _strike_once(name: str, redis: RedisService | RedisCluster, database: str | Path, for_s: float) -> Loss:
    if name == "empty Redis":
        return await empty(redis)
    if name == "empty Redis while a batch is in hand":
        return await empty_with_batch_in_hand(redis, database, for_s)
    assert isinstance(redis, RedisService)
    match name:
        case "promote a lagging replica":
            return await promote_lagging_replica(redis, for_s)
        case "an everysec Redis loses its last second":
            return await lose_last_second(redis, for_s)
        case "restore an older copy":
            return await restore_older_copy(redis, for_s)
    raise ValueError(name)
