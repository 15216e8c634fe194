"""Processes die and come back; the books stay right. The gateway of these tests is not the others'."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import httpx

from tests.behaviours import Gate, answers
from tests.gateway import ROOT, Gateway, children_of
from tests.journeys.rough import OpenShop, works, works_everywhere
from tests.operator_api import charge
from tests.servers import Fleet
from tests.shop import PRICES, Shop
from tests.sse import read
from tests.waiting import until


def kill_all(gateway: Gateway, word: str) -> list[int]:
    """kill -9 on every process of the gateway whose command line has the word."""
    pids = children_of(gateway.pid, word)
    assert pids, f"no child with {word!r} in its command line"
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not set(pids) & set(children_of(gateway.pid, word)), f"{word} is gone")
    return pids


def redis_pid(gateway: Gateway, fleet: Fleet, database: str) -> int:
    if database == "sqlite":
        (pid,) = children_of(gateway.pid, "redis-server")
        return pid
    return fleet.redis_of(gateway).process.pid


def test_a_killed_worker_leaves_holds_that_expire(rough_shop: Shop) -> None:
    """Its customers lose their answers; their holds expire, and each leaves a receipt that says so."""
    shop = rough_shop
    vendor = shop.vendor(answers(after=3, then=Gate()))
    model = shop.model(vendor)
    customer = shop.customer()

    def ask() -> bytes:
        seen = b""
        try:
            with customer.stream(model) as response:
                for piece in response.iter_bytes():
                    seen += piece
        except httpx.TransportError:
            pass
        return seen

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        until(lambda: len(vendor.requests) == 3, "three requests are under way")
        assert shop.operator.held(customer.account_id) > 0
        kill_all(shop.gateway, "worker")
        assert all(b"[DONE]" not in asked.result() for asked in asking)

    receipts = shop.operator.wait_receipts(3, seconds=20, account_id=customer.account_id)
    assert {receipt["status"] for receipt in receipts} == {"expired"}
    assert shop.operator.held(customer.account_id) == 0
    spent = sum(Decimal(receipt["amount"]) for receipt in receipts)
    assert shop.operator.balance(customer.account_id) == customer.credit - spent
    assert all(Decimal(receipt["amount"]) == charge(PRICES, receipt["usage"]) for receipt in receipts)
    vendor.behaviour = answers()
    until(lambda: works(customer, model), "workers are back", seconds=15)
    shop.operator.assert_books_agree()


def test_a_long_stream_outlives_the_lease(rough_shop: Shop) -> None:
    """A hold is renewed while its request lives: a slow answer keeps its place, and is settled in the end."""
    shop, gate = rough_shop, Gate()
    model = shop.model(shop.vendor().then(answers(after=3, then=gate)))
    customer = shop.customer(limits={"concurrency": 1})

    with customer.stream(model) as response:
        time.sleep(5)  # the lease, twice over: there is nothing to poll for
        second = customer.chat(model)
        held = shop.operator.held(customer.account_id)
        gate.open()
        told = read(response)

    assert told.done
    assert held > 0
    assert (second.status_code, second.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert shop.assert_paid_once(customer, response.headers["x-request-id"])["status"] == "ok"
    assert works(customer, model), "its place is free again"
    shop.operator.assert_books_agree()


def test_a_killed_bookkeeper_comes_back_and_posts_what_it_missed(rough_shop: Shop) -> None:
    """Receipts wait on the stream meanwhile: none is lost, none posted twice."""
    shop = rough_shop
    model = shop.model(shop.vendor())
    customer = shop.customer()
    shop.operator.wait_receipt(customer.chat(model).headers["x-request-id"])

    made = []
    for _ in range(3):
        kill_all(shop.gateway, "bookkeeper")
        made += [customer.chat(model).headers["x-request-id"] for _ in range(5)]
        until(lambda: children_of(shop.gateway.pid, "bookkeeper"), "the bookkeeper is back", seconds=15)

    receipts = shop.operator.wait_receipts(16, seconds=20, account_id=customer.account_id)
    assert set(made) <= {receipt["request_id"] for receipt in receipts}
    spent = sum(Decimal(receipt["amount"]) for receipt in receipts)
    assert shop.operator.balance(customer.account_id) == customer.credit - spent
    assert "bookkeeper" in shop.gateway.log
    shop.operator.assert_books_agree()


def test_a_killed_redis_comes_back_with_every_balance(rough_shop: Shop, fleet: Fleet, database: str) -> None:
    """The embedded server is restarted from what it wrote down; one that comes back empty is filled anew."""
    shop = rough_shop
    model = shop.model(shop.vendor())
    customer, witness = shop.customer(), shop.customer()
    request_ids = [customer.chat(model).headers["x-request-id"] for _ in range(10)]
    if database == "postgres":  # its Redis keeps nothing: what was posted is what survives
        shop.operator.wait_receipts(10, account_id=customer.account_id)
    balance = shop.operator.balance(customer.account_id)

    if database == "sqlite":
        kill_all(shop.gateway, "redis-server")
    else:
        fleet.redis_of(shop.gateway).restart()

    until(shop.gateway.ready, "Redis is back", seconds=20)
    until(lambda: works_everywhere(witness, model), "requests are served again", seconds=15)
    receipts = shop.operator.wait_receipts(10, account_id=customer.account_id)
    assert {receipt["request_id"] for receipt in receipts} == set(request_ids)
    assert shop.operator.balance(customer.account_id) == balance
    assert works(customer, model)
    shop.operator.assert_books_agree()


def test_without_redis_nothing_is_served(rough_shop: Shop, fleet: Fleet, database: str) -> None:
    """Nothing is served on credit that can't be checked; readiness fails, and all recovers with Redis."""
    shop = rough_shop
    vendor = shop.vendor()
    model = shop.model(vendor)
    customer = shop.customer()
    until(lambda: works_everywhere(customer, model), "every worker knows the model")
    vendor.requests.clear()
    redis = redis_pid(shop.gateway, fleet, database)
    os.kill(redis, signal.SIGSTOP)
    try:
        answer = customer.chat(model)
        until(lambda: not shop.gateway.ready(), "readiness fails", seconds=10)
    finally:
        os.kill(redis, signal.SIGCONT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "service_unavailable")
    assert not vendor.requests
    until(shop.gateway.ready, "Redis is back", seconds=20)
    until(lambda: works(customer, model), "requests are served again", seconds=15)
    until(lambda: shop.operator.held(customer.account_id) == 0, "no hold is left", seconds=20)
    shop.operator.assert_books_agree()


def test_a_503_whose_admission_ran_is_not_charged(open_shop: OpenShop, fleet: Fleet, database: str) -> None:
    """Redis answers too late, and has held for each try by then: the holds are taken back at once, not when their lease
    of a minute ends, which costs the worst case here."""
    shop = open_shop(TOLLGATE_POLICY_EXPIRED="full", TOLLGATE_WORKERS="1")
    vendor = shop.vendor()
    model = shop.model(vendor)
    customer = shop.customer()
    until(lambda: works(customer, model), "the wallet is in Redis")
    vendor.requests.clear()
    redis = redis_pid(shop.gateway, fleet, database)

    os.kill(redis, signal.SIGSTOP)
    try:
        statuses = [customer.chat(model).status_code for _ in range(3)]
    finally:
        os.kill(redis, signal.SIGCONT)

    assert (statuses, vendor.requests) == ([503] * 3, [])
    until(shop.gateway.ready, "Redis is back", seconds=20)
    until(lambda: works(customer, model), "requests are served again", seconds=15)
    until(lambda: shop.operator.held(customer.account_id) == 0, "no hold is left", seconds=20)
    receipts = shop.operator.wait_receipts(2, account_id=customer.account_id)
    assert {receipt["status"] for receipt in receipts} == {"ok"}
    spent = sum(Decimal(receipt["amount"]) for receipt in receipts)
    assert shop.operator.balance(customer.account_id) == customer.credit - spent
    shop.operator.assert_books_agree()


def test_a_process_whose_supervisor_is_gone_does_not_stay(fleet: Fleet) -> None:
    """However early it went: a worker that lived on would keep the port from the next start."""
    gateway = fleet.new("sqlite")
    gateway.start()
    gateway.stop()
    gone = 2**22 + 1  # no process has such a pid
    with socket.create_server(("127.0.0.1", 0)) as door:
        for words in (["bookkeeper", str(gone)], ["worker", str(gone), str(door.fileno())]):
            orphan = subprocess.run(
                [sys.executable, "-m", "app.processes", *words],
                cwd=ROOT,
                env=gateway.process_environ | {"TOLLGATE_REDIS_URL": "redis://127.0.0.1:1/0"},
                pass_fds=(door.fileno(),),
                capture_output=True,
                timeout=60,
                check=False,
            )
            assert orphan.returncode == 0, orphan.stderr
