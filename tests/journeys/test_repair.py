"""`tollgate verify --repair`: it shows what differs between Redis and the books, and puts it right after a yes."""

import json
import os
import signal
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest

from tests.gateway import ROOT, children_of
from tests.journeys.rough import OpenShop
from tests.operator_api import usd
from tests.servers import DurableRedis
from tests.shop import Customer, Shop


@pytest.fixture
def wronged(open_shop: OpenShop, redis: DurableRedis) -> tuple[Shop, Customer]:
    """A customer whose wallet in Redis has 7 nano less than the books say, where no bookkeeper looks."""
    shop = open_shop(TOLLGATE_REDIS_URL=redis.url)
    customer = shop.customer()
    answer = customer.chat(shop.model(shop.vendor()))
    shop.operator.wait_receipt(answer.headers["x-request-id"])
    (bookkeeper,) = children_of(shop.gateway.pid, "bookkeeper")
    os.kill(bookkeeper, signal.SIGSTOP)
    (name,) = [word for word in redis.ask("KEYS *").split() if word.endswith(f":wallet:{customer.account_id}")]
    assert redis.ask(f"HINCRBY {name} b -7").startswith(":")
    return shop, customer


def verify(shop: Shop, *options: str, said: str = "") -> tuple[int, Any, str]:
    """The exit code, what it printed as JSON, and what it asked."""
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "verify", "--json", *options],
        cwd=ROOT,
        env=shop.gateway.process_environ,
        input=said,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, json.loads(done.stdout), done.stderr


def test_verify_alone_changes_nothing(wronged: tuple[Shop, Customer]) -> None:
    shop, customer = wronged
    before = shop.operator.balance(customer.account_id)
    for _ in range(2):
        code, verdict, _ = verify(shop)
        assert (code, verdict["ok"], verdict["drift_nano"]) == (1, False, 7)
    assert shop.operator.balance(customer.account_id) == before


def test_a_no_changes_nothing(wronged: tuple[Shop, Customer]) -> None:
    shop, customer = wronged
    code, verdict, asked = verify(shop, "--repair", said="n\n")
    assert (code, verdict["drift_nano"]) == (1, 7)
    assert "Put these wallets right?" in asked
    (wanted,) = verdict["repairs"]
    assert (wanted["account_id"], wanted["entry_id"]) == (customer.account_id, None)


def test_a_yes_puts_it_right_with_an_entry(wronged: tuple[Shop, Customer]) -> None:
    """The journal says what was found, and why; a second run finds nothing."""
    shop, customer = wronged
    wrong = shop.operator.balance(customer.account_id)
    code, verdict, _ = verify(shop, "--repair", "--yes")
    assert (code, verdict["ok"]) == (0, True)
    (made,) = verdict["repairs"]
    assert (Decimal(made["balance_before"]), Decimal(made["balance_after"])) == (wrong, wrong + usd(7))
    assert shop.operator.balance(customer.account_id) == wrong + usd(7)
    entries = shop.operator.get(f"/accounts/{customer.account_id}/entries", kind="repair")["items"]
    assert [entry["id"] for entry in entries] == [made["entry_id"]]
    assert entries[0]["memo"].startswith("tollgate verify --repair: the wallet in Redis had")
    assert entries[0]["postings"] == []
    code, verdict, _ = verify(shop, "--repair", "--yes")
    assert (code, verdict["repairs"]) == (0, [])
