"""The operator of a run, over `/admin/v1` only. A call may fail while things are broken: its caller decides."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from benchmarks.chaos.errand import MODEL, UPSTREAM_MODEL
from benchmarks.money import PRICE_INPUT_USD, PRICE_OUTPUT_USD, nano
from benchmarks.operator_api import Usage, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PAGE = 1000
PAGES_MAX = 500
_TOKENS_MOST = 10_000_000


class Attempt(msgspec.Struct, frozen=True):
    """One try of one channel."""

    channel_id: str
    http_status: int | None
    error: str | None
    duration_ms: int


class Receipt(msgspec.Struct, frozen=True):
    """The fields of a receipt that the fault test judges; money is USD as text."""

    request_id: str
    created_at: str
    account_id: str
    key_id: str
    stream: bool
    status: str
    usage: Usage
    usage_source: str
    amount: str
    unpaid: str = "0"
    channel_id: str | None = None
    ending: str = ""
    attempts: list[Attempt] = []

    @property
    def created_ms(self) -> int:
        return round(datetime.fromisoformat(self.created_at).timestamp() * 1000)


class _Page(msgspec.Struct):
    items: list[Receipt]
    next: str | None


class Wallet(msgspec.Struct, frozen=True):
    """Nano-USD."""

    balance_nano: int
    held_nano: int


class Refused(Exception):
    """The gateway answered, and not with a success."""

    def __init__(self, answer: httpx.Response) -> None:
        request = answer.request
        super().__init__(f"{request.method} {request.url.path}: {answer.status_code} {answer.text[:300]}")
        self.status = answer.status_code


class Unknown(Exception):
    """The gateway can't say what is held: Redis is away."""


class Office:
    """A client of the operator API. Its calls raise Refused, Unknown or httpx.TransportError."""

    def __init__(self, url: str, admin_key: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=f"{url}/admin/v1",
            headers={"authorization": f"Bearer {admin_key}"},
            timeout=10.0,
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),  # a worker that was killed leaves none behind
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def set_up_model(self, upstream_port: int) -> None:
        channel = {
            "name": "chaos",
            "provider": "openai",
            "base_url": f"http://127.0.0.1:{upstream_port}/v1",
            "credentials": ["not-a-secret"],
            "models": {MODEL: UPSTREAM_MODEL},
            "costs": {UPSTREAM_MODEL: {"input": "1.00", "output": "4.00"}},
        }
        await self.send("POST", "/channels", channel)
        model = {
            "context_length": _TOKENS_MOST,
            "max_output_tokens": _TOKENS_MOST,
            "prices": {"input": PRICE_INPUT_USD, "output": PRICE_OUTPUT_USD},
        }
        await self.send("PUT", f"/models/{MODEL}", model)

    async def new_account(self, name: str) -> str:
        return str((await self.send("POST", "/accounts", {"name": name}))["id"])

    async def new_key(self, account_id: str, name: str, limits: dict[str, int]) -> tuple[str, str]:
        """Its id and its secret."""
        made = await self.send("POST", f"/accounts/{account_id}/keys", {"name": name, "limits": limits})
        return made["id"], made["key"]

    async def credit(self, account_id: str, amount: str, idempotency_key: str) -> str:
        """The entry that it made, or had made before."""
        body = {"amount": amount, "memo": "chaos", "idempotency_key": idempotency_key}
        return str((await self.send("POST", f"/accounts/{account_id}/credits", body))["entry_id"])

    async def wallet(self, account_id: str) -> Wallet:
        found = await self.send("GET", f"/accounts/{account_id}")
        if found["held"] is None:
            raise Unknown
        return Wallet(nano(found["balance"]), nano(found["held"]))

    async def verdict(self) -> tuple[Verdict, list[str]]:
        """What the ledger says of itself, and its problems in words."""
        found = await self.send("GET", "/ledger/verify")
        return msgspec.convert(found, Verdict), found.get("problems", [])

    async def receipts(self, account_id: str) -> AsyncIterator[Receipt]:
        query: dict[str, str | int] = {"account_id": account_id, "limit": PAGE}
        for _ in range(PAGES_MAX):
            page = msgspec.convert(await self.send("GET", "/receipts", query=query), _Page)
            for receipt in page.items:
                yield receipt
            if page.next is None:
                return
            query["cursor"] = page.next
        raise RuntimeError(f"more than {PAGES_MAX} pages of receipts")

    async def send(self, method: str, path: str, body: object = None, *, query: dict[str, Any] | None = None) -> Any:
        answer = await self._http.request(method, path, json=body, params=query)
        if not answer.is_success:
            raise Refused(answer)
        return msgspec.json.decode(answer.content)
