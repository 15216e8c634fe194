"""The examples of five public documents of such gateways run as they stand, but for address, key and model.

Each document is a class; the texts are its own, so that their quoting and their habits are part of the test.
"""

import json
import sys
import types
from collections.abc import Iterator

import httpx
import openai
import pytest

from tests.curl import curl
from tests.journeys.desk import SAID, Desk


class TestAtdak:
    """A document whose client has a name of its own and reads its key and address from the environment."""

    @pytest.fixture(autouse=True)
    def library(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        library = types.ModuleType("atdak")
        library.AtdakClient = openai.OpenAI  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "atdak", library)
        monkeypatch.setenv("OPENAI_API_KEY", desk.customer.key)
        monkeypatch.setenv("OPENAI_BASE_URL", f"{desk.url}/v1")
        yield

    def test_the_request_body(self, desk: Desk) -> None:
        """The body of the reference, explicit `stream: false` included."""
        body = """
        {
          "model": "MODEL",
          "messages": [
            {"role": "system", "content": "你是一个有帮助的助手"},
            {"role": "user", "content": "你好"}
          ],
          "temperature": 0.7,
          "max_tokens": 2048,
          "stream": false
        }
        """
        answer = desk.customer.http.post("/v1/chat/completions", content=desk.fill(body).encode())

        assert answer.status_code == 200, answer.text
        shown = answer.json()
        assert (shown["object"], shown["model"]) == ("chat.completion", desk.model)
        assert shown["choices"][0]["message"] == {"role": "assistant", "content": SAID.text}
        assert shown["usage"]["total_tokens"] == 32
        desk.assert_paid(1)

    def test_the_streaming_curl(self, desk: Desk) -> None:
        """curl prints `data:` lines with an id and deltas, and ends with [DONE]."""
        command = """curl ADDRESS/v1/chat/completions \\
          -H "Authorization: Bearer KEY" \\
          -H "Content-Type: application/json" \\
          -d '{
            "model": "MODEL",
            "messages": [{"role": "user", "content": "你好"}],
            "stream": true
          }'"""
        answer = curl(desk.fill(command))

        assert answer.status == 200
        events = [line.removeprefix("data: ") for line in answer.body.splitlines() if line.startswith("data: ")]
        assert events[-1] == "[DONE]"
        chunks = [json.loads(event) for event in events[:-1]]
        assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == SAID.text
        desk.assert_paid(1)

    def test_the_python_example(self, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
        """It reads `choices[0]` of every chunk: a usage chunk that was not asked for would break it."""
        desk.run("""
from atdak import AtdakClient

client = AtdakClient()

# 普通调用
response = client.chat.completions.create(
    model="MODEL",
    messages=[
        {"role": "user", "content": "写一首关于春天的诗"}
    ]
)
print(response.choices[0].message.content)

# 流式调用
stream = client.chat.completions.create(
    model="MODEL",
    messages=[{"role": "user", "content": "你好"}],
    stream=True
)
for chunk in stream:
    print(chunk.choices[0].delta.content, end="")
""")
        assert capsys.readouterr().out.startswith(f"{SAID.text}\n{SAID.text}")
        desk.assert_paid(2)


class TestChatkore:
    """A document of a reference alone: every parameter, and a curl with an empty body."""

    def test_the_curl(self, desk: Desk) -> None:
        """Its body is empty: the answer is a 400 in the dialect."""
        command = """curl --location --request POST 'ADDRESS/v1/chat/completions' \\
--header 'Authorization: Bearer KEY' \\
--header 'Content-Type: application/json' \\
--data-raw ''"""
        answer = curl(desk.fill(command))

        assert answer.status == 400
        assert json.loads(answer.body)["error"]["type"] == "invalid_request_error"

    def test_every_parameter(self, desk: Desk) -> None:
        """All it lists at once, a user's message with a `tool_call_id` and a null `logit_bias` among them. The bound of
        the answer goes to the vendor in the field that it reads."""
        request = {
            "model": desk.model,
            "messages": [{"content": "Hello", "role": "user", "tool_call_id": "call_0"}],
            "max_tokens": 64,
            "top_p": 0,
            "logit_bias": None,
            "user": "somebody",
            "n": 1,
            "stop": "END",
            "stream": False,
            "presence_penalty": 0,
            "temperature": 0,
            "frequency_penalty": 0,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"description": "d", "name": "thing", "strict": True, "schema": {}},
            },
            "seed": 0,
            "tools": [{"type": "function", "function": {"description": "d", "name": "use", "parameters": {}}}],
            "tool_choice": "auto",
        }
        answer = desk.customer.http.post("/v1/chat/completions", json=request)

        assert answer.status_code == 200, answer.text
        bound = request.pop("max_tokens")
        assert desk.sent() == request | {"model": desk.sent()["model"], "max_completion_tokens": bound}
        shown = answer.json()
        assert {"id", "object", "created", "choices", "usage", "system_fingerprint"} <= set(shown)
        assert {"index", "message", "finish_reason"} <= set(shown["choices"][0])
        desk.assert_paid(1)


class TestIkuncode:
    """A document with bounds, a 401 body, and the official client."""

    def test_the_curl(self, desk: Desk) -> None:
        """POST by name, with a system message in Chinese."""
        command = """curl -X POST "ADDRESS/v1/chat/completions" \\
  -H "Content-Type: application/json" \\
  -H "Authorization: Bearer KEY" \\
  -d '{
    "model": "MODEL",
    "messages": [
      {"role": "system", "content": "你是一个有帮助的AI助手。"},
      {"role": "user", "content": "你好, 请介绍一下自己。"}
    ],
    "temperature": 0.7,
    "max_tokens": 1024,
    "stream": false
  }'"""
        answer = curl(desk.fill(command))

        assert answer.status == 200
        assert json.loads(answer.body)["choices"][0]["message"]["content"] == SAID.text
        desk.assert_paid(1)

    def test_the_python_example(self, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
        """The official client with a base URL that ends in /v1."""
        desk.run("""
from openai import OpenAI

client = OpenAI(
    api_key="KEY",
    base_url="ADDRESS/v1"
)

response = client.chat.completions.create(
    model="MODEL",
    messages=[
        {"role": "system", "content": "你是一个有帮助的AI助手。"},
        {"role": "user", "content": "你好, 请介绍一下自己。"}
    ],
    temperature=0.7,
    max_tokens=1024
)

print(response.choices[0].message.content)
""")
        assert capsys.readouterr().out == f"{SAID.text}\n"
        desk.assert_paid(1)

    def test_parts_in_a_message(self, desk: Desk) -> None:
        """Content as a list of text and image parts."""
        parts = [
            {"type": "text", "text": "请描述这张图片"},
            {"type": "image_url", "image_url": {"url": "https://example.com/image.jpg"}},
        ]
        answer = desk.customer.chat(desk.model, messages=[{"role": "user", "content": parts}])

        assert answer.status_code == 200, answer.text
        assert desk.sent()["messages"][0]["content"] == parts

    def test_the_401_body(self, desk: Desk) -> None:
        """The document's own, with a `param` that is null."""
        headers = {"Authorization": "Bearer sk-xxxx"}
        answer = httpx.post(f"{desk.url}/v1/chat/completions", json={}, headers=headers)

        assert answer.status_code == 401
        assert answer.json() == {
            "error": {
                "message": "Invalid API key",
                "type": "authentication_error",
                "code": "invalid_api_key",
                "param": None,
            }
        }
