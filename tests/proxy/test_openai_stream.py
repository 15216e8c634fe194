"""Streamed chat completions: what is read from each chunk, and what the customer sees of it."""

from typing import Any

import msgspec
import pytest

from app.proxy.records import Usage
from app.proxy.relay.dialects.openai_answer import BrokenAnswer, Frame, StreamReader, usage_event

Json = dict[str, Any]

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


def _chunk(delta: Json | None = None, finish: str | None = None, **fields: Any) -> Json:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {"id": "c", "object": "chat.completion.chunk", "model": "vendor-small", "choices": choices, **fields}


def _reader(wants_usage: bool = False, answers: int = 1) -> StreamReader:
    return StreamReader("small", wants_usage, answers)


def _read(reader: StreamReader, *chunks: Json) -> list[Frame]:
    return [reader.read(msgspec.json.encode(chunk)) for chunk in chunks]


def _shown(frame: Frame) -> Json:
    assert frame.data.startswith(b"data: ")
    assert frame.data.endswith(b"\n\n")
    assert frame.data.count(b"\n") == 2
    shown: Json = msgspec.json.decode(frame.data[6:])
    return shown


@pytest.mark.parametrize("wants_usage", [True, False])
def test_a_whole_answer(wants_usage: bool) -> None:
    """Role, text, finish, usage: read to its end, shown under the public name, usage only where it was asked for."""
    reader = _reader(wants_usage)
    frames = _read(
        reader,
        _chunk({"role": "assistant", "content": ""}, usage=None),
        _chunk({"content": "Hel"}, usage=None),
        _chunk({"content": "lo"}, usage=None),
        _chunk({}, "stop", usage=None),
        _chunk(usage=USAGE),
    )
    assert [frame.content for frame in frames] == [False, True, True, False, False]
    assert (reader.output, reader.finish_reason, reader.finished) == ("Hello", "stop", True)
    assert reader.usage == Usage(input_tokens=11, output_tokens=7)
    assert reader.usage_shown == wants_usage
    assert all(_shown(frame)["model"] == "small" for frame in frames if frame.data)
    assert all(("usage" in _shown(frame)) == wants_usage for frame in frames if frame.data)
    if wants_usage:
        assert _shown(frames[-1])["choices"] == []
        assert _shown(frames[-1])["usage"] == USAGE
    else:
        assert frames[-1].data == b""


def test_usage_with_the_last_content() -> None:
    """Content, finish_reason and usage can share one frame: all three are read, and the content is shown."""
    reader = _reader()
    (frame,) = _read(reader, _chunk({"content": "Hi"}, "stop", usage=USAGE))
    assert frame.content
    assert (reader.output, reader.finish_reason) == ("Hi", "stop")
    assert reader.usage == Usage(input_tokens=11, output_tokens=7)
    assert _shown(frame)["choices"][0]["delta"] == {"content": "Hi"}
    assert "usage" not in _shown(frame)


def test_usage_in_every_chunk_is_cumulative() -> None:
    """The last one counts; adding them up would bill an answer many times."""
    reader = _reader()
    _read(reader, *(_chunk({"content": "x"}, usage=USAGE | {"completion_tokens": so_far}) for so_far in (1, 2, 3)))
    assert reader.usage == Usage(input_tokens=11, output_tokens=3)


def test_a_null_usage_after_a_real_one_takes_nothing_back() -> None:
    reader = _reader()
    _read(reader, _chunk(usage=USAGE), _chunk({"content": "x"}, usage=None), _chunk({}, "stop"))
    assert reader.usage == Usage(input_tokens=11, output_tokens=7)


def test_pieces_of_tool_calls_pass_untouched() -> None:
    """Index and fragments are the vendor's: nothing is joined, renumbered or dropped."""
    pieces: list[Json] = [
        {"tool_calls": [{"index": 1, "id": "call_b", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": '{"a":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": " 1}"}}, {"index": 1, "function": {"arguments": "2"}}]},
    ]
    reader = _reader()
    frames = _read(reader, *(_chunk(piece) for piece in pieces), _chunk({}, "tool_calls"))
    assert [_shown(frame)["choices"][0]["delta"] for frame in frames[:3]] == pieces
    assert all(frame.content for frame in frames[:3])
    assert reader.finish_reason == "tool_calls"
    assert "call_b" in reader.output, "they were generated, and count where the vendor sends no usage"


def test_several_answers_end_one_by_one() -> None:
    """With n above 1 the stream is complete when every index has its finish_reason."""
    reader = _reader(answers=2)
    for index in (1, 0):
        assert not reader.finished
        reader.read(b'{"choices":[{"index":%d,"delta":{},"finish_reason":"stop"}]}' % index)
    assert reader.finished


def test_a_chunk_that_needs_no_change_is_the_vendors_bytes() -> None:
    """Odd spacing, unknown fields, large numbers: what nobody has to touch is passed on byte for byte."""
    raw = b'{ "model":"small", "x" : 1.0e5,"choices":[ {"delta":{"content":"\\u00e9"},"finish_reason":null}]}'
    assert _reader().read(raw) == Frame(b"data: " + raw + b"\n\n", content=True)


def test_a_change_leaves_other_fields_as_they_were() -> None:
    """Renaming the model rewrites nothing else: numbers keep their notation, nulls stay."""
    raw = b'{"model":"vendor","x":1.0e5,"choices":[{"delta":{"content":"a"},"finish_reason":null}],"usage":null}'
    expected = b'{"model":"small","x":1.0e5,"choices":[{"delta":{"content":"a"},"finish_reason":null}]}'
    assert _reader().read(raw).data == b"data: " + expected + b"\n\n"


@pytest.mark.parametrize("model", ["small", "vendor"])
def test_json_over_several_lines_becomes_one(model: str) -> None:
    """A line break inside an event would break it apart for the customer."""
    raw = msgspec.json.format(msgspec.json.encode(_chunk({"content": "a"}) | {"model": model}), indent=2)
    shown = _shown(_reader().read(raw))
    assert (shown["model"], shown["choices"][0]["delta"]) == ("small", {"content": "a"})


@pytest.mark.parametrize(
    "payload",
    [
        b"oops",
        b"[1]",
        b'"text"',
        b'{"choices": 7}',
        b'{"error": {"message": "overloaded"}}',
        b'{"error": "no"}',
        b"{\xff}",
    ],
)
def test_garbage_and_errors_break_the_answer(payload: bytes) -> None:
    """An error event after a 200 is an error, and so is what is no chunk."""
    with pytest.raises(BrokenAnswer):
        _reader().read(payload)


@pytest.mark.parametrize(
    ("delta", "text"),
    [
        ({"reasoning_content": "hm"}, "hm"),
        ({"reasoning": "hm"}, "hm"),
        ({"refusal": "no"}, "no"),
        ({"content": "yes"}, "yes"),
        ({"role": "assistant"}, None),
        ({"content": None}, None),
        ({"content": ""}, None),
    ],
)
def test_what_counts_as_content(delta: Json, text: str | None) -> None:
    """Thinking and refusals are content, a role alone is not: until then another channel can be asked."""
    reader = _reader()
    (frame,) = _read(reader, _chunk(delta))
    assert frame.content == (text is not None)
    assert reader.output == (text or "")


def test_the_usage_chunk_of_ours_has_the_standard_shape() -> None:
    """For a customer who asked, where the vendor sent none: choices are empty, totals add up."""
    event = usage_event(Usage(input_tokens=3, output_tokens=4), "small", 1_700_000_000, "req_1")
    shown = _shown(Frame(event, content=False))
    assert (shown["choices"], shown["model"], shown["object"]) == ([], "small", "chat.completion.chunk")
    assert shown["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def test_the_last_tier_that_a_chunk_names_is_the_one_that_was_served() -> None:
    """What is no name of a tier is none."""
    reader = _reader()
    _read(reader, _chunk({"content": "a"}, service_tier="auto"), _chunk({}, "stop", service_tier="priority"))
    assert reader.service_tier == "priority"
    _read(reader, *(_chunk(service_tier=tier) for tier in (None, 7, ["flex"], "", "no tier\0", "x" * 41)))
    assert reader.service_tier == "priority"


def test_choices_whose_end_was_not_sent_are_closed() -> None:
    """By what the customer was sent, not by what was read: the first frame alone, here."""
    reader = _reader(answers=3)
    _read(
        reader,
        {"id": "c", "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}, {"index": 1}]},
        {"id": "c", "choices": [{"index": 1, "delta": {"content": "b"}, "finish_reason": "stop"}, {"index": 2}]},
    )

    def closed(sent_frames: int) -> list[tuple[int, Json]]:
        events = reader.closing_events(1_700_000_000, "req_1", sent_frames).split(b"\n\n")[:-1]
        chunks = [msgspec.json.decode(event.removeprefix(b"data: ")) for event in events]
        assert all(chunk["id"] == "c" and chunk["model"] == "small" for chunk in chunks)
        (*choices,) = (choice for chunk in chunks for choice in chunk["choices"])
        assert all(choice["finish_reason"] == "length" for choice in choices)
        return [(choice["index"], choice["delta"]) for choice in choices]

    start = {"role": "assistant", "content": ""}
    assert closed(0) == [(0, start), (1, start), (2, start)]
    assert closed(1) == [(1, {}), (2, start)]
    assert closed(2) == [(2, {})]
