"""Each journey gets a shop of its own on a shared gateway, and leaves the books in order."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.gateway import Gateway
from tests.journeys.desk import Desk
from tests.journeys.rough import OpenShop
from tests.operator_api import Operator
from tests.servers import DurableRedis, Fleet
from tests.shop import Shop
from tests.upstreams import Street


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed journey shows the end of its gateway's log."""
    report = yield
    funcargs = getattr(item, "funcargs", {})
    shop = funcargs.get("shop") or funcargs.get("rough_shop")
    if report.failed and shop:
        report.sections.append(("the gateway's log", shop.gateway.log[-1500:]))
    return report


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[DurableRedis]:
    """A Redis of one test's own, that keeps what it is told and can lose it."""
    server = DurableRedis(tmp_path / "redis")
    yield server
    server.kill()


@pytest.fixture
def shop(gateway: Gateway, street: Street) -> Iterator[Shop]:
    shop = Shop(gateway, street)
    yield shop
    shop.close()


@pytest.fixture
def rough_shop(rough_gateway: Gateway, street: Street) -> Iterator[Shop]:
    shop = Shop(rough_gateway, street)
    yield shop
    shop.close()


@pytest.fixture(scope="module", autouse=True)
def books(fleet: Fleet, database: str) -> Iterator[None]:
    """Whatever the tests of a module did, the books of the gateway they share are in order after it."""
    yield
    operator = Operator(fleet.shared(database).url)
    operator.assert_books_agree()
    operator.close()


@pytest.fixture
def desk(shop: Shop) -> Desk:
    return Desk(shop)


@pytest.fixture
def open_shop(fleet: Fleet, database: str, street: Street) -> Iterator[OpenShop]:
    """Starts private gateways; what is still running when the test ends is killed."""
    with ExitStack() as stack:

        def open_one(**environ: str) -> Shop:
            gateway = fleet.new(database, **environ)
            stack.callback(gateway.kill)
            gateway.start()
            shop = Shop(gateway, street)
            stack.callback(shop.close)
            return shop

        yield open_one
