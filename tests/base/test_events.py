"""Announcements reach every follower, on one server and on a cluster, whichever node the URL names first."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.base.events import announce, follow
from app.base.redis import connect
from app.base.tasks import end_all
from benchmarks.ports import free_port
from tests.servers import RedisCluster, RedisServer


@asynccontextmanager
async def follower(url: str, heard: list[str]) -> AsyncIterator[None]:
    """One that has begun to listen."""
    client = connect(url)
    listening = asyncio.Event()

    async def hear(event: str) -> None:
        heard.append(event)

    async def missed() -> None:
        listening.set()

    task = asyncio.create_task(follow(client, hear, missed))
    await asyncio.wait_for(listening.wait(), 10)
    yield
    await end_all(task)
    await client.aclose()


async def told(follower_urls: list[str], url: str) -> list[list[str]]:
    heard: list[list[str]] = [[] for _ in follower_urls]
    client = connect(url)
    async with follower(follower_urls[0], heard[0]), follower(follower_urls[1], heard[1]):
        assert await announce(client, "catalog")
        assert await announce(client, "key:key_1")
    await client.aclose()
    return heard


async def test_every_follower_has_heard_when_the_announcement_returns(redis_server: RedisServer) -> None:
    heard = await told([redis_server.url] * 2, redis_server.url)
    assert heard == [["catalog", "key:key_1"]] * 2


async def test_so_it_is_on_a_cluster_from_any_of_its_nodes(redis_cluster: RedisCluster) -> None:
    """The followers know one node each, the speaker a third, beside one that is nobody."""
    one, two, three = (f"redis://127.0.0.1:{port}" for port in redis_cluster.ports)
    heard = await told([one, two], f"redis://127.0.0.1:{free_port()},{three.removeprefix('redis://')}")
    assert heard == [["catalog", "key:key_1"]] * 2


async def test_without_a_server_nobody_has_heard() -> None:
    client = connect(f"redis://127.0.0.1:{free_port()}")
    assert not await announce(client, "catalog")
    await client.aclose()
