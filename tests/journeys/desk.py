"""Where a document's examples are tried: a vendor, a model and a customer to fill in for its own."""

from decimal import Decimal
from typing import Any

from tests.answers import Answer
from tests.behaviours import answers
from tests.shop import Customer, Shop

__all__ = ["SAID", "Desk"]

SAID = Answer(prompt_tokens=28, pieces=("你好", "!", " I am", " an assistant."))


class Desk:
    """A customer with a model to try the documents' examples on."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.vendor = shop.vendor(answers(SAID))
        self.model = shop.model(self.vendor)
        self.customer: Customer = shop.customer()
        self.url = self.customer.url

    def fill(self, text: str) -> str:
        return text.replace("ADDRESS", self.url).replace("KEY", self.customer.key).replace("MODEL", self.model)

    def run(self, script: str) -> None:
        exec(compile(self.fill(script), "<document>", "exec"), {"__name__": "__main__"})

    def sent(self, index: int = -1) -> dict[str, Any]:
        return self.vendor.requests[index].json

    def assert_paid(self, requests: int) -> None:
        receipts = self.shop.operator.wait_receipts(requests, account_id=self.customer.account_id)
        assert {receipt["status"] for receipt in receipts} == {"ok"}
        spent = sum(Decimal(receipt["amount"]) for receipt in receipts)
        balance = self.shop.operator.balance(self.customer.account_id)
        assert balance == self.customer.credit - spent
