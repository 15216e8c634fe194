"""What one test sets up on a gateway: vendors, channels, models and customers that no other test shares."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import httpx
import openai

from tests.behaviours import Gate, answers
from tests.gateway import Gateway
from tests.operator_api import Json, Operator, charge
from tests.upstreams import Behaviour, Street, Vendor

__all__ = ["COSTS", "IMPATIENT", "MESSAGES", "PRICES", "Customer", "Shop"]

PRICES = {"input": "2.50", "output": "10.00", "cached_input": "1.25"}
COSTS = {"input": "1.00", "output": "4.00"}
PATIENT = {"connect_ms": 1000, "first_token_ms": 15_000, "idle_ms": 15_000, "total_ms": 30_000}
IMPATIENT = {"connect_ms": 300, "first_token_ms": 500, "idle_ms": 500, "total_ms": 20_000}
MESSAGES = [{"role": "user", "content": "Say hello."}]
SECRET = "vendor-secret-"


@dataclass
class Customer:
    """A customer with a key, and the means to use it."""

    account_id: str
    key_id: str
    key: str
    credit: Decimal
    url: str
    http: httpx.Client

    def openai(self, **options: Any) -> openai.OpenAI:
        """The official client, as the customer has it; it does not retry unless the test says so."""
        options = {"max_retries": 0, "timeout": 20} | options
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, **options)

    def chat(self, model: str, **fields: Any) -> httpx.Response:
        return self.http.post("/v1/chat/completions", json={"model": model, "messages": MESSAGES, **fields})

    @contextmanager
    def stream(self, model: str, **fields: Any) -> Iterator[httpx.Response]:
        body = {"model": model, "messages": MESSAGES, "stream": True, **fields}
        with self.http.stream("POST", "/v1/chat/completions", json=body) as response:
            yield response

    def leave(self, model: str, gate: Gate | None = None) -> str:
        """Reads the first content of a stream and goes away; the gateway has the time to see that before the vendor
        goes on. The request's id."""
        with self.stream(model) as response:
            for piece in response.iter_bytes():
                if b"Hello" in piece:
                    break
        if gate is not None:
            time.sleep(0.15)
            gate.open()
        return response.headers["x-request-id"]


class Shop:
    """Opens vendors, and sets them up through the operator API. Its fixture closes it."""

    def __init__(self, gateway: Gateway, street: Street) -> None:
        self.gateway = gateway
        self.operator = Operator(gateway.url)
        self._street = street
        self._vendors: list[Vendor] = []
        self._clients: list[httpx.Client] = []

    def vendor(self, behaviour: Behaviour | None = None) -> Vendor:
        vendor = self._street.open(behaviour or answers())
        self._vendors.append(vendor)
        return vendor

    def refusing_vendor(self) -> Vendor:
        return self._street.refusing(answers())

    def swallowing_vendor(self) -> Vendor:
        return self._street.swallowing(answers())

    def shut(self, vendor: Vendor) -> None:
        self._street.shut(vendor)

    def model(self, *vendors: Vendor, prices: Json = PRICES, timeouts: Json = PATIENT, **options: Any) -> str:
        """A model on sale, served by the vendors in the order given: the first has the highest priority."""
        name = f"gpt-4o-{secrets.token_hex(5)}"  # a family whose prompts are counted near the floor
        self.operator.put_model(name, prices=prices, context_length=128_000, **options)
        for rank, vendor in enumerate(vendors):
            self.channel(vendor, name, priority=len(vendors) - rank, timeouts=timeouts)
        return name

    def channel(self, vendor: Vendor, model: str, **options: Any) -> Json:
        """A channel to the vendor, which knows the model under another name and has a secret of its own."""
        upstream = f"{model}-upstream"
        body = {
            "name": f"channel-{secrets.token_hex(5)}",
            "provider": "openai",
            "base_url": vendor.base_url,
            "credentials": [SECRET + secrets.token_hex(8)],
            "models": {model: upstream},
            "costs": {upstream: COSTS},
            "timeouts": PATIENT,
        }
        return self.operator.post("/channels", body | options)

    def customer(self, credit: str = "10.00", *, account_id: str | None = None, **key_options: Any) -> Customer:
        """Of a new account with that much credit, unless it is to have a key of one that is there."""
        operator = self.operator
        if account_id is None:
            account_id = operator.post("/accounts", {"name": f"customer-{secrets.token_hex(4)}"})["id"]
            if Decimal(credit):
                operator.credit(account_id, credit, secrets.token_hex(8))
        issued = operator.new_key(account_id, **key_options)
        http = self._connect(issued["key"])
        return Customer(account_id, issued["id"], issued["key"], Decimal(credit), self.gateway.url, http)

    def once_more(self, customer: Customer) -> Customer:
        """The same customer, on another connection."""
        return replace(customer, http=self._connect(customer.key))

    def _connect(self, key: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"}
        http = httpx.Client(base_url=self.gateway.url, headers=headers, timeout=20)
        self._clients.append(http)
        return http

    def assert_paid_once(self, customer: Customer, request_id: str, prices: Json = PRICES) -> Json:
        """The customer's only request has one receipt, charged to the nano: the wallet moved by that alone."""
        account = self.operator.account(customer.account_id)  # exact at once: settled before the last byte
        (receipt,) = self.operator.wait_receipts(1, account_id=customer.account_id)
        amount = Decimal(receipt["amount"])
        assert amount == charge(prices, receipt["usage"]), receipt
        assert (Decimal(account["balance"]), Decimal(account["held"])) == (customer.credit - amount, 0)
        expected = (request_id, customer.account_id, customer.key_id)
        assert (receipt["request_id"], receipt["account_id"], receipt["key_id"]) == expected
        return receipt

    def assert_nothing_charged(self, customer: Customer) -> None:
        account = self.operator.account(customer.account_id)
        assert (Decimal(account["balance"]), Decimal(account["held"])) == (customer.credit, 0)

    def close(self) -> None:
        for client in [*self._clients, self.operator.http]:
            client.close()
        for vendor in self._vendors:
            self._street.shut(vendor)
        faults = [fault for vendor in self._vendors for fault in vendor.faults]
        assert not faults, faults
