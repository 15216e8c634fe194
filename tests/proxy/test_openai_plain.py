"""Plain chat completions: what is read from the body, and what the customer sees of it."""

from typing import Any

import msgspec
import pytest

from app.proxy.records import Usage
from app.proxy.relay.dialects.openai_answer import BrokenAnswer, read_plain, shown_body

Json = dict[str, Any]

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


def _body(message: Json | None = None, finish: str | None = "stop", **fields: Any) -> bytes:
    said = {"role": "assistant", "content": "Hello"} if message is None else message
    choice = {"index": 0, "message": said, "finish_reason": finish}
    return msgspec.json.encode({"id": "c", "model": "vendor-small", "choices": [choice], **fields})


def test_an_answer_is_read_and_renamed() -> None:
    """Usage, finish and text are read; the body is the vendor's, under the public name."""
    answer = read_plain(_body(usage=USAGE, extra={"kept": 1.5}), "small")
    assert answer.usage == Usage(input_tokens=11, output_tokens=7)
    assert (answer.finish_reason, answer.output) == ("stop", "Hello")
    assert msgspec.json.decode(answer.body) == msgspec.json.decode(_body(usage=USAGE, extra={"kept": 1.5})) | {
        "model": "small"
    }


def test_numbers_and_unknown_fields_keep_their_bytes() -> None:
    """Nothing is parsed that need not be: a rewritten float would be another one."""
    body = b'{"x":1.0e5,"y":12345678901234567890,"choices":[{"message":{"content":"a"}}],"model":"vendor"}'
    expected = b'{"x":1.0e5,"y":12345678901234567890,"choices":[{"message":{"content":"a"}}],"model":"small"}'
    assert read_plain(body, "small").body == expected


@pytest.mark.parametrize(
    "body",
    [
        '{"model":"v","choices":[CHOICE]}',
        '{"id":"c", "model": "v", "choices": [CHOICE]}',
        '{"id":"c","model" : "v","choices":[CHOICE]}',
        '\n{\n  "id": "c",\n  "model":\n "v",\n  "choices": [CHOICE]\n}\n',
        '{"choices":[CHOICE],"model":"v"}',
        '{"choices":[CHOICE]}',
        '{"model":null,"choices":[CHOICE]}',
        '{"model":"x","choices":[CHOICE],"model":"v"}',
        '{"model":"v","choices":[CHOICE],"model":"v"}',
        '{"extra":{"model":"v"},"model":"v","choices":[CHOICE]}',
        '{"extra":{"model":"v"},"choices":[CHOICE],"mod\\u0065l":"v"}',
        '{"a\\"model":"v","choices":[CHOICE],"model":"v"}',
        '{"a\\"model":"v","choices":[CHOICE],"mod\\u0065l":"v"}',
        '{"note":"{\\"model\\":\\"v\\"}","model":"v","choices":[CHOICE]}',
        '{"model" :" :","choices":[CHOICE]}',
        '{"model":"caf\\u00e9","choices":[CHOICE]}',
        '{"model":"café \\"v\\"","choices":[CHOICE]}',
    ],
)
def test_only_the_answers_own_model_is_renamed(body: str) -> None:
    """However the vendor writes it, and whatever else has a field of that name."""
    call = {"type": "function", "function": {"name": "f", "arguments": '{"model":"v"}'}, "model": "v"}
    for said in ({"content": 'say "model":"v"'}, {"content": "a", "tool_calls": [call]}):
        sent = body.replace("CHOICE", msgspec.json.encode({"message": said}).decode())
        shown = msgspec.json.decode(read_plain(sent.encode(), "small \U0001f600").body)
        assert shown == msgspec.json.decode(sent) | {"model": "small \U0001f600"}


def test_usage_that_is_missing_is_none() -> None:
    """Then it is estimated, from the texts of all answers."""
    body = b'{"choices":[{"index":0,"message":{"content":"a"}},{"index":1,"message":{"content":"b"}}]}'
    answer = read_plain(body, "small")
    assert (answer.usage, answer.output, answer.finish_reason) == (None, "ab", None)


def test_an_explicit_zero_is_a_zero() -> None:
    answer = read_plain(_body(usage={"prompt_tokens": 0, "completion_tokens": 0}), "small")
    assert answer.usage == Usage()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"<html>busy</html>",
        b"[]",
        b"{}",
        b'{"choices": null}',
        b'{"choices": []}',
        b'{"choices": [{"message": {"role": "assistant", "content": null}}]}',
        b'{"choices": [{"message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}]}',
        b'{"error": {"message": "overloaded"}}',
        b'{"error": {"message": "overloaded"}, "choices": [{"message": {"content": "a"}}]}',
        b'{"choices": [{"message": {"content": "cut of',
        b"\xff\xfe{}",
        b"[" * 100_000,
    ],
)
def test_a_200_that_is_no_answer_is_broken(body: bytes) -> None:
    """Garbage, emptiness and errors in disguise are failures that another channel can still make good."""
    with pytest.raises(BrokenAnswer):
        read_plain(body, "small")


@pytest.mark.parametrize(
    ("message", "finish", "usage"),
    [
        ({"role": "assistant", "content": ""}, "content_filter", None),
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "type": "function"}]}, "stop", None),
        ({"role": "assistant", "content": None, "refusal": "I will not."}, "stop", None),
        ({"role": "assistant", "content": [{"type": "text", "text": "parts"}]}, "stop", None),
        ({"role": "assistant", "content": ""}, "length", USAGE),
    ],
)
def test_answers_without_text_that_are_answers(message: Json, finish: str, usage: Json | None) -> None:
    """Filtered, calling tools, refusing, or all spent on thinking: the vendor did its work, and is not asked again."""
    assert read_plain(_body(message, finish, usage=usage), "small").finish_reason == finish


def test_a_body_that_says_what_was_billed_keeps_its_bytes() -> None:
    usage = b'{"prompt_tokens": 11,"completion_tokens":7,"total_tokens":18 , "x":1.0e5}'
    body = b'{ "model":"small", "choices":[{"message":{"content":"a"}}], "usage":%b}' % usage
    answer = read_plain(body, "small")
    assert shown_body(answer, Usage(input_tokens=11, output_tokens=7)) == body


@pytest.mark.parametrize(
    "usage", [None, USAGE, USAGE | {"completion_tokens": "7"}, USAGE | {"cost": 0.5}, {"prompt_tokens": 11}, "none"]
)
def test_a_body_that_says_something_else_gets_the_billed_usage(usage: Json | None) -> None:
    """Also where the vendor sent none; all else is the vendor's."""
    answer = read_plain(_body(usage=usage, extra=1), "small")
    billed = Usage(input_tokens=11, output_tokens=8, cached_input_tokens=2, reasoning_tokens=3, cache_write_tokens=1)
    assert msgspec.json.decode(shown_body(answer, billed)) == msgspec.json.decode(_body(extra=1)) | {
        "model": "small",
        "usage": {
            "prompt_tokens": 11,
            "completion_tokens": 8,
            "total_tokens": 19,
            "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 1},
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
    }


@pytest.mark.parametrize("name", ["function", "custom"])
def test_tool_calls_count_by_name_and_arguments(name: str) -> None:
    """The JSON around them is the format's."""
    call = {"id": "call_1", "type": name, name: {"name": "f", "arguments" if name == "function" else "input": "{}"}}
    answer = read_plain(_body({"content": None, "tool_calls": [call, "junk", {}]}), "small")
    assert answer.output == "f{}"


def test_parts_of_content_count_by_their_text() -> None:
    """Text, refusals, and thinking in parts of its own, as Mistral has it."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    parts = [thinking, {"type": "text", "text": " yes"}, {"type": "refusal", "refusal": " no"}, 7, None]
    assert read_plain(_body({"content": parts}), "small").output == "hm yes no"


@pytest.mark.parametrize("model", ["small", "vendor"])
def test_half_a_character_breaks_no_answer(model: str) -> None:
    body = rb'{"model":"%b","choices":[{"message":{"content":"a\ud83c"}}]}' % model.encode()
    answer = read_plain(body, "small")
    assert answer.output == "a\ufffd"
    assert rb"\ud83c" in answer.body


@pytest.mark.parametrize("model", ["small", "vendor"])
def test_half_a_character_is_passed_on_where_the_usage_is_rewritten(model: str) -> None:
    """Also under another name of the model, after its fields were read one by one."""
    body = rb'{"x":{},"choices":[{"message":{"content":"a\ud83c"}},{"message":{"content":"\udf89"}}],"model":"%b"}'
    answer = read_plain(body % model.encode(), "small")
    shown = shown_body(answer, Usage(input_tokens=1, output_tokens=2))
    assert rb'"a\ud83c"' in shown
    assert rb'"\udf89"' in shown
    assert b'"model":"small"' in shown
    assert b'"completion_tokens":2' in shown


ODD = {
    "id": b'{"id":123,"model":"v","choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}]}',
    "index": b'{"model":"v","choices":[{"index":null,"message":{"content":"a"},"finish_reason":"stop"}]}',
    "index as text": b'{"model":"v","choices":[{"index":"0","message":{"content":"a"},"finish_reason":"stop"}]}',
    "created": b'{"created":"17","model":"v","choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}',
    "model": b'{"id":1.5,"model":null,"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}',
    "model as number": b'{"model":7,"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}',
    "mark": b'\xef\xbb\xbf{"model":"v","choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}',
}


@pytest.mark.parametrize("name", ODD)
def test_an_answer_with_small_types_of_its_own_is_read(name: str) -> None:
    """Its meaning is plain; the customer sees it under the public name, as JSON without a byte order mark."""
    answer = read_plain(ODD[name], "small")
    assert (answer.output, answer.finish_reason) == ("a", "stop")
    assert answer.body.startswith(b"{")
    assert msgspec.json.decode(answer.body)["model"] == "small"


def test_a_number_for_a_finish_reason_says_that_there_is_one() -> None:
    body = b'{"model":"v","choices":[{"message":{"content":"a"},"finish_reason":1}]}'
    assert read_plain(body, "small").finish_reason == "1"


OPERATORS = {"cost": 0.1, "cost_details": {"upstream_inference_cost": 0.05}, "provider": "Cheap Inc"}


@pytest.mark.parametrize("names", [["cost"], ["cost_details"], ["provider"], ["cost", "cost_details", "provider"]])
@pytest.mark.parametrize("model", ["small", "vendor-small"])
def test_what_a_gateway_tells_of_its_vendors_is_the_operators(names: list[str], model: str) -> None:
    """At the top as in the usage; the text about such things is the customer's."""
    told = {name: OPERATORS[name] for name in names}
    said = {"role": "assistant", "content": 'Its "cost": 5, "provider": me'}
    sent = _body(said, usage=USAGE | told, **told, system_fingerprint="fp").replace(b"vendor-small", model.encode())
    answer = read_plain(sent, "small")
    shown = msgspec.json.decode(shown_body(answer, Usage(input_tokens=11, output_tokens=7)))
    assert shown.keys().isdisjoint(OPERATORS)
    assert shown["usage"].keys().isdisjoint(OPERATORS)
    assert (shown["choices"][0]["message"], shown["system_fingerprint"]) == (said, "fp")
    assert shown["model"] == "small"


def test_an_answer_that_speaks_of_costs_keeps_its_bytes() -> None:
    body = b'{ "model":"small", "choices":[{"message":{"content":"a","x":{"cost":1,"provider":2}}}] }'
    assert read_plain(body, "small").body == body
