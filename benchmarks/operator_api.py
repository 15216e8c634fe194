"""The operator's side of a run, over `/admin/v1` only: set a customer up, read balance, receipts and the
proof of the books.

Every answer that is not the one the contract names raises; nothing is retried.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import msgspec

from benchmarks.money import CREDIT_USD, PRICE_INPUT_USD, PRICE_OUTPUT_USD, nano

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "bench"
UPSTREAM_MODEL = "bench-upstream"
PAGE = 1000
PAGES_MAX = 5000
T = TypeVar("T")

LIMITS = {"rpm": 10_000_000, "tpm": 1_000_000_000, "concurrency": 10_000}  # looked at, and never reached


class Usage(msgspec.Struct, frozen=True):
    """The token counts of a receipt that the benchmark checks."""

    input_tokens: int
    output_tokens: int


class Receipt(msgspec.Struct, frozen=True):
    """The fields of a receipt that the benchmark checks; `amount` is USD as text."""

    request_id: str
    status: str
    stream: bool
    usage: Usage
    usage_source: str
    amount: str


class ReceiptPage(msgspec.Struct, frozen=True):
    """One page; `next` is the cursor of the following one."""

    items: list[Receipt]
    next: str | None


class Wallet(msgspec.Struct, frozen=True):
    """An account's money, USD as text."""

    balance: str
    held: str


class Verdict(msgspec.Struct, frozen=True):
    """What the ledger says of itself."""

    ok: bool
    drift_nano: int
    checked: dict[str, Any] = {}


class Customer(msgspec.Struct, frozen=True):
    """Who pays for the run."""

    account_id: str
    key: str


class Operator:
    """A client of the operator API."""

    def __init__(self, port: int, admin_key: str) -> None:
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}/admin/v1",
            headers={"authorization": f"Bearer {admin_key}"},
            timeout=60.0,
            trust_env=False,  # a proxy of the environment has no business on the loopback
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def set_up(self, upstream_port: int, *, by_library: bool = False) -> Customer:
        """A customer with credit, whose key has limits; one channel to the upstream; one model with prices."""
        account_id = self._send("POST", "/accounts", {"name": "benchmark"})["id"]
        credit = {"amount": CREDIT_USD, "memo": "benchmark", "idempotency_key": uuid.uuid4().hex}
        self._send("POST", f"/accounts/{account_id}/credits", credit)
        channel = {
            "name": "benchmark",
            "provider": "openai",
            "base_url": f"http://127.0.0.1:{upstream_port}/v1",
            "credentials": ["not-a-secret"],
            "models": {MODEL: UPSTREAM_MODEL},
            "priority": 0,
            "weight": 1,
            "costs": {UPSTREAM_MODEL: {"input": "1.00", "output": "4.00"}},
            "shaping": {"http2": by_library},  # in the clear nothing is negotiated: HTTP/1.1 all the same
        }
        self._send("POST", "/channels", channel)
        model = {
            "context_length": 128_000,
            "max_output_tokens": 16_384,
            "description": "A local upstream with a constant answer.",
            "prices": {"input": PRICE_INPUT_USD, "output": PRICE_OUTPUT_USD},
        }
        self._send("PUT", f"/models/{MODEL}", model)
        key = self._send("POST", f"/accounts/{account_id}/keys", {"name": "benchmark", "limits": LIMITS})["key"]
        return Customer(account_id, key)

    def wallet_nano(self, customer: Customer) -> tuple[int, int]:
        """Balance and what is held, in nano-USD."""
        wallet = self._read(f"/accounts/{customer.account_id}", {}, Wallet)
        return nano(wallet.balance), nano(wallet.held)

    def verdict(self) -> Verdict:
        """The ledger's proof of itself."""
        return self._read("/ledger/verify", {}, Verdict)

    def receipts(self, customer: Customer) -> Iterator[Receipt]:
        """All receipts of the customer, page by page."""
        query: dict[str, str | int] = {"account_id": customer.account_id, "limit": PAGE}
        for _ in range(PAGES_MAX):
            page = self._read("/receipts", query, ReceiptPage)
            yield from page.items
            if page.next is None:
                return
            query["cursor"] = page.next
        raise RuntimeError(f"more than {PAGES_MAX} pages of receipts")

    def _read(self, path: str, query: dict[str, str | int], kind: type[T]) -> T:
        answer = self._http.get(path, params=query)
        _expect_success(answer)
        return msgspec.json.decode(answer.content, type=kind)

    def _send(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._http.request(method, path, json=body)
        _expect_success(answer)
        return msgspec.json.decode(answer.content, type=dict[str, Any])


def _expect_success(answer: httpx.Response) -> None:
    if not answer.is_success:
        request = answer.request
        raise RuntimeError(f"{request.method} {request.url.path}: {answer.status_code} {answer.text[:500]}")
