"""Three machines of one deployment: a `serve` each, on one database and one Redis."""

from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.gateway import Gateway
from tests.operator_api import Operator
from tests.servers import Fleet
from tests.shop import MESSAGES, Shop
from tests.upstreams import Street
from tests.waiting import until

ROUNDS = 4


@pytest.fixture
def houses(fleet: Fleet) -> Iterator[list[Gateway]]:
    same = {"TOLLGATE_SECRET_KEY": "the same secret key on every machine", "TOLLGATE_WORKERS": "1"}
    first = fleet.new("postgres", **same)
    same |= {name: first.environ[name] for name in ("TOLLGATE_DATABASE_URL", "TOLLGATE_REDIS_URL")}
    found = [first, *(fleet.new("postgres", **same) for _ in range(2))]
    with ExitStack() as stack:
        for house in found:
            house.start()
            stack.callback(house.stop)
        yield found


def statuses(houses: list[Gateway], key: str) -> list[int]:
    """Of some requests, dealt out to the houses in turn."""
    body = {"model": "sandbox", "messages": MESSAGES}
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(headers=headers, timeout=20) as http:
        return [
            http.post(f"{house.url}/v1/chat/completions", json=body).status_code
            for _ in range(ROUNDS)
            for house in houses
        ]


def test_three_houses_count_as_one(houses: list[Gateway], street: Street) -> None:
    """A limit, a budget and a wallet are the same wherever a request comes in; what an operator changes at one holds
    at all; and three bookkeepers keep one set of books."""
    shop = Shop(houses[0], street)
    asked = ROUNDS * len(houses)

    limited = shop.customer(limits={"rpm": 5})
    assert sorted(statuses(houses, limited.key)) == [200] * 5 + [429] * (asked - 5)
    budgeted = shop.customer(budgets=[{"unit": "requests", "amount": 7, "window": "day"}])
    assert sorted(statuses(houses, budgeted.key)) == [200] * 7 + [429] * (asked - 7)
    free = shop.customer()
    assert statuses(houses, free.key) == [200] * asked

    elsewhere = Operator(houses[2].url)
    elsewhere.patch(f"/keys/{free.key_id}", {"enabled": False})
    until(lambda: statuses(houses, free.key) == [401] * asked, "no house lets the key in")
    elsewhere.close()
    assert len(shop.operator.wait_receipts(5 + 7 + asked)) == 5 + 7 + asked
    shop.operator.assert_books_agree()
    shop.close()
