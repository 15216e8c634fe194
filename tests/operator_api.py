"""The operator's side of a test: `/admin/v1` over HTTP, and what its figures must add up to."""

from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import httpx

from tests.gateway import ADMIN_KEY
from tests.waiting import until

__all__ = ["Operator", "assert_problem", "charge", "usd"]

Json = dict[str, Any]
NANO = Decimal("0.000000001")


def usd(nano: int) -> Decimal:
    return nano * NANO


def charge(prices: Json, usage: Json) -> Decimal:
    """What a usage costs at prices in USD per million tokens: rounded half up, once, to the nano."""
    cached, written = usage["cached_input_tokens"], usage["cache_write_tokens"]
    plain = usage["input_tokens"] - cached - written
    input_price = Decimal(prices["input"])
    millionths = (
        plain * input_price
        + cached * Decimal(prices.get("cached_input", input_price))
        + written * Decimal(prices.get("cache_write", input_price))
        + usage["output_tokens"] * Decimal(prices["output"])
    )
    total = millionths / 1_000_000 + Decimal(prices.get("request", "0"))
    return total.quantize(NANO, rounding=ROUND_HALF_UP)


class Operator:
    """The operator API. Every method returns the JSON of a success, and fails on anything else."""

    def __init__(self, url: str, key: str = ADMIN_KEY) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self.http = httpx.Client(base_url=f"{url}/admin/v1", headers=headers, timeout=15)

    def close(self) -> None:
        self.http.close()

    def post(self, path: str, body: Json, status: int = 201) -> Json:
        return _checked(self.http.post(path, json=body), status)

    def patch(self, path: str, body: Json) -> Json:
        return _checked(self.http.patch(path, json=body), 200)

    def get(self, path: str, **params: Any) -> Json:
        return _checked(self.http.get(path, params=params), 200)

    def account(self, account_id: str) -> Json:
        return self.get(f"/accounts/{account_id}")

    def balance(self, account_id: str) -> Decimal:
        return Decimal(self.account(account_id)["balance"])

    def held(self, account_id: str) -> Decimal:
        return Decimal(self.account(account_id)["held"])

    def credit(self, account_id: str, amount: str, idempotency_key: str) -> Json:
        body = {"amount": amount, "memo": "test", "idempotency_key": idempotency_key}
        return self.post(f"/accounts/{account_id}/credits", body)

    def new_key(self, account_id: str, **options: Any) -> Json:
        return self.post(f"/accounts/{account_id}/keys", {"name": "test", **options})

    def put_model(self, name: str, **options: Any) -> Json:
        answer = self.http.put(f"/models/{name}", json=options)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def receipts(self, limit: int = 200, **filters: Any) -> Iterator[Json]:
        """All that match, page by page."""
        cursor = None
        while True:
            page = self.get("/receipts", limit=limit, **({"cursor": cursor} if cursor else {}), **filters)
            yield from page["items"]
            if not (cursor := page["next"]):
                return

    def wait_receipt(self, request_id: str, seconds: float = 5.0) -> Json:
        """The one receipt of a request; it is posted within moments of the answer's end."""
        return self.wait_receipts(1, seconds, request_id=request_id)[0]

    def wait_receipts(self, count: int, seconds: float = 5.0, **filters: Any) -> list[Json]:
        """Exactly `count` receipts that match."""

        def found() -> list[Json]:
            try:
                receipts = list(self.receipts(**filters))
            except httpx.TransportError:  # the worker at the other end was killed by the test
                return []
            return receipts if len(receipts) >= count else []

        receipts = until(found, f"{count} receipts of {filters}", seconds)
        assert len(receipts) == count, receipts
        return receipts

    def assert_books_agree(self) -> None:
        """`verify` finds nothing wrong, and no drift."""
        verdict = self.get("/ledger/verify")
        assert verdict["ok"] is True, verdict
        assert verdict["drift_nano"] == 0, verdict


def _checked(answer: httpx.Response, status: int) -> Json:
    assert answer.status_code == status, f"{answer.request.method} {answer.url}: {answer.text}"
    return answer.json()


def assert_problem(answer: httpx.Response, status: int | tuple[int, ...]) -> dict[str, Any]:
    """RFC 9457: the media type, and the members that make a problem readable."""
    expected = (status,) if isinstance(status, int) else status
    assert answer.status_code in expected, answer.text
    assert answer.headers["content-type"].split(";")[0] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert isinstance(problem["title"], str)
    assert isinstance(problem["detail"], str)
    return problem
