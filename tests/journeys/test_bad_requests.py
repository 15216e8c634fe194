"""What the documents bound is checked: a 400 names the parameter, and the rest is passed on as it is."""

import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from tests.shop import MESSAGES, Shop

BAD_VALUES: list[tuple[str, Any]] = [
    *(("temperature", value) for value in (-0.1, 2.1, "hot", True)),
    *(("top_p", value) for value in (-0.01, 1.01, "all")),
    *(("presence_penalty", value) for value in (-2.1, 2.1, "none")),
    *(("frequency_penalty", value) for value in (-2.1, 2.1, [])),
    *(("max_tokens", value) for value in (-1, 1.5, "many")),
    *(("max_completion_tokens", value) for value in (-1, "many")),
    *(("n", value) for value in (0, -1, 1.5, "two")),
    *(("stream", value) for value in ("yes", 1)),
    *(("stop", value) for value in (7, [7], {})),
    *(("user", value) for value in (1.5, True, [])),
    *(("seed", value) for value in ("lucky", 1.5)),
    *(("tools", value) for value in ("hammer", {}, [7])),
    *(("tool_choice", value) for value in (7, [])),
    *(("response_format", value) for value in ("json", 7)),
    *(("logit_bias", value) for value in ("more", [])),
    *(("stream_options", value) for value in ("usage", [])),
    *(("messages", value) for value in (None, "hello", [], {}, ["hello"])),
    *(("model", value) for value in (None, 7, [])),
    *(("messages", [{"role": role, "content": "hello"}]) for role in ("wizard", "", None, 7)),
    ("messages", [{"content": "hello"}]),
    ("messages", [{"role": "user", "content": 7}]),
]
GOOD_VALUES: list[tuple[str, Any]] = [
    *(("temperature", value) for value in (0, 2, 0.7, None)),
    *(("top_p", value) for value in (0, 1, None)),
    *(("presence_penalty", value) for value in (-2, 2, None)),
    *(("frequency_penalty", value) for value in (-2.0, 2.0)),
    *(("stop", value) for value in ("\n", ["a", "b"], None)),
    *(("max_tokens", value) for value in (1, None)),
    ("max_completion_tokens", 5),
    ("logit_bias", None),
    ("logit_bias", {"50256": -100}),
    ("stream", None),
    ("tool_choice", "none"),
    ("user", "customer-of-the-customer"),
    ("seed", -3),
    ("n", None),
]


def test_every_value_out_of_bounds_is_refused_by_name(shop: Shop) -> None:
    """A malformed or out-of-range field is a 400 whose `param` names it; nothing is sent on or charged."""
    vendor = shop.vendor()
    model = shop.model(vendor)
    customer = shop.customer()

    wrong = []
    for name, value in BAD_VALUES:
        answer = customer.chat(**{"model": model, name: value})
        error = answer.json().get("error", {})
        seen = (answer.status_code, error.get("type"), error.get("code"))
        named = (error.get("param") or "").startswith(name)
        if seen != (400, "invalid_request_error", "invalid_value") or not named:
            wrong.append((name, value, *seen, error.get("param")))

    assert not wrong
    assert not vendor.requests
    shop.assert_nothing_charged(customer)


def test_the_edges_of_every_bound_are_allowed(shop: Shop) -> None:
    """Bounds include their ends, null is as good as absent, and what was sent is passed on as it was; but for the
    bound of an answer, which every vendor gets in the field that it reads."""
    vendor = shop.vendor()
    model = shop.model(vendor)
    customer = shop.customer()

    wrong = []
    for name, value in GOOD_VALUES:
        answer = customer.chat(model, **{name: value})
        as_sent = "max_completion_tokens" if name == "max_tokens" and value else name
        if answer.status_code != 200 or vendor.requests[-1].json.get(as_sent) != value:
            wrong.append((name, value, answer.status_code, answer.text))

    assert not wrong


def test_every_role_is_allowed(shop: Shop) -> None:
    """System, developer, user, assistant and tool messages are passed on in their order."""
    vendor = shop.vendor()
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "Say hello.", "name": "ann"},
        {"role": "assistant", "content": "Hello."},
        {"role": "tool", "tool_call_id": "call_0", "content": ""},
    ]

    answer = shop.customer().chat(shop.model(vendor), messages=messages)

    assert answer.status_code == 200, answer.text
    assert vendor.requests[0].json["messages"] == messages


def test_the_client_sees_a_bad_parameter_as_a_bad_request(shop: Shop) -> None:
    """The official client's exception carries the name of the parameter."""
    customer = shop.customer()
    model = shop.model(shop.vendor())

    with pytest.raises(openai.BadRequestError) as refused:
        customer.openai().chat.completions.create(model=model, messages=MESSAGES, temperature=2.5)

    assert (refused.value.param, refused.value.code) == ("temperature", "invalid_value")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"text"', b'{"model": "\xff"}', b"{}"])
def test_a_body_that_is_no_request_is_refused(shop: Shop, body: bytes) -> None:
    """Whatever the bytes, the answer is a 400 of the dialect, never a 500."""
    answer = shop.customer().http.post("/v1/chat/completions", content=body)

    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_body_over_the_limit_is_refused(shop: Shop) -> None:
    """More than the limit is a 413, and the gateway does not read on for ever."""
    customer = shop.customer()
    megabyte = b" " * 2**20

    answer = customer.http.post("/v1/chat/completions", content=(megabyte for _ in range(34)))

    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/keys", "/v1/vouchers/redeem"])
@pytest.mark.parametrize("rest", [b"content-length: 20000000\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n5\r\n{"])
def test_nobody_without_a_key_has_a_body_read(shop: Shop, path: str, rest: bytes) -> None:
    """The answer comes before the body, and the connection ends with it."""
    host, port = urlsplit(shop.gateway.url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-none\r\n".encode() + rest)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 401 "), answer
    assert b"\r\nconnection: close\r\n" in answer


@pytest.mark.parametrize(
    "body", [{"messages": [], "x" * 2**20: 1, "Model" + "_" * 2**20: 1}, {"messages": [{"role": "r" * 2**20}]}]
)
def test_an_error_does_not_send_a_megabyte_back(shop: Shop, body: dict[str, Any]) -> None:
    answer = shop.customer().http.post("/v1/chat/completions", json={"model": "m", **body})

    assert answer.status_code == 400
    assert len(answer.content) < 2000


def test_who_sends_all_of_a_body_before_it_reads_gets_the_answer(shop: Shop) -> None:
    """As most clients do: what nobody wants of a body is read away, and the connection is not reset."""
    answer = httpx.post(
        f"{shop.gateway.url}/v1/chat/completions",
        headers={"authorization": "Bearer sk-none"},
        content=b" " * 8_000_000,
        timeout=20,
    )
    assert answer.status_code == 401
