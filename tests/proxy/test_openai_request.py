"""Chat completion requests: checked where the documents bound them, and passed on otherwise as they came."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base.errors import InvalidField
from app.proxy.relay.dialects.openai_chat import DEFAULT_MAX_TOKENS, write_request
from tests.proxy.makers import body, order


def _written(raw: bytes, usage_in_streams: bool = True, requires_max_tokens: bool = False) -> bytes:
    return write_request(
        order(raw), "vendor-small", usage_in_streams=usage_in_streams, requires_max_tokens=requires_max_tokens
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ...}, "model"),
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"model": "x" * 201}, "model"),
        ({"messages": ...}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"content": "Hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "Hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "Hi"}, {"role": "tool", "content": None}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}, "messages[0].content[0].type"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": 1.5}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_completion_tokens": 10**12}, "max_completion_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"frequency_penalty": -3}, "frequency_penalty"),
        ({"tools": [{"function": {}}]}, "tools[0].type"),
        ({"response_format": {}}, "response_format.type"),
    ],
)
def test_a_bad_field_is_named(fields: dict[str, Any], param: str) -> None:
    """400 with the path of the field at fault, and a message that names it too."""
    with pytest.raises(InvalidField) as refusal:
        order(**fields)
    assert (refusal.value.status, refusal.value.param) == (400, param)
    assert param in refusal.value.message


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'"text"', b"\xff", b"[" * 100_000, b'{"model": NaN}'])
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    """No field is at fault then; the answer is a 400 all the same."""
    with pytest.raises(InvalidField) as refusal:
        order(raw)
    assert refusal.value.param is None


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0, "top_p": 1, "n": 1, "max_tokens": 1, "presence_penalty": -2, "frequency_penalty": 2},
        {"temperature": None, "top_p": None, "n": None, "stream": None, "stream_options": None, "max_tokens": None},
        {"stop": "END"},
        {"stop": ["a", "b"]},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "call_1"}]}]},
        {"messages": [{"role": "developer", "content": "Be brief"}, {"role": "user", "content": ""}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "x": 1}], "x": {"y": 2}}]},
        {"tool_choice": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
        {"tool_choice": {"type": "function", "function": {"name": "f"}}, "reasoning_effort": "low"},
        {"response_format": {"type": "json_object"}, "logit_bias": {"50256": -100}, "seed": 7, "user": "u"},
    ],
)
def test_good_requests_are_taken(fields: dict[str, Any]) -> None:
    """Bounds are part of the range, null is as good as left out, and unknown things are the vendor's business."""
    assert order(**fields).model == "small"


def test_what_an_order_knows() -> None:
    """All that later steps need is read here, once."""
    messages = [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}]},
    ]
    read = order(messages=messages, n=3, stream=True, stream_options={"include_usage": True}, max_tokens=5)
    assert (read.answers, read.stream, read.wants_usage, read.output_limit) == (3, True, True, 5)
    assert read.prompt == ("Be brief", "Hi", "there")
    plain = order()
    assert (plain.answers, plain.stream, plain.wants_usage, plain.output_limit) == (1, False, False, None)


def test_of_two_limits_the_smaller_bounds_the_answer() -> None:
    """Both are the customer's word; the bound is written for each vendor in the field that it reads."""
    assert order(max_tokens=5, max_completion_tokens=9).output_limit == 5
    assert order(max_tokens=9, max_completion_tokens=5).output_limit == 5
    assert order(max_tokens=9, max_completion_tokens=None).output_limit == 9


def test_the_bytes_of_a_prompt_bound_its_tokens() -> None:
    """A token is a byte at least; the data of a picture is bounded by the model instead."""
    assert order().input_bound == len(body())
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    asked = order(messages=[{"role": "user", "content": [{"type": "text", "text": "See"}, picture]}])
    assert asked.text_bytes < 1_000
    assert [part.size for part in asked.media] == [1_000_022]


def test_unknown_fields_survive_byte_for_byte() -> None:
    """Order, notation and nulls stay; only the model is the vendor's now."""
    messages = b'[{"role":"user","content":"\\u00e9"}]'
    raw = b'{"x":1.0e5,"model":"small","big":12345678901234567890,"messages":' + messages + b',"y":null}'
    assert _written(raw) == raw.replace(b'"small"', b'"vendor-small"')


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(extra=st.dictionaries(st.text(min_size=1).map(lambda name: f"x_{name}"), _json, max_size=4))
def test_any_extra_field_arrives(extra: dict[str, Any]) -> None:
    """Whatever customers send that we do not know, the vendor gets it."""
    written = msgspec.json.decode(_written(body(**extra)))
    assert written == msgspec.json.decode(body(**extra)) | {"model": "vendor-small"}


@pytest.mark.parametrize(
    ("fields", "usage_in_streams", "options"),
    [
        ({"stream": True}, True, {"include_usage": True}),
        ({"stream": True, "stream_options": None}, True, {"include_usage": True}),
        ({"stream": True, "stream_options": {"x": 1}}, True, {"x": 1, "include_usage": True}),
        ({"stream": True, "stream_options": {"include_usage": False}}, True, {"include_usage": True}),
        ({"stream": True, "stream_options": {"include_usage": True, "x": 1}}, True, {"include_usage": True, "x": 1}),
        ({"stream": True}, False, None),
        ({"stream": False}, True, None),
        ({}, True, None),
    ],
)
def test_usage_is_asked_of_every_stream(
    fields: dict[str, Any], usage_in_streams: bool, options: dict[str, Any] | None
) -> None:
    """Unless the vendor is known to refuse it; what the customer set beside it stays."""
    written = msgspec.json.decode(_written(body(**fields), usage_in_streams=usage_in_streams))
    assert written.get("stream_options") == options


@pytest.mark.parametrize(
    ("fields", "required", "sent"),
    [
        ({}, False, None),
        ({}, True, DEFAULT_MAX_TOKENS),
        ({"max_tokens": None}, True, DEFAULT_MAX_TOKENS),
        ({"max_tokens": 5}, True, 5),
        ({"max_completion_tokens": 5}, True, 5),
    ],
)
def test_max_tokens_is_added_only_where_it_is_required(
    fields: dict[str, Any], required: bool, sent: int | None
) -> None:
    """A customer's own limit is never replaced, whichever name it came by."""
    assert msgspec.json.decode(_written(body(**fields), requires_max_tokens=required)).get("max_tokens") == sent


@pytest.mark.parametrize(
    ("sent", "name", "meant"),
    [
        (b'"n":1.0', "n", b"1"),
        (b'"seed":5.0', "seed", b"5"),
        (b'"seed":-5e0', "seed", b"-5"),
        (b'"user":123', "user", b'"123"'),
        (b'"n":1.0,"user":123,"max_tokens":10.0,"seed":1', "user", b'"123"'),
    ],
)
def test_a_value_whose_meaning_is_plain_is_taken(sent: bytes, name: str, meant: bytes) -> None:
    """It reaches the vendor as OpenAI has it; all else keeps its bytes."""
    raw = b'{"model":"small","messages":[{"role":"user","content":"\\u00e9"}],"x":1.0,"top_p":1.0,%b}' % sent
    asked = order(raw)
    assert bytes(asked.body[name]) == meant
    assert bytes(asked.body["x"]) == b"1.0"
    assert bytes(asked.body["messages"]) == b'[{"role":"user","content":"\\u00e9"}]'


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_bound_that_is_a_whole_float_bounds(name: str) -> None:
    asked = order(body(**{name: 10.0}))
    assert asked.output_limit == 10
    written = write_request(asked, "v", usage_in_streams=True, requires_max_tokens=False, limit_field="both")
    assert b'"max_tokens":10,"max_completion_tokens":10' in written


@pytest.mark.parametrize(
    "field",
    [
        *({"max_tokens": value} for value in (10.5, "10", True, 0.0, 1e300, [])),
        *({"n": value} for value in (1.5, 0.0, 1000.0)),
        *({"seed": value} for value in (5.5, "5", 1e300)),
        *({"user": value} for value in (1.5, True, [], {})),
    ],
)
def test_a_value_that_openai_refuses_is_refused_by_name(field: dict[str, Any]) -> None:
    """Also beside one that is taken as it was meant."""
    for beside in ({}, {"max_completion_tokens": 3.0}):
        with pytest.raises(InvalidField) as refused:
            order(body(**field, **beside))
        assert refused.value.param == next(iter(field))
