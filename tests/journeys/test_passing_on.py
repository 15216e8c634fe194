"""What passes through the gateway, each way, and what stays where it is."""

from tests.answers import Answer
from tests.behaviours import answers
from tests.shop import Shop


def test_extras_of_the_vendor_survive(shop: Shop) -> None:
    """Fields nobody here knows are the vendor's business with the customer: they pass both ways."""
    vendor = shop.vendor(answers(Answer(extra={"x_vendor": {"cache": [1, 2]}})))
    model = shop.model(vendor)
    customer = shop.customer()

    answer = customer.chat(model, reasoning={"effort": "low"}, x_trace="abc", top_k=40)

    assert answer.json()["x_vendor"] == {"cache": [1, 2]}
    assert answer.json()["system_fingerprint"] == "fp_vendor"
    sent = vendor.requests[0].json
    assert (sent["reasoning"], sent["x_trace"], sent["top_k"]) == ({"effort": "low"}, "abc", 40)
    assert "max_tokens" not in sent
    assert "stream_options" not in sent


def test_the_customers_headers_stay_here_and_the_vendors_too(shop: Shop) -> None:
    """Key, cookies and connection headers do not pass upstream; the vendor's own do not pass down."""
    vendor = shop.vendor(answers(set_cookie="vendor=1", server="vendor", x_vendor_key="secret"))
    model = shop.model()
    shop.channel(vendor, model, credentials=["the-vendors-own-credential"])
    customer = shop.customer()
    own = {
        "Cookie": "session=mine",
        "Accept-Encoding": "br;q=0.123",
        "X-Forwarded-For": "10.1.2.3",
        "OpenAI-Organization": "org-of-the-customer",
    }
    customer.http.headers.update(own)

    answer = customer.chat(model)

    sent = vendor.requests[0].headers
    assert sent["authorization"] == "Bearer the-vendors-own-credential"
    assert sent["host"] == f"127.0.0.1:{vendor.port}"
    assert customer.key not in str(sent)
    assert "mine" not in str(sent)
    assert "0.123" not in sent.get("accept-encoding", "")
    assert "openai-organization" not in sent
    assert {"set-cookie", "x-vendor-key"}.isdisjoint(answer.headers)
    assert answer.headers.get("server") != "vendor"
    assert answer.headers["content-type"].startswith("application/json")
