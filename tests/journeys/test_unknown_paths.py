"""Paths and methods under `/v1` that are none: told as OpenAI's clients read it, with a request's id."""

import httpx
import openai
import pytest

from tests.shop import Shop


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/embeddings", 404),
        ("POST", "/v1/completions", 404),
        ("GET", "/v1/assistants/asst_1?limit=1", 404),
        ("DELETE", "/v1/threads/a/b/c", 404),
        ("GET", "/v1", 404),
        ("POST", "/v1/", 404),
        ("GET", "/v1/" + "x" * 5000, 404),
        ("GET", "/v1/chat/completions", 405),
        ("PUT", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
        ("DELETE", "/v1/models/small", 405),
        ("PATCH", "/v1/key", 405),
    ],
)
def test_an_unknown_path_or_method_is_told_in_openais_words(shop: Shop, method: str, path: str, status: int) -> None:
    answer = httpx.request(method, shop.gateway.url + path, json={} if method in ("POST", "PUT", "PATCH") else None)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", None)
    assert error["message"]
    assert len(answer.content) < 1000


def test_openais_client_reads_it(shop: Shop) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        shop.customer().openai().embeddings.create(model="small", input="Hi")
    assert refused.value.code == "unknown_url"
    assert refused.value.request_id


def test_the_operators_paths_keep_problem_details(shop: Shop) -> None:
    answer = httpx.get(f"{shop.gateway.url}/admin/v1/nothing")
    assert answer.headers["content-type"].startswith("application/problem+json")
