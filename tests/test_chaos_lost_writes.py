"""The faults that take acknowledged writes from Redis really do, on real servers; and what is left serves on."""

import asyncio
import contextlib
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from benchmarks.chaos.lost_writes import (
    Loss,
    empty_with_batch_in_hand,
    lose_last_second,
    promote_lagging_replica,
    restore_older_copy,
    strike_redis,
)
from benchmarks.chaos.redis_service import RedisService

STREAM = "{s3}:receipts"


class Customer:
    """Appends to a stream at the address, one entry after the other, and counts those that Redis acknowledged."""

    def __init__(self, redis: RedisService) -> None:
        self.acknowledged = 0
        self._path = redis.url.removeprefix("unix://")

    async def run(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                await self.append()
            await asyncio.sleep(0.005)

    async def append(self) -> None:
        """One entry. Raises OSError where Redis is away."""
        reader, writer = await asyncio.open_unix_connection(self._path)
        try:
            writer.write(f"XADD {STREAM} * r 1\r\n".encode())
            self.acknowledged += (await reader.readline()).startswith(b"$")
        finally:
            writer.close()


@pytest.fixture
async def redis() -> AsyncIterator[RedisService]:
    with tempfile.TemporaryDirectory() as directory:  # a short path: a socket's has 107 characters at most
        service = RedisService(Path(directory))
        try:
            await service.start()
            yield service
        finally:
            service.end()


def entries(redis: RedisService) -> int:
    return int(redis.ask(f"XLEN {STREAM}".encode()).strip(b":\r\n"))


@pytest.mark.parametrize(
    ("fault", "seconds"), [(promote_lagging_replica, 0.3), (lose_last_second, 0.5), (restore_older_copy, 0.5)]
)
async def test_redis_lacks_what_it_acknowledged_and_serves_on(
    redis: RedisService, fault: Callable[[RedisService, float], Awaitable[Loss]], seconds: float
):
    """What is gone is the end of what was written, and only that; and a crash after it takes no more."""
    customer = Customer(redis)
    for _ in range(20):
        await customer.append()
    writing = asyncio.create_task(customer.run())
    loss = await fault(redis, seconds)
    writing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await writing
    assert loss.happened, loss.note
    assert 20 <= entries(redis) < customer.acknowledged
    await customer.append()
    left = entries(redis)
    await redis.kill()
    await redis.start()
    assert entries(redis) == left


async def test_a_fault_that_took_nothing_is_tried_once_more_and_then_reported(redis: RedisService, tmp_path: Path):
    loss = await strike_redis("promote a lagging replica", redis, tmp_path, 0.0)
    assert not loss.happened
    assert loss.note.count("the replica lacked 0 bytes") == 2


async def test_redis_is_emptied_while_receipts_are_read_and_the_database_takes_no_writes(
    redis: RedisService, tmp_path: Path
):
    database = tmp_path / "tollgate.db"
    with contextlib.closing(sqlite3.connect(database, timeout=0)) as books:
        books.execute("PRAGMA journal_mode = WAL")
        books.execute("CREATE TABLE receipts (id)")
        await Customer(redis).append()
        redis.ask(f"XGROUP CREATE {STREAM} books 0".encode())
        redis.ask(f"XREADGROUP GROUP books books STREAMS {STREAM} >".encode())
        emptying = asyncio.create_task(empty_with_batch_in_hand(redis, database, 0.1))
        while redis.streams():
            await asyncio.sleep(0.01)
        assert not books.execute("SELECT * FROM receipts").fetchall()
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            books.execute("INSERT INTO receipts VALUES (1)")
        loss = await emptying
        assert (loss.happened, loss.note) == (True, "1 receipts in hand for 0.1 s, 1 streams gone")
        books.execute("INSERT INTO receipts VALUES (1)")


async def test_an_emptied_redis_without_a_batch_in_hand_does_not_count(redis: RedisService, tmp_path: Path):
    database = tmp_path / "tollgate.db"
    await Customer(redis).append()
    assert not (await empty_with_batch_in_hand(redis, database, 0.0)).happened
