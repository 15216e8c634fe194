"""The wire on a real Redis Cluster of three nodes: each call finds its key, wherever that is or goes."""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest
from redis.crc import key_slot

from app.base.cluster import read_redirection, read_topology, seeds_of, slot_of
from app.base.errors import ServiceUnavailable
from app.base.wire import Script, StoreError, Wire
from tests.base.test_wire import connected
from tests.servers import RedisCluster
from tests.waiting import until

COUNT = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")


@pytest.fixture
async def spread(redis_cluster: RedisCluster) -> AsyncIterator[Wire]:
    for port in redis_cluster.ports:
        assert redis_cluster.ask(port, "FLUSHALL") == "+OK"
    async with connected(redis_cluster.url) as wire:
        yield wire


def keys(count: int) -> list[bytes]:
    return [b"{s%d}:counter" % number for number in range(count)]


async def test_calls_go_to_the_node_that_has_their_key(redis_cluster: RedisCluster, spread: Wire) -> None:
    """Scripts and commands alike, many at once; every node has its share afterwards."""
    assert await asyncio.gather(*(spread.run(COUNT, (key,), 2) for key in keys(64))) == [2] * 64
    assert await asyncio.gather(*(spread.call(b"INCR", key) for key in keys(64))) == [3] * 64
    sizes = [int(redis_cluster.ask(port, "DBSIZE")[1:]) for port in redis_cluster.ports]
    assert sum(sizes) == 64
    assert all(size > 0 for size in sizes)


async def test_one_node_is_enough_to_find_the_others(redis_cluster: RedisCluster) -> None:
    """Whichever the URL names, and though another that it names is nobody."""
    for port in redis_cluster.ports:
        async with connected(f"redis://127.0.0.1:1,127.0.0.1:{port}") as wire:
            assert await asyncio.gather(*(wire.call(b"STRLEN", key + b":none") for key in keys(30))) == [0] * 30
            await wire.ping()


async def test_a_key_that_moves_is_followed(redis_cluster: RedisCluster, spread: Wire) -> None:
    """While its slot is handed over (ASK), and after (MOVED): no call is lost or runs twice."""
    key = b"{m1}:counter"  # of a slot that no other test has keys in
    slot = str(slot_of(key))
    source = next(
        port for port in redis_cluster.ports if not redis_cluster.ask(port, f"GET {key.decode()}").startswith("-MOVED")
    )
    target = next(port for port in redis_cluster.ports if port != source)
    ids = {port: _id(redis_cluster, port) for port in redis_cluster.ports}
    assert await spread.run(COUNT, (key,), 1) == 1
    assert redis_cluster.ask(target, "CLUSTER SETSLOT", slot, "IMPORTING", ids[source]).startswith("+")
    assert redis_cluster.ask(source, "CLUSTER SETSLOT", slot, "MIGRATING", ids[target]).startswith("+")
    assert redis_cluster.ask(source, f"MIGRATE 127.0.0.1 {target} {key.decode()} 0 5000").startswith("+")
    assert await spread.run(COUNT, (key,), 1) == 2, "asked for at the importing node"
    assert redis_cluster.ask(target, "CLUSTER SETSLOT", slot, "NODE", ids[target]).startswith("+")
    redis_cluster.ask(target, "CLUSTER BUMPEPOCH")  # or the nodes' gossip could give it back
    assert redis_cluster.ask(source, "CLUSTER SETSLOT", slot, "NODE", ids[target]).startswith("+")
    assert await asyncio.gather(*(spread.run(COUNT, (key,), 1) for _ in range(5))) == [3, 4, 5, 6, 7]
    assert await spread.call(b"GET", key) == b"7"


async def test_a_node_that_is_away_takes_only_its_own_keys_along(redis_cluster: RedisCluster) -> None:
    """Its callers are refused within their deadline, and served when it is back."""
    async with connected(redis_cluster.url, deadline_s=0.5) as wire:
        await wire.ping()
        lost = redis_cluster.ports[2]
        theirs = [key for key in keys(64) if slot_of(key) >= 10923]
        redis_cluster.processes[lost].send_signal(signal.SIGSTOP)
        try:
            answers = await asyncio.gather(*(wire.call(b"INCR", key) for key in theirs), return_exceptions=True)
        finally:
            redis_cluster.processes[lost].send_signal(signal.SIGCONT)
        assert [answer for answer in answers if not isinstance(answer, ServiceUnavailable)] == []
        until(redis_cluster.is_whole, "the cluster is whole again", seconds=20)
        for _ in range(100):
            try:
                await asyncio.gather(*(wire.call(b"INCR", key) for key in keys(64)))
                break
            except ServiceUnavailable:
                await asyncio.sleep(0.05)
        else:
            pytest.fail("the wire did not come back")


async def test_errors_about_something_else_are_the_callers(spread: Wire) -> None:
    await spread.call(b"SET", b"{s3}:text", b"abc")
    with pytest.raises(StoreError, match="not an integer"):
        await spread.call(b"INCR", b"{s3}:text")


async def test_keys_of_one_slot_may_stand_together(spread: Wire) -> None:
    await spread.ping()
    assert spread.together([b"{a}1", b"{b}1", b"{a}2"]) == [(b"{a}1", b"{a}2"), (b"{b}1",)]


async def test_keys_of_one_server_all_stand_together(wire: Wire) -> None:
    await wire.ping()
    assert wire.together([b"{a}1", b"{b}1", b"{a}2"]) == [(b"{a}1", b"{b}1", b"{a}2")]


@pytest.mark.parametrize("key", [b"{s17}:wallet:acc_1", b"plain", b"{}empty", b"{open", b"a{tag}b", b""])
def test_slots_are_redis_own(key: bytes) -> None:
    assert slot_of(key) == key_slot(key)


@pytest.mark.parametrize(
    ("url", "seeds"),
    [
        ("redis://one:7000/0", ["redis://one:7000/0"]),
        ("redis://:p@one:7000,two:7001/0", ["redis://:p@one:7000/0", "redis://:p@two:7001/0"]),
        ("unix:///tmp/redis.sock", ["unix:///tmp/redis.sock"]),
        ("unix:///tmp/a,b/redis.sock", ["unix:///tmp/a,b/redis.sock"]),
    ],
)
def test_a_url_may_name_several_nodes(url: str, seeds: list[str]) -> None:
    assert seeds_of(url) == seeds


@pytest.mark.parametrize(
    ("error", "read"),
    [
        ("MOVED 3999 127.0.0.1:6381", ("MOVED", ("127.0.0.1", 6381))),
        ("ASK 3999 ::1:6381", ("ASK", ("::1", 6381))),
        ("MOVED 3999 :6381", ("MOVED", ("here", 6381))),
        ("ERR wrong MOVED", ("ERR", None)),
        ("CLUSTERDOWN The cluster is down", ("CLUSTERDOWN", None)),
        ("", ("", None)),
    ],
)
def test_redirections_are_read(error: str, read: tuple[str, tuple[str, int] | None]) -> None:
    assert read_redirection(error, ("here", 1)) == read


def test_a_node_without_a_name_is_the_one_that_was_asked() -> None:
    reply = [[0, 100, [b"", 7000, b"id"]], [101, 16383, [b"10.0.0.2", 7001, b"id"], [b"10.0.0.3", 7002, b"id"]]]
    assert read_topology(reply, ("here", 1)) == [(range(101), ("here", 7000)), (range(101, 16384), ("10.0.0.2", 7001))]


def _has(cluster: RedisCluster, port: int, key: bytes) -> bool:
    return not cluster.ask(port, f"GET {key.decode()}").startswith("-MOVED")


def _id(redis_cluster: RedisCluster, port: int) -> str:
    """A node's own name; the answer is a bulk string, so that its first line is a length."""
    import socket

    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(b"CLUSTER MYID\r\n")
        return sock.recv(200).decode().split("\r\n")[1]
