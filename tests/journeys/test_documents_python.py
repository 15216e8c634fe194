"""More documents whose examples run as they stand: mostly of the Python client, and one curl each."""

import json

import pytest

from tests.curl import curl
from tests.journeys.desk import SAID, Desk


class TestMegallm:
    """A document of many short Python examples."""

    SETUP = """
from openai import OpenAI
import openai

client = OpenAI(
    base_url="ADDRESS/v1",
    api_key="KEY"
)
"""

    def test_the_basic_example(self, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
        """System and user, a temperature and a limit."""
        desk.run(
            self.SETUP
            + """
response = client.chat.completions.create(
    model="MODEL",
    messages=[
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "What's the weather like?"}
    ],
    temperature=0.7,
    max_tokens=150
)

print(response.choices[0].message.content)
"""
        )
        assert capsys.readouterr().out == f"{SAID.text}\n"
        desk.assert_paid(1)

    def test_the_curl(self, desk: Desk) -> None:
        """With a quote inside the quotes, as shells want it."""
        command = """curl ADDRESS/v1/chat/completions \\
      -H "Authorization: Bearer KEY" \\
      -H "Content-Type: application/json" \\
      -d '{
        "model": "MODEL",
        "messages": [
          {"role": "system", "content": "You are a helpful assistant."},
          {"role": "user", "content": "What'\\''s the weather like?"}
        ],
        "temperature": 0.7,
        "max_tokens": 150
      }'"""
        answer = curl(desk.fill(command))

        assert answer.status == 200
        assert desk.sent()["messages"][1]["content"] == "What's the weather like?"
        desk.assert_paid(1)

    def test_the_other_python_examples(self, desk: Desk) -> None:
        """Temperatures, a conversation of several turns, a picture, a summary, a classification."""
        desk.run(
            self.SETUP
            + """
for temperature in (0.2, 0.5, 0.9, 0.0):
    client.chat.completions.create(
        model="MODEL",
        messages=[{"role": "user", "content": "将情感分类为积极、消极或中性。"}],
        temperature=temperature,
        max_tokens=10
    )

messages = [
    {"role": "system", "content": "你是一个数学导师。"},
    {"role": "user", "content": "15 * 12 是多少?"},
    {"role": "assistant", "content": "15 * 12 = 180"},
    {"role": "user", "content": "现在把它除以 6"}
]
client.chat.completions.create(model="MODEL", messages=messages)

client.chat.completions.create(
    model="MODEL",
    messages=[
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "这张图片里有什么?"},
                {
                    "type": "image_url",
                    "image_url": {
                        "url": "https://example.com/image.jpg",
                        "detail": "high"  # "low", "high", 或 "auto"
                    }
                }
            ]
        }
    ],
    max_tokens=300
)
"""
        )
        assert len(desk.sent(4)["messages"]) == 4
        assert desk.sent(5)["messages"][0]["content"][1]["image_url"]["detail"] == "high"
        desk.assert_paid(6)

    def test_the_error_handling(self, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
        """What goes wrong is an `APIError` of the official client."""
        desk.run(
            self.SETUP
            + """
try:
    response = client.chat.completions.create(
        model="no-such-model", messages=[{"role": "user", "content": "Hello!"}]
    )
except openai.APIError as e:
    print(f"API 错误: {e}")
"""
        )
        assert "404" in capsys.readouterr().out


class TestOpenai:
    """A document whose base URL has no /v1: the client then asks for /chat/completions."""

    def test_the_python_example(self, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
        """The address alone is a good base URL, too."""
        desk.run("""
from openai import OpenAI

client = OpenAI(
    base_url="ADDRESS",  # 例如: https://api.openai.com
    api_key="KEY"
)

response = client.chat.completions.create(
    model="MODEL",
    messages=[
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Hello!"}
    ],
    temperature=0.7,
    max_tokens=150
)

print(response.choices[0].message.content)
""")
        assert capsys.readouterr().out == f"{SAID.text}\n"
        desk.assert_paid(1)

    def test_the_curl(self, desk: Desk) -> None:
        """Its curl, though, has /v1 in the path."""
        command = """curl ADDRESS/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -H "Authorization: Bearer KEY" \\
  -d '{
    "model": "MODEL",
    "messages": [
      {
        "role": "system",
        "content": "You are a helpful assistant."
      },
      {
        "role": "user",
        "content": "Hello!"
      }
    ],
    "temperature": 0.7,
    "max_tokens": 150
  }'"""
        answer = curl(desk.fill(command))

        assert answer.status == 200
        assert json.loads(answer.body)["model"] == desk.model
        desk.assert_paid(1)

    def test_the_error_handling(
        self, desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A wrong key is an `OpenAIError` that says so."""
        monkeypatch.setenv("OPENAI_BASE_URL", desk.url)
        desk.run(
            """
from openai import OpenAI, OpenAIError

client = OpenAI(api_key="YOUR_API_KEY")

try:
    response = client.chat.completions.create(
        model="MODEL",
        messages=[{"role": "user", "content": "Hello!"}]
    )
    print(response.choices[0].message.content)
except OpenAIError as e:
    print(f"API Error: {e}")
""".replace("YOUR_API_KEY", "sk-not-mine")
        )
        assert "Invalid API key" in capsys.readouterr().out
