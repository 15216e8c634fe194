"""A gateway whose Redis comes back without its last writes: customers pay for what they had, once, and for nothing
else."""

import os
import signal
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from tests.answers import Answer
from tests.behaviours import Gate, answers
from tests.gateway import children_of
from tests.journeys.rough import OpenShop, works
from tests.operator_api import usd
from tests.servers import DurableRedis
from tests.shop import Customer, Shop
from tests.sse import read
from tests.waiting import until

PRICES = {"input": "1.00", "output": "10.00"}
SAID = Answer(pieces=("yes",), prompt_tokens=10, completion_tokens=100)
CHARGE = usd(10 * 1_000 + 100 * 10_000)

Lose = Callable[[], None]


@pytest.fixture
def own_shop(open_shop: OpenShop, redis: DurableRedis) -> Shop:
    return open_shop(TOLLGATE_REDIS_URL=redis.url)


@pytest.fixture(params=["an older copy", "a lagging replica"])
def remember(request: pytest.FixtureRequest, redis: DurableRedis) -> Callable[[], Lose]:
    """Called, it takes note of what Redis has; what it returns takes away all that was written since."""
    if request.param == "a lagging replica":
        return redis.follow

    def take() -> Lose:
        copy = redis.copy()
        return lambda: redis.restore(copy)

    return take


def open_for(shop: Shop, *, gate: Gate | None = None, after: int = 1) -> tuple[str, Customer]:
    vendor = shop.vendor(answers(SAID) if gate is None else answers(SAID, after=after, then=gate))
    return shop.model(vendor, prices=PRICES, max_output_tokens=1_000), shop.customer()


def assert_charged(shop: Shop, customer: Customer, requests: int) -> None:
    """Receipts, journal and wallet agree; another request finds everything well."""
    receipts = shop.operator.wait_receipts(requests, account_id=customer.account_id, seconds=20)
    assert [Decimal(each["amount"]) for each in receipts] == [CHARGE] * requests
    expected = customer.credit - requests * CHARGE

    def is_right() -> bool:
        account = shop.operator.account(customer.account_id)
        return (Decimal(account["balance"]), Decimal(account["held"])) == (expected, 0)

    until(is_right, f"the wallet has {expected} USD", 20)
    shop.operator.assert_books_agree()


def test_what_was_posted_stays_charged(own_shop: Shop, remember: Callable[[], Lose]) -> None:
    """The money of a request that the journal has does not come back with the older copy."""
    model, customer = open_for(own_shop)
    lose = remember()
    assert customer.chat(model).status_code == 200
    own_shop.operator.wait_receipts(1, account_id=customer.account_id)
    lose()
    until(lambda: works(customer, model), "requests are served again", 20)
    assert_charged(own_shop, customer, 2)


def test_what_was_settled_and_not_posted_is_settled_again(own_shop: Shop, remember: Callable[[], Lose]) -> None:
    """The bookkeeper had not seen it, and Redis has lost it: its worker has it still."""
    model, customer = open_for(own_shop)
    lose = remember()
    (bookkeeper,) = children_of(own_shop.gateway.pid, "bookkeeper")
    os.kill(bookkeeper, signal.SIGSTOP)
    try:
        assert customer.chat(model).status_code == 200
        lose()
        until(lambda: works(customer, model), "requests are served again", 20)
    finally:
        os.kill(bookkeeper, signal.SIGCONT)
    assert_charged(own_shop, customer, 2)


def test_a_stream_that_runs_meanwhile_is_charged(own_shop: Shop, remember: Callable[[], Lose]) -> None:
    """Its hold is lost and put back; it ends as if nothing had been."""
    gate = Gate()
    model, customer = open_for(own_shop, gate=gate)
    lose = remember()
    ended: list[bool] = []

    def ask() -> None:
        with customer.stream(model) as response:
            ended.append(read(response).done)

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: own_shop.operator.held(customer.account_id) > 0, "the stream is under way")
    lose()
    until(lambda: own_shop.operator.held(customer.account_id) > 0, "its money is held again", 20)
    gate.open()
    asking.join(20)
    assert ended == [True]
    assert_charged(own_shop, customer, 1)


def test_a_payment_is_not_lost(own_shop: Shop, remember: Callable[[], Lose]) -> None:
    """A credit that Redis had applied and lost is in the journal, and reaches the wallet again."""
    model, customer = open_for(own_shop)
    lose = remember()
    own_shop.operator.credit(customer.account_id, "5.00", "a-payment")
    lose()
    until(lambda: works(customer, model), "requests are served again", 20)
    customer.credit += Decimal("5.00")
    assert_charged(own_shop, customer, 1)


def test_an_emptied_redis_loses_no_charge(own_shop: Shop, redis: DurableRedis) -> None:
    """FLUSHALL under a stopped bookkeeper: nothing was posted, and all of it is made good."""
    model, customer = open_for(own_shop)
    (bookkeeper,) = children_of(own_shop.gateway.pid, "bookkeeper")
    os.kill(bookkeeper, signal.SIGSTOP)
    try:
        for _ in range(5):
            assert customer.chat(model).status_code == 200
        assert redis.ask("FLUSHALL").startswith("+OK")
    finally:
        os.kill(bookkeeper, signal.SIGCONT)
    assert_charged(own_shop, customer, 5)


def test_a_restart_that_loses_nothing_changes_nothing(own_shop: Shop, redis: DurableRedis) -> None:
    model, customer = open_for(own_shop)
    assert customer.chat(model).status_code == 200
    redis.restart()
    until(lambda: works(customer, model), "requests are served again", 20)
    assert_charged(own_shop, customer, 2)


def test_nobody_says_what_is_held_while_redis_is_away(own_shop: Shop, redis: DurableRedis) -> None:
    """Unknown is not zero: the balance is the journal's, and the holds are none that anybody knows."""
    _, customer = open_for(own_shop)
    redis.kill()
    account = own_shop.operator.account(customer.account_id)
    assert (Decimal(account["balance"]), account["held"]) == (customer.credit, None)


def test_what_does_not_fit_about_redis_is_said(open_shop: OpenShop, tmp_path: Path) -> None:
    """At the start, and by /health/ready, which still is ready."""
    redis = DurableRedis(tmp_path / "everysec", fsync="everysec")
    try:
        shop = open_shop(TOLLGATE_REDIS_URL=redis.url)
        ready = httpx.get(f"{shop.gateway.url}/health/ready")
        assert ready.status_code == 200
        (warning,) = ready.json()["warnings"]
        assert warning.startswith("appendfsync is everysec")
        assert warning in shop.gateway.log
        until(lambda: shop.operator.get("/alerts", kind="redis.unfit")["items"], "the operator is told")
    finally:
        redis.kill()


def test_without_the_replicas_that_were_asked_for_nobody_is_served(open_shop: OpenShop, redis: DurableRedis) -> None:
    """A hold that a failover could lose is not given; nothing is left of it."""
    shop = open_shop(TOLLGATE_REDIS_URL=redis.url, TOLLGATE_REDIS_WAIT_REPLICAS="1")
    model, customer = open_for(shop)
    answer = customer.chat(model)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "service_unavailable"
    until(lambda: shop.operator.held(customer.account_id) == 0, "the hold is taken back")
    shop.assert_nothing_charged(customer)
