"""Redis takes an admission and its answer is lost: the customer is told that nothing was charged, and nothing is."""

import os
import signal
from decimal import Decimal

import pytest

from tests.journeys.rough import OpenShop, works
from tests.servers import DurableRedis
from tests.waiting import until


@pytest.mark.parametrize("policy", ["full", "free"])
def test_a_lost_admission_is_taken_back(open_shop: OpenShop, redis: DurableRedis, policy: str) -> None:
    """Whatever an expired hold would be charged, this one does not live to expire; each retry leaves nothing."""
    shop = open_shop(TOLLGATE_REDIS_URL=redis.url, TOLLGATE_POLICY_EXPIRED=policy, TOLLGATE_LEASE_SECONDS="60")
    model, customer = shop.model(shop.vendor()), shop.customer()
    assert customer.chat(model).status_code == 200
    (paid,) = shop.operator.wait_receipts(1, account_id=customer.account_id)

    os.kill(redis.process.pid, signal.SIGSTOP)
    answers = [customer.chat(model) for _ in range(2)]
    os.kill(redis.process.pid, signal.SIGCONT)

    assert [answer.status_code for answer in answers] == [503, 503]
    assert "Nothing was charged" in answers[0].json()["error"]["message"]
    until(lambda: shop.operator.held(customer.account_id) == 0, "nothing is held any more", 10)
    assert shop.operator.balance(customer.account_id) == customer.credit - Decimal(paid["amount"])
    until(lambda: works(customer, model), "requests are served again", 10)
    assert len(shop.operator.wait_receipts(2, account_id=customer.account_id)) == 2
    shop.operator.assert_books_agree()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_lost_admission_is_taken_back_by_the_next_start(open_shop: OpenShop, redis: DurableRedis, end: str) -> None:
    """Where the gateway ends before Redis is back, too: it was said that nothing was charged."""
    shop = open_shop(TOLLGATE_REDIS_URL=redis.url, TOLLGATE_POLICY_EXPIRED="full", TOLLGATE_LEASE_SECONDS="3")
    model, customer = shop.model(shop.vendor()), shop.customer()
    assert customer.chat(model).status_code == 200
    shop.operator.wait_receipts(1, account_id=customer.account_id)

    os.kill(redis.process.pid, signal.SIGSTOP)
    assert customer.chat(model).status_code == 503
    if end == "stop":
        shop.gateway.stop()
    else:
        shop.gateway.kill()
    os.kill(redis.process.pid, signal.SIGCONT)
    shop.gateway.start()

    until(lambda: shop.operator.held(customer.account_id) == 0, "nothing is held any more", 20)
    assert len(shop.operator.wait_receipts(1, account_id=customer.account_id)) == 1
    shop.operator.assert_books_agree()
