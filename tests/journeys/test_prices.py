"""Prices as operators set them: books, free models, and a history that is never edited."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import httpx
import pytest

from tests.operator_api import NANO, assert_problem, charge
from tests.shop import PRICES, Customer, Shop

Json = dict[str, Any]
OWN = {"input": "1.00", "output": "3.00"}


def _book(shop: Shop, **body: Any) -> str:
    name = f"book-{secrets.token_hex(4)}"
    answer = shop.operator.http.put(f"/books/{name}", json=body)
    assert answer.status_code == 201, answer.text
    return name


def _move(shop: Shop, customer: Customer, book: str) -> Json:
    return shop.operator.patch(f"/accounts/{customer.account_id}", {"book": book})


@contextmanager
def _everywhere(customer: Customer) -> Iterator[list[httpx.Client]]:
    """Connections of their own, which spread over the workers."""
    headers = {"Authorization": f"Bearer {customer.key}"}
    clients = [httpx.Client(base_url=customer.url, headers=headers, timeout=20) for _ in range(8)]
    yield clients
    for client in clients:
        client.close()


def test_a_books_customers_pay_its_multiple(shop: Shop) -> None:
    """The exact multiple of the model's prices, rounded once; the receipt names the version and the multiplier."""
    model = shop.model(shop.vendor())
    customer = shop.customer()
    _move(shop, customer, _book(shop, multiplier="1.333333"))

    answer = customer.chat(model)

    receipt = shop.operator.wait_receipt(answer.headers["x-request-id"])
    whole = {name: Decimal(price) * Decimal("1.333333") for name, price in PRICES.items()}
    assert Decimal(receipt["amount"]) == charge(whole, receipt["usage"]) == Decimal(answer.headers["x-tollgate-cost"])
    assert receipt["multiplier"] == "1.333333"
    assert receipt["price_version"] == shop.operator.get(f"/models/{model}")["price_version"]


def test_a_books_own_price_is_paid_as_it_stands(shop: Shop) -> None:
    """Without the book's multiplier; other models cost their multiple."""
    vendor = shop.vendor()
    special, other = shop.model(vendor), shop.model(vendor)
    customer = shop.customer()
    book = _book(shop, multiplier="2", prices={special: OWN})
    _move(shop, customer, book)

    receipts = {
        model: shop.operator.wait_receipt(customer.chat(model).headers["x-request-id"]) for model in (special, other)
    }

    doubled = {name: Decimal(price) * 2 for name, price in PRICES.items()}
    for model, prices in ((special, OWN), (other, doubled)):
        assert Decimal(receipts[model]["amount"]) == charge(prices, receipts[model]["usage"])
    shown = shop.operator.get(f"/books/{book}")
    assert receipts[special]["price_version"] == shown["price_versions"][special]


def test_another_book_is_paid_by_at_once(shop: Shop) -> None:
    """On every worker and with every key of the account, also one that was used just before."""
    model = shop.model(shop.vendor())
    customer = shop.customer()
    books = [_book(shop, multiplier=multiplier) for multiplier in ("0", "3")]
    with _everywhere(customer) as clients:

        def paid() -> set[Decimal]:
            body = {"model": model, "messages": [{"role": "user", "content": "Say hello."}]}
            answers = [client.post("/v1/chat/completions", json=body) for client in clients]
            return {Decimal(answer.headers["x-tollgate-cost"]) for answer in answers}

        (plain,) = paid()
        for book, multiplier in zip(books, (0, 3), strict=True):
            assert _move(shop, customer, book)["book"] == book
            assert paid() == {(plain * multiplier).quantize(NANO, rounding=ROUND_HALF_UP)}


def test_a_model_priced_in_a_book_alone_is_sold_to_its_customers(shop: Shop) -> None:
    """Nobody else sees it, on any worker, from the moment the operator's write was answered."""
    model = shop.model(shop.vendor(), prices=None)
    customer = shop.customer()
    book = _book(shop, prices={model: OWN})
    with _everywhere(customer) as clients:

        def seen() -> list[int]:
            return [client.get(f"/v1/models/{model}").status_code for client in clients]

        assert seen() == [404] * 8
        _move(shop, customer, book)
        assert seen() == [200] * 8
        assert customer.chat(model).status_code == 200
        shop.operator.http.put(f"/books/{book}", json={"prices": {model: None}}).raise_for_status()
        assert seen() == [404] * 8


def test_a_model_without_a_price_is_not_sold_unless_it_is_free(shop: Shop) -> None:
    """Free is what the operator says, never what was forgotten."""
    model = shop.model(shop.vendor(), prices=None)
    customer = shop.customer()
    assert customer.chat(model).status_code == 404

    shown = shop.operator.put_model(model, free=True)

    assert (shown["free"], Decimal(shown["prices"]["input"])) == (True, 0)
    assert customer.chat(model).headers["x-tollgate-cost"] == "0.00"
    problem = assert_problem(shop.operator.http.put(f"/models/{model}", json={"free": True, "prices": OWN}), 400)
    assert problem["param"] == "free"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"multiplier": "-1"}, "multiplier"),
        ({"multiplier": "0.0000001"}, "multiplier"),
        ({"multiplier": 1.25}, "multiplier"),
        ({"discount": "0.5"}, "discount"),
        ({"prices": {"unheard-of": OWN}}, "prices.unheard-of"),
        ({"prices": {"sandbox": {"input": "1"}}}, "prices.sandbox.output"),
        ({"prices": {"sandbox": {**OWN, "tiers": [{**OWN, "above_input_tokens": 0}]}}}, "above_input_tokens"),
    ],
)
def test_a_bad_book_is_a_problem_that_names_the_field(shop: Shop, body: Json, named: str) -> None:
    """And nothing of it is kept."""
    problem = assert_problem(shop.operator.http.put("/books/wrong", json=body), 400)
    assert named in problem["param"]
    assert_problem(shop.operator.http.get("/books/wrong"), 404)


def test_the_default_book_is_the_models_own_prices(shop: Shop) -> None:
    """It is there from the start, and takes neither a multiplier nor prices."""
    http = shop.operator.http
    assert shop.operator.get("/books/default")["multiplier"] == "1"
    assert assert_problem(http.put("/books/default", json={"multiplier": "1.1"}), 400)["param"] == "multiplier"
    assert assert_problem(http.put("/books/default", json={"prices": {"sandbox": OWN}}), 400)["param"] == "prices"
    assert_problem(http.delete("/books/default"), 409)


def test_a_book_in_use_is_not_deleted(shop: Shop) -> None:
    """Nor is an account given one that is not there."""
    http, book = shop.operator.http, _book(shop, multiplier="1.25", description="resellers")
    account = shop.operator.post("/accounts", {"name": "acme", "book": book})
    assert account["book"] == shop.operator.account(account["id"])["book"] == book
    listed = {each["name"]: each for each in shop.operator.get("/books", limit=1000)["items"]}
    assert (listed[book]["multiplier"], listed[book]["description"]) == ("1.25", "resellers")

    assert_problem(http.delete(f"/books/{book}"), 409)
    for answer in (
        http.post("/accounts", json={"name": "acme", "book": "nowhere"}),
        http.patch(f"/accounts/{account['id']}", json={"book": "nowhere"}),
    ):
        assert assert_problem(answer, 400)["param"] == "book"
    assert_problem(http.patch("/accounts/nobody", json={"name": "x"}), 404)

    assert shop.operator.patch(f"/accounts/{account['id']}", {"book": "default", "name": "acme2"})["name"] == "acme2"
    assert http.delete(f"/books/{book}").status_code == 204
    assert_problem(http.delete(f"/books/{book}"), 404)


def test_the_history_of_prices_is_kept(shop: Shop) -> None:
    """Newest first and page by page: a model's own, a book's, a channel's costs; a price set again is no new one."""
    model = shop.model(shop.vendor())
    for price in ("3", "3", "4"):
        shop.operator.put_model(model, prices={"input": price, "output": "10.00"})
    book = _book(shop, prices={model: OWN})
    channel = shop.channel(shop.vendor(), model)
    shop.operator.patch(f"/channels/{channel['id']}", {"costs": {f"{model}-upstream": {"input": "9", "output": "9"}}})

    def inputs(**wanted: str) -> list[str]:
        found, cursor = [], None
        while True:
            page = shop.operator.get("/prices", limit=2, **wanted, **({"cursor": cursor} if cursor else {}))
            found += [each["prices"]["input"] for each in page["items"]]
            if not (cursor := page["next"]):
                return found

    assert sorted(inputs(model=model)) == ["1.00", "2.50", "3.00", "4.00"]
    assert inputs(model=model, book="default") == ["4.00", "3.00", "2.50"]
    assert inputs(book=book) == ["1.00"]
    assert inputs(channel_id=channel["id"]) == ["9.00", "1.00"]
    costs = shop.operator.get(f"/channels/{channel['id']}")
    newest = shop.operator.get("/prices", channel_id=channel["id"])["items"][0]
    assert costs["cost_versions"] == {f"{model}-upstream": newest["id"]}
