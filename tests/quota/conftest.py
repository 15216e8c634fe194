"""A customer of a shard in a real Redis that is otherwise empty: one server, or a cluster of three."""

from collections.abc import AsyncIterator

import pytest

from app.base.wire import Wire
from tests.quota.till import Till
from tests.servers import RedisCluster, RedisServer


@pytest.fixture(params=["server", "cluster"])
async def wire(request: pytest.FixtureRequest) -> AsyncIterator[Wire]:
    """Every rule holds on both."""
    if request.param == "server":
        server: RedisServer = request.getfixturevalue("redis_server")
        wire = Wire(server.url)
        await wire.open()
        await wire.call("FLUSHALL")
    else:
        cluster: RedisCluster = request.getfixturevalue("redis_cluster")
        wire = Wire(cluster.url)
        await wire.open()
        for port in cluster.ports:
            assert cluster.ask(port, "FLUSHALL") == "+OK"
    yield wire
    await wire.close()


@pytest.fixture
def till(wire: Wire) -> Till:
    return Till(wire)
