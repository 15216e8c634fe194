"""Whose fault it is: the vendor's refusal of a request is the customer's answer, of our credential never."""

from decimal import Decimal

import pytest

from tests.behaviours import says
from tests.shop import Shop
from tests.upstreams import Behaviour
from tests.waiting import until


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


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (says(404, b"<html>nginx</html>", content_type="text/html"), "HTTP 404: no such address"),
        (says(404, {"error": {"message": "The model `m` does not exist"}}), "HTTP 404: unknown model"),
        (says(400, {"error": {"message": "API key not valid."}}), "HTTP 400: credential refused"),
    ],
    ids=["html", "model", "key"],
)
def test_a_vendors_refusal_of_our_channel_is_not_the_customers(
    shop: Shop, refusal: Behaviour, error: str, stream: bool
) -> None:
    """The next channel serves; the receipt and the channel's health tell the operator what is wrong."""
    spare = shop.vendor()
    model = shop.model()
    broken = shop.channel(shop.vendor(refusal), model, priority=2)
    shop.channel(spare, model, priority=1)

    answer = shop.customer().chat(model, stream=stream)

    assert answer.status_code == 200
    receipt = shop.operator.wait_receipt(answer.headers["x-request-id"])
    assert [attempt["error"] for attempt in receipt["attempts"]] == [error.partition(": ")[2], None]

    def told() -> bool:
        items = shop.operator.get("/health/channels")["items"]
        ways = [way for each in items if each["channel_id"] == broken["id"] for way in each["credentials"]]
        return any(way["last_error"] == error for way in ways)

    until(told, "the channel's health names the fault")


def test_a_channel_that_does_not_know_the_model_is_no_fault_of_the_request(shop: Shop) -> None:
    """Alone, it can't serve: 503, without the vendor's words."""
    model = shop.model(shop.vendor(says(404, {"error": {"message": "The model `m` does not exist"}})))
    customer = shop.customer()

    answer = customer.chat(model)

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_available_channel")
    shop.assert_nothing_charged(customer)
