"""Customers who go away in mid-answer: paid once, nothing held."""

import openai
import pytest

from tests.answers import Answer, Shape
from tests.behaviours import Gate, answers, hangs
from tests.shop import IMPATIENT, Shop


def test_a_customer_who_leaves_pays_what_the_vendor_charges(shop: Shop) -> None:
    """After a disconnect the stream is read on to its usage: paid once, exactly, and marked cancelled."""
    gate = Gate()
    vendor = shop.vendor(answers(after=3, then=gate))
    model = shop.model(vendor)
    customer = shop.customer()

    request_id = customer.leave(model, gate)

    receipt = shop.operator.wait_receipt(request_id)
    assert (receipt["status"], receipt["usage_source"]) == ("cancelled", "upstream")
    assert receipt["usage"]["output_tokens"] == 7
    assert len(vendor.served) == 1
    shop.assert_paid_once(customer, request_id)


def test_a_customer_who_leaves_a_vendor_that_hangs_frees_the_hold(shop: Shop) -> None:
    """Reading on has an end: what came is counted here, and the hold is released."""
    model = shop.model(shop.vendor(answers(after=3, then="hang")), timeouts=IMPATIENT)
    customer = shop.customer()

    request_id = customer.leave(model)

    receipt = shop.operator.wait_receipt(request_id)
    assert (receipt["status"], receipt["usage_source"]) == ("cancelled", "estimated")
    shop.assert_paid_once(customer, request_id)


def test_a_customer_who_leaves_before_the_vendor_counts_pays_for_the_text(shop: Shop) -> None:
    """A vendor that says 1 in every chunk, then nothing more: what it generated is counted here."""
    said = Answer(pieces=("Hello ",) * 200)
    model = shop.model(shop.vendor(answers(said, Shape(usage="ones"), after=201, then="hang")), timeouts=IMPATIENT)
    customer = shop.customer()

    request_id = customer.leave(model)

    receipt = shop.assert_paid_once(customer, shop.operator.wait_receipt(request_id)["request_id"])
    assert (receipt["status"], receipt["usage_source"]) == ("cancelled", "estimated")
    assert receipt["usage"]["output_tokens"] >= 200


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_customer_who_leaves_before_anything_came_frees_the_hold(shop: Shop, stream: bool) -> None:
    """Gone before the first byte: one receipt, nothing held, and what it says is what was paid."""
    vendor = shop.vendor(hangs())
    model = shop.model(vendor, timeouts=IMPATIENT)
    customer = shop.customer()

    with pytest.raises(openai.APITimeoutError):
        customer.openai(timeout=0.2).chat.completions.create(
            model=model, messages=[{"role": "user", "content": "hello"}], stream=stream
        )

    (receipt,) = shop.operator.wait_receipts(1, account_id=customer.account_id)
    assert receipt["status"] in ("cancelled", "failed")
    shop.assert_paid_once(customer, receipt["request_id"])
    assert len(vendor.requests) == 1
