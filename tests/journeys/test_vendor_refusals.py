"""Whose fault it is: the vendor's refusal of a request is the customer's answer, of our credential never."""

from decimal import Decimal

import pytest

from tests.behaviours import says
from tests.shop import Shop


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_the_vendors_refusal_of_the_request_is_the_customers_answer(shop: Shop, status: int, stream: bool) -> None:
    """A request the vendor finds fault with would fail anywhere: its words come back, without our secrets."""
    vendor = shop.vendor()
    model = shop.model()
    channel = shop.channel(vendor, model, priority=2, credentials=["vendor-credential-0123456789"])
    spare = shop.vendor()
    shop.channel(spare, model, priority=1)
    words = f"Image too small (key vendor-credential-0123456789, channel {channel['name']}, {model}-upstream)"
    vendor.behaviour = says(status, {"error": {"message": words, "type": "bad", "code": "img", "param": "messages"}})
    customer = shop.customer()

    answer = customer.chat(model, stream=stream)

    assert answer.status_code == status
    error = answer.json()["error"]
    assert "Image too small" in error["message"]
    assert error["type"] == "invalid_request_error"
    for secret in ("vendor-credential-0123456789", channel["name"]):
        assert secret not in answer.text
    assert not spare.requests
    shop.assert_nothing_charged(customer)
    receipt = shop.operator.wait_receipt(answer.headers["x-request-id"])
    assert (receipt["status"], receipt["http_status"], Decimal(receipt["amount"])) == ("failed", status, 0)
    assert [attempt["http_status"] for attempt in receipt["attempts"]] == [status]


@pytest.mark.parametrize("status", [401, 402, 403])
def test_the_vendors_refusal_of_our_credential_is_not_the_customers(shop: Shop, status: int) -> None:
    """Alone or not, a channel whose key is bad is the operator's problem: 503, never a 401, 402 or 403."""
    words = "Incorrect API key provided: vendor-credential-0123456789"
    model = shop.model(shop.vendor(says(status, {"error": {"message": words, "code": "invalid_api_key"}})))
    customer = shop.customer()

    answer = customer.chat(model)

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_available_channel")
    assert "vendor-credential" not in answer.text
    shop.assert_nothing_charged(customer)
