"""Vendors that answer in a way of their own: what is plainly meant is served, and what is theirs is not told."""

import json

import pytest

from tests.behaviours import says
from tests.shop import Shop
from tests.sse import read

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
CHOICE = {"index": None, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
WHOLE = {"id": 7, "created": "now", "model": None, "choices": [CHOICE], "usage": USAGE}


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "mark"])
def test_a_whole_answer_to_a_request_for_a_stream_is_streamed(shop: Shop, mark: bytes, status: int) -> None:
    """One chunk with everything, the usage where it was asked for, and `[DONE]`; paid for by the vendor's count."""
    customer = shop.customer()
    model = shop.model(shop.vendor(says(status, mark + json.dumps(WHOLE).encode())))
    with customer.stream(model, stream_options={"include_usage": True}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        told = read(response)
    assert (told.text, told.done, told.errors) == ("Hello", True, [])
    receipt = shop.assert_paid_once(customer, response.headers["x-request-id"])
    assert (receipt["usage_source"], receipt["usage"]["output_tokens"]) == ("upstream", 7)
    assert (receipt["status"], receipt["finish_reason"]) == ("ok", "stop")


def test_an_error_in_place_of_a_stream_goes_to_the_next_channel(shop: Shop) -> None:
    sick = shop.vendor(says(200, {"error": {"message": "overloaded"}}))
    customer = shop.customer()
    with customer.stream(shop.model(sick, shop.vendor())) as response:
        assert read(response).done
    receipt = shop.operator.wait_receipt(response.headers["x-request-id"])
    assert [each["error"] for each in receipt["attempts"]] == ["error in a 200", None]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_the_vendor_takes_and_who_it_is_never_reaches_the_customer(shop: Shop, stream: bool) -> None:
    private = {"provider": "Cheap Inc", "cost": 0.1234, "cost_details": {"upstream_inference_cost": 0.1234}}
    vendor = says(200, WHOLE | {"usage": USAGE | private} | private)
    answer = shop.customer().chat(shop.model(shop.vendor(vendor)), stream=stream)
    assert answer.status_code == 200
    assert "Hello" in answer.text
    assert "Cheap" not in answer.text
    assert "0.1234" not in answer.text
