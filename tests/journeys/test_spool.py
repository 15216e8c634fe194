"""Redis goes away in the middle of a request: its settlement waits on the disk, and is made exactly once."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.behaviours import Gate, answers
from tests.gateway import children_of
from tests.journeys.rough import OpenShop
from tests.servers import Fleet
from tests.shop import Shop
from tests.sse import read
from tests.waiting import until


def redis_of(shop: Shop, fleet: Fleet, database: str) -> int:
    if database == "postgres":
        return fleet.redis_of(shop.gateway).process.pid
    (pid,) = children_of(shop.gateway.pid, "redis-server")
    return pid


@contextmanager
def paused(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # the test has killed it
            os.kill(pid, signal.SIGCONT)


def spooled(shop: Shop) -> list[Path]:
    return list((shop.gateway.data_dir / "spool").glob("*.settlement"))


def test_a_settlement_that_redis_cannot_take_waits_on_the_disk(
    open_shop: OpenShop, fleet: Fleet, database: str
) -> None:
    """The customer has the whole answer; the charge follows as soon as Redis is back, long before the sweeper."""
    shop, gate = open_shop(), Gate()
    model = shop.model(shop.vendor(answers(after=3, then=gate)))
    customer = shop.customer()

    with customer.stream(model) as response, paused(redis_of(shop, fleet, database)):
        gate.open()
        told = read(response)
        until(lambda: spooled(shop), "the settlement is on the disk")

    assert told.done
    until(lambda: not spooled(shop), "the spool is empty", seconds=15)
    receipt = shop.assert_paid_once(customer, response.headers["x-request-id"])
    assert (receipt["status"], receipt["usage_source"]) == ("ok", "upstream")
    shop.operator.assert_books_agree()


def test_a_plain_answer_is_given_though_redis_went_away(open_shop: OpenShop, fleet: Fleet, database: str) -> None:
    """What the vendor answered is the customer's: it is on the disk before it is given."""
    shop, gate = open_shop(), Gate()
    vendor = shop.vendor(answers(then=gate))
    model = shop.model(vendor)
    customer = shop.customer()

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(customer.chat, model)
        until(lambda: vendor.requests, "the vendor has been asked")
        with paused(redis_of(shop, fleet, database)):
            gate.open()
            answer = asking.result()

    assert answer.status_code == 200
    until(lambda: not spooled(shop), "the spool is empty", seconds=15)
    assert shop.assert_paid_once(customer, answer.headers["x-request-id"])["status"] == "ok"
    shop.operator.assert_books_agree()


def test_a_spooled_settlement_outlives_its_gateway(open_shop: OpenShop, fleet: Fleet, database: str) -> None:
    """kill -9 on all of it: the next start finds the settlement, and makes it."""
    shop, gate = open_shop(), Gate()
    model = shop.model(shop.vendor(answers(after=3, then=gate)))
    customer = shop.customer()

    with customer.stream(model) as response, paused(redis_of(shop, fleet, database)):
        gate.open()
        assert read(response).done
        until(lambda: spooled(shop), "the settlement is on the disk")
        shop.gateway.kill()
    shop.gateway.start()

    until(lambda: not spooled(shop), "the spool is empty", seconds=15)
    assert shop.assert_paid_once(customer, response.headers["x-request-id"])["status"] == "ok"
    shop.operator.assert_books_agree()
