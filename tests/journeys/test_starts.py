"""Starts and stops: what the first one prints, what the next one keeps, and how a SIGTERM ends it."""

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.answers import Answer
from tests.behaviours import Gate, answers
from tests.curl import curl
from tests.gateway import Gateway
from tests.journeys.rough import OpenShop, works
from tests.sse import Told, read
from tests.waiting import until


def test_sigterm_drains_and_the_next_start_goes_on(open_shop: OpenShop) -> None:
    """A stream that ends within the drain gets its [DONE]; one that hangs gets an error event; both are settled, and
    what was there before the stop is there after the start, to the nano."""
    shop = open_shop(TOLLGATE_DRAIN_SECONDS="4", TOLLGATE_WORKERS="1")
    gate, hung = Gate(), shop.vendor(answers(after=3, then="hang"))
    model, dead_end = shop.model(shop.vendor().then(answers(after=3, then=gate))), shop.model(hung)
    customer, unlucky = shop.customer(), shop.customer()

    def closed_to_others() -> bool:
        try:
            return httpx.get(f"{shop.gateway.url}/health/ready", timeout=1).status_code != 200
        except httpx.TimeoutException:
            return False  # let in, and left waiting
        except httpx.TransportError:
            return True

    def hang() -> tuple[str, Told]:
        with unlucky.stream(dead_end) as response:
            return response.headers["x-request-id"], read(response)

    with ThreadPoolExecutor(1) as pool, customer.stream(model) as response:
        hanging = pool.submit(hang)
        until(lambda: hung.requests, "the second request is under way")
        os.kill(shop.gateway.pid, signal.SIGTERM)
        until(closed_to_others, "nobody new is let in", seconds=3)
        gate.open()
        told = read(response)
        shop.gateway.ended()
        unlucky_id, cut = hanging.result()

    assert (told.done, told.text) == (True, Answer().text)
    assert (cut.done, len(cut.errors)) == (False, 1)
    shop.gateway.start()
    assert shop.assert_paid_once(customer, response.headers["x-request-id"])["status"] == "ok"
    assert shop.assert_paid_once(unlucky, unlucky_id)["status"] in ("failed", "cancelled")
    assert works(customer, model), "channels, models and keys are still there"
    shop.operator.assert_books_agree()
    shop.gateway.stop()


def test_a_first_start_shows_the_way_and_a_second_keeps_the_secret(open_shop: OpenShop) -> None:
    """First an admin key, a customer's key, a curl that works, the console; then the same data, no secret."""
    shop = open_shop(TOLLGATE_ADMIN_KEY="", TOLLGATE_WORKERS="1")
    gateway = shop.gateway
    first = gateway.log
    (demo_key,) = set(re.findall(r"sk-[A-Za-z0-9_-]{40,}", first))
    command = re.search(r"curl (?:[^\n]*\\\n)*[^\n]*", first)
    assert command, first
    assert "/console" in first

    answer = curl(command[0])
    assert answer.status == 200, answer.body
    headers = {"Authorization": f"Bearer {demo_key}"}
    models = httpx.get(f"{gateway.url}/v1/models", headers=headers).json()["data"]
    assert "sandbox" in [model["id"] for model in models]
    words = {word.strip(".,:;'\"") for word in first.split()}
    admin_keys = [word for word in words if len(word) >= 20 and opens_the_operator_api(gateway, word)]
    assert len(admin_keys) == 1

    gateway.stop()
    gateway.start()

    assert demo_key not in gateway.log
    assert admin_keys[0] not in gateway.log
    assert not re.findall(r"sk-[A-Za-z0-9_-]{40,}", gateway.log)
    assert curl(command[0]).status == 200
    assert opens_the_operator_api(gateway, admin_keys[0])
    gateway.stop()


def opens_the_operator_api(gateway: Gateway, key: str) -> bool:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.get(f"{gateway.url}/admin/v1/ledger/verify", headers=headers).status_code == 200
