"""The servers of a test run, started when first asked for: once for each process that runs tests."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from app.base.wire import Wire
from tests.gateway import Gateway
from tests.servers import DATABASES, Fleet, RedisCluster, RedisServer
from tests.upstreams import Street


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """Not one of pytest's own: another run beside this one may clear those away under running servers."""
    with TemporaryDirectory(prefix="tollgate-", ignore_cleanup_errors=True) as path:
        yield Path(path)


@pytest.fixture(scope="session", autouse=True)
def no_certificates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing here speaks TLS, and loading certificates for every client takes longer than its requests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SSL_CERT_FILE", raising=False)
        patch.setenv("SSL_CERT_DIR", str(tmp_path_factory.mktemp("no-certificates")))
        yield


@pytest.fixture(scope="session")
def street() -> Iterator[Street]:
    street = Street()
    yield street
    street.close()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis for tests that need no gateway around it."""
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_cluster(home: Path) -> Iterator[RedisCluster]:
    cluster = RedisCluster(home / "cluster")
    yield cluster
    cluster.stop()


@pytest.fixture
async def wire(redis_server: RedisServer) -> AsyncIterator[Wire]:
    """The hot path's connection, to a Redis that is empty."""
    wire = Wire(redis_server.url)
    await wire.open()
    await wire.call("FLUSHALL")
    yield wire
    await wire.close()


@pytest.fixture(scope="session")
def fleet(home: Path) -> Iterator[Fleet]:
    fleet = Fleet(home)
    yield fleet
    fleet.close()


@pytest.fixture(scope="session", params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    """Every journey is made on both."""
    return str(request.param)


@pytest.fixture
def gateway(fleet: Fleet, database: str) -> Gateway:
    return fleet.shared(database)


@pytest.fixture
def rough_gateway(fleet: Fleet, database: str) -> Gateway:
    """For tests that kill parts of it, and see to it that they come back. Holds expire soon here."""
    return fleet.shared(database, "rough", TOLLGATE_LEASE_SECONDS="2")
