"""Starts and stops: what the first one prints, what the next one keeps, and how a SIGTERM ends it."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.answers import Answer
from tests.behaviours import Gate, answers
from tests.curl import curl
from tests.gateway import ADMIN_KEY, ROOT, Gateway
from tests.journeys.rough import OpenShop, works
from tests.servers import Fleet, RedisServer
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


def test_a_first_start_shows_the_way_and_a_second_keeps_the_secret(fleet: Fleet) -> None:
    """First an admin key, a customer's key, a curl that works, the console; then the same data, no secret. All of this
    only where the gateway brings its own database and Redis: elsewhere no key is printed."""
    gateway = fleet.new("sqlite", TOLLGATE_ADMIN_KEY="", TOLLGATE_WORKERS="1")
    gateway.start()
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


def is_without_demo(gateway: Gateway, admin_key: str) -> bool:
    headers = {"Authorization": f"Bearer {admin_key}"}
    return httpx.get(f"{gateway.url}/admin/v1/accounts", headers=headers).json()["items"] == []


def test_in_production_nobody_gets_a_key_that_nobody_asked_for(fleet: Fleet) -> None:
    """With a database and a Redis of the operator's own there is no demo customer, and an admin key that was made is in
    a file of its owner's: what is printed there ends up in a log."""
    gateway = fleet.new("postgres", TOLLGATE_ADMIN_KEY="", TOLLGATE_WORKERS="1")
    gateway.start()
    file = gateway.data_dir / "admin.key"
    admin_key = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert opens_the_operator_api(gateway, admin_key)
    assert is_without_demo(gateway, admin_key)
    assert str(file) in gateway.log
    assert admin_key not in gateway.log
    assert "sk-" not in gateway.log
    gateway.stop()


@pytest.mark.parametrize("own", ["TOLLGATE_DATABASE_URL", "TOLLGATE_REDIS_URL"])
def test_either_is_production(fleet: Fleet, own: str, tmp_path: Path, redis_server: RedisServer) -> None:
    """A file of SQLite elsewhere, or a Redis elsewhere: somebody has set this gateway up."""
    url = f"sqlite:///{tmp_path}/own.db" if own == "TOLLGATE_DATABASE_URL" else redis_server.url
    gateway = fleet.new("sqlite", TOLLGATE_WORKERS="1", **{own: url})
    gateway.start()
    assert is_without_demo(gateway, ADMIN_KEY)
    assert "sk-" not in gateway.log
    assert ADMIN_KEY not in gateway.log
    gateway.stop()


def test_migrate_of_production_prints_no_key(fleet: Fleet) -> None:
    """A container that only migrates has a log as well; its JSON names the file."""
    gateway = fleet.new("postgres", TOLLGATE_ADMIN_KEY="")
    command = [sys.executable, "-m", "app.cli", "migrate", "--json"]
    run = subprocess.run(
        command, cwd=ROOT, env=gateway.process_environ, capture_output=True, text=True, timeout=60, check=True
    )
    said = json.loads(run.stdout)
    assert (said["first_start"], said["admin_key"], said["demo_key"]) == (True, None, None)
    assert Path(said["admin_key_file"]).read_text() not in run.stdout + run.stderr


def opens_the_operator_api(gateway: Gateway, key: str) -> bool:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.get(f"{gateway.url}/admin/v1/ledger/verify", headers=headers).status_code == 200
