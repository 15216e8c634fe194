"""A whole answer to a request for a stream is told from events, however its bytes come."""

import msgspec
import pytest

from app.proxy.records import Usage
from app.proxy.relay.answer_splitter import AnswerSplitter
from app.proxy.relay.dialects.openai_answer import StreamReader

CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
WHOLE = msgspec.json.encode(
    {
        "id": "c",
        "object": "chat.completion",
        "model": "vendor",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"},
            {"message": {"role": "assistant", "content": None, "tool_calls": [CALL]}, "finish_reason": "tool_calls"},
        ],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    }
)
EVENTS = b': hello\n\ndata: {"choices":[]}\n\ndata: [DONE]\n\n'


def _payloads(body: bytes, step: int) -> tuple[list[bytes], bool]:
    splitter = AnswerSplitter()
    found = [each for at in range(0, len(body), step) for each in splitter.feed(body[at : at + step])]
    return found + splitter.finish(), splitter.is_whole


@pytest.mark.parametrize("step", [1, 2, 7, 100_000])
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\r\n \n", b"\n" * 5])
def test_a_whole_answer_is_one_payload(before: bytes, step: int) -> None:
    """Which the reader of streams takes for all of the answer: texts, calls of tools with their index, usage, ends."""
    (payload,), is_whole = _payloads(before + WHOLE, step)
    assert is_whole
    reader = StreamReader("small", wants_usage=False, answers=2)
    frame = reader.read(payload)
    reader.end()
    shown = msgspec.json.decode(frame.data.removeprefix(b"data: "))
    assert (shown["object"], shown["model"]) == ("chat.completion.chunk", "small")
    assert [choice["index"] for choice in shown["choices"]] == [0, 1]
    assert shown["choices"][0]["delta"] == {"role": "assistant", "content": "Hello"}
    assert shown["choices"][1]["delta"]["tool_calls"] == [{"index": 0, **CALL}]
    assert (frame.content, reader.finished, reader.is_usage_final) == (True, True, True)
    assert reader.usage == Usage(input_tokens=11, output_tokens=7)


@pytest.mark.parametrize("step", [1, 2, 7, 100_000])
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\r\n\n"])
def test_events_stay_events(before: bytes, step: int) -> None:
    assert _payloads(before + EVENTS, step) == ([b'{"choices":[]}', b"[DONE]"], False)


@pytest.mark.parametrize("body", [b"{", b'{"choices": 7}', b'{"error": {"message": "no"}}', b'{"choices": [{}]}'])
def test_what_is_no_answer_is_left_to_the_reader(body: bytes) -> None:
    """It names the fault."""
    (payload,), is_whole = _payloads(body, 100)
    assert is_whole
    assert payload


def test_half_a_character_is_passed_on() -> None:
    (payload,), _ = _payloads(rb'{"choices":[{"message":{"content":"a\ud83c"}}]}', 100)
    assert rb'{"content":"a\ud83c"}' in payload
