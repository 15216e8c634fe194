"""Pages of other origins call `/v1` where the operator allows it, and nothing else."""

from collections.abc import Iterator

import httpx
import pytest

from tests.servers import Fleet
from tests.shop import MESSAGES, Shop
from tests.upstreams import Street

ORIGIN = "https://app.example.com"


@pytest.fixture
def shop(fleet: Fleet, database: str, street: Street) -> Iterator[Shop]:
    gateway = fleet.shared(database, "cors", TOLLGATE_CORS_ORIGINS=f"http://localhost:3000, {ORIGIN}")
    shop = Shop(gateway, street)
    yield shop
    shop.close()


def _ask_first(shop: Shop, path: str, origin: str = ORIGIN) -> httpx.Response:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
    }
    return httpx.options(shop.gateway.url + path, headers=asked)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/v1/models/a/b", "/v1/nothing"])
def test_a_preflight_is_answered_without_a_key(shop: Shop, path: str) -> None:
    answer = _ask_first(shop, path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type,x-stainless-lang"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_page_reads_its_answer_and_its_headers(shop: Shop, stream: bool) -> None:
    customer = shop.customer()
    customer.http.headers["Origin"] = ORIGIN
    answer = customer.chat(shop.model(shop.vendor()), stream=stream)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert "x-request-id" in exposed
    assert {name for name in answer.headers if name.startswith("x-")} == set(exposed)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/nothing"])
def test_a_page_reads_its_errors(shop: Shop, path: str) -> None:
    answer = httpx.post(shop.gateway.url + path, json={"messages": MESSAGES}, headers={"Origin": ORIGIN})
    assert answer.status_code in (401, 404)
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "x-request-id" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        ("/v1/chat/completions", "https://evil.example"),
        ("/v1/chat/completions", "https://app.example.com.evil.example"),
        ("/v1/chat/completions", "null"),
        ("/admin/v1/accounts", ORIGIN),
        ("/console", ORIGIN),
        ("/health/ready", ORIGIN),
    ],
)
def test_nothing_else_is_opened(shop: Shop, path: str, origin: str) -> None:
    """Neither to other origins nor beside `/v1`."""
    for answer in (_ask_first(shop, path, origin), httpx.get(shop.gateway.url + path, headers={"Origin": origin})):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_without_the_setting_no_origin_is_allowed(fleet: Fleet, database: str) -> None:
    url = fleet.shared(database).url
    answer = httpx.post(f"{url}/v1/chat/completions", headers={"Origin": ORIGIN})
    assert not [name for name in answer.headers if name.startswith("access-control-")]
