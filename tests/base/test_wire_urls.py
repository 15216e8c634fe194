"""What a Redis URL may say: a password, a user, a database, a unix socket; and the embedded server as it is started."""

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.base.errors import ServiceUnavailable
from app.base.redis import connect, embedded_command, embedded_url
from app.base.wire import Wire
from tests.base.test_wire import connected
from tests.servers import RedisServer


@pytest.fixture
async def locked(redis_server: RedisServer, wire: Wire) -> AsyncIterator[str]:
    """host:port of a server that wants a password; `wire` stays the key under the mat."""
    await wire.call("ACL", "SETUSER", "keeper", "on", ">p@ss", "~*", "+@all")
    await wire.call("CONFIG", "SET", "requirepass", "s3cret")
    yield redis_server.url.removeprefix("redis://").removesuffix("/0")
    await wire.call("CONFIG", "SET", "requirepass", "")
    await wire.call("ACL", "DELUSER", "keeper")


@pytest.mark.parametrize("login", [":s3cret", "keeper:p%40ss"])
async def test_a_password_in_the_url_is_used(locked: str, login: str) -> None:
    """With a user of Redis's access lists, or without; escaped as URLs are."""
    async with connected(f"redis://{login}@{locked}/0") as wire:
        assert await wire.call("PING") == b"PONG"


@pytest.mark.parametrize("login", ["", ":wrong@"])
async def test_a_wrong_password_is_no_connection(locked: str, login: str) -> None:
    """Nothing was sent: the service is unavailable until somebody sets it right."""
    async with connected(f"redis://{login}{locked}/0", deadline_s=0.2) as wire:
        with pytest.raises(ServiceUnavailable):
            await wire.call("PING")


async def test_a_refused_login_leaves_no_connection_behind(locked: str, wire: Wire) -> None:
    """The wire knocks again and again: each try that failed is closed, or the server would run out of places."""
    async with connected(f"redis://:wrong@{locked}/0", deadline_s=0.3) as other:
        with pytest.raises(ServiceUnavailable):
            await other.call("PING")
    for _ in range(100):
        clients = (await wire.call("CLIENT", "LIST")).splitlines()
        if len(clients) == 1:
            break
        await asyncio.sleep(0.01)
    assert len(clients) == 1


async def test_a_database_in_the_url_is_selected(redis_server: RedisServer, wire: Wire) -> None:
    async with connected(redis_server.url.removesuffix("/0") + "/3") as other:
        await other.call("SET", "here", 1)
        assert await wire.call("EXISTS", "here") == 0
        await wire.call("SELECT", 3)
        assert await wire.call("EXISTS", "here") == 1


@pytest.fixture(params=["short", "long"])
def data_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A path longer than a socket's may be is no reason not to start."""
    path = tmp_path if request.param == "short" else tmp_path / ("deep" * 30)
    path.mkdir(exist_ok=True)
    return path


@pytest.fixture
def embedded(data_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(embedded_command(data_dir), stdout=subprocess.DEVNULL)
    yield process
    process.terminate()
    process.wait(timeout=10)


async def test_the_embedded_server_keeps_what_it_acknowledged(
    embedded: subprocess.Popen[bytes], data_dir: Path
) -> None:
    """It listens on a unix socket alone, and what it has answered is on its disk: kill -9 takes nothing away."""
    async with connected(embedded_url(data_dir), deadline_s=20) as wire:
        await wire.call("SET", "kept", "yes")
        assert await wire.call("CONFIG", "GET", "port") == [b"port", b"0"]
        embedded.send_signal(signal.SIGKILL)
        embedded.wait(timeout=10)
        again = subprocess.Popen(embedded_command(data_dir), stdout=subprocess.DEVNULL)
        try:
            async with connected(embedded_url(data_dir), deadline_s=20) as fresh:
                assert await fresh.call("GET", "kept") == b"yes"
            async with connect(embedded_url(data_dir)) as client:
                assert await client.get("kept") == b"yes"
        finally:
            again.terminate()
            again.wait(timeout=10)
