"""The pipelined connection: replies find their callers, what goes wrong is one of three errors, and it comes back."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from app.base.errors import OutcomeUnknown, ServiceUnavailable
from app.base.wire import Script, StoreError, Wire
from benchmarks.ports import free_port
from tests.servers import RedisServer


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """For tests that are rough with it."""
    server = RedisServer()
    yield server
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGCONT)
        server.stop()


@asynccontextmanager
async def connected(url: str, deadline_s: float = 2.0) -> AsyncIterator[Wire]:
    wire = Wire(url, deadline_s)
    await wire.open()
    try:
        yield wire
    finally:
        await wire.close()


async def test_replies_find_their_callers(wire: Wire) -> None:
    """Thousands of calls share one connection, and each gets its own answer."""
    answers = await asyncio.gather(*(wire.call("ECHO", f"{i} " + "x" * (i % 50)) for i in range(3000)))
    assert answers == [f"{i} ".encode() + b"x" * (i % 50) for i in range(3000)]


async def test_every_kind_of_reply_arrives(wire: Wire) -> None:
    """Numbers, bytes with anything in them, nothing, lists of all of these, and large ones."""
    raw = bytes(range(256)) + b"\r\n"
    large = os.urandom(3_000_000)
    await wire.call("SET", "raw", raw)
    await wire.call(b"SET", b"large", large)
    assert await wire.call("GET", "raw") == raw
    assert await wire.call("GET", "large") == large
    assert await wire.call("GET", "missing") is None
    assert await wire.call("INCRBY", "number", 2**53) == 2**53
    assert await wire.call("EVAL", "return {1, 'a', {}, {2, false}}", 0) == [1, b"a", [], [2, None]]


async def test_an_error_disturbs_no_neighbour(wire: Wire) -> None:
    """An error is the answer of one call: those sent in the same breath are served."""
    await wire.call("SET", "text", "abc")
    calls = [wire.call("INCR", "text") if i % 3 == 0 else wire.call("ECHO", str(i)) for i in range(30)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for i, answer in enumerate(answers):
        assert isinstance(answer, StoreError) if i % 3 == 0 else answer == str(i).encode()


async def test_a_caller_that_leaves_takes_no_reply_along(wire: Wire) -> None:
    """A cancelled call's answer is dropped; the ones behind it are not shifted."""
    first = asyncio.create_task(wire.call("ECHO", "first"))
    await asyncio.sleep(0)
    second = asyncio.create_task(wire.call("ECHO", "second"))
    first.cancel()
    assert await second == b"second"


async def test_a_script_that_redis_has_forgotten_is_sent_again(wire: Wire) -> None:
    """Scripts are called by their hash: after SCRIPT FLUSH, or a restart, the first call sends the source."""
    script = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert [await wire.run(script, (b"counter",), 2) for _ in range(2)] == [2, 4]
    await wire.call("SCRIPT", "FLUSH")
    assert await asyncio.gather(*(wire.run(script, (b"counter",), 1) for _ in range(5))) == [5, 6, 7, 8, 9]
    assert await wire.call("SCRIPT", "EXISTS", script.sha) == [1]


async def test_a_fault_in_a_script_is_a_store_error(wire: Wire) -> None:
    with pytest.raises(StoreError, match="wrong"):
        await wire.run(Script("return redis.error_reply('wrong')"), ())


async def test_a_killed_server_leaves_the_outcome_unknown(own_redis: RedisServer) -> None:
    """A call that was under way may have run, or not; the next ones work as soon as there is a server again."""
    async with connected(own_redis.url) as wire:
        await wire.call("PING")
        own_redis.process.send_signal(signal.SIGSTOP)
        calls = [asyncio.create_task(wire.call("INCR", "counter")) for _ in range(10)]
        await asyncio.sleep(0.01)
        own_redis.process.kill()
        own_redis.process.wait(timeout=10)
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(answer) for answer in answers] == [OutcomeUnknown] * 10
        own_redis.start()
        assert await wire.call("INCR", "counter") == 1


async def test_a_server_that_does_not_answer_leaves_the_outcome_unknown(own_redis: RedisServer) -> None:
    """The deadline ends the call, not the patience of the caller; afterwards the wire connects anew."""
    async with connected(own_redis.url, deadline_s=0.2) as wire:
        await wire.call("PING")
        own_redis.process.send_signal(signal.SIGSTOP)
        with pytest.raises(OutcomeUnknown):
            await wire.call("INCR", "counter")
        own_redis.process.send_signal(signal.SIGCONT)
        assert await _at_last(wire) == b"PONG"
        assert await wire.call("GET", "counter") == b"1", "it had run after all"


async def test_without_a_server_nothing_has_run() -> None:
    """A call that never left is no unknown outcome: it may be repeated."""
    async with connected(f"redis://127.0.0.1:{free_port()}/0", deadline_s=0.1) as wire:
        with pytest.raises(ServiceUnavailable) as refusal:
            await wire.call("PING")
        assert not isinstance(refusal.value, OutcomeUnknown)


async def test_calls_wait_for_a_server_that_comes_late(own_redis: RedisServer) -> None:
    """Within their deadline, calls made before the connection is there are served when it is."""
    own_redis.process.kill()
    own_redis.process.wait(timeout=10)
    async with connected(own_redis.url, deadline_s=20) as wire:
        calls = [asyncio.create_task(wire.call("INCR", "counter")) for _ in range(3)]
        await asyncio.sleep(0.02)
        own_redis.start()
        assert await asyncio.gather(*calls) == [1, 2, 3]


async def _at_last(wire: Wire) -> object:
    while True:
        try:
            return await wire.call("PING")
        except ServiceUnavailable:
            await asyncio.sleep(0.01)
