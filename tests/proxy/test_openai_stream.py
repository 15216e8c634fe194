"""Streamed chat completions: what is read from each chunk, and what the customer sees of it."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base.tokens import count_tokens_sync
from app.proxy.records import Usage
from app.proxy.relay.dialects.openai_answer import BrokenAnswer, Frame, StreamReader, usage_event
from app.proxy.relay.sse import EventSplitter

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


def _settled(reader: StreamReader, billed: Usage) -> Json | None:
    """The usage chunk as the customer sees it after the settlement."""
    event = reader.usage_event(billed, 1_700_000_000, "req_1")
    return _shown(Frame(event, content=False)) if event else None


@pytest.mark.parametrize("wants_usage", [True, False])
def test_a_whole_answer(wants_usage: bool) -> None:
    """Role, text, finish, usage: read to its end, shown under the public name, usage only where it was asked for, and
    once the request is settled."""
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
    assert all(_shown(frame)["model"] == "small" for frame in frames if frame.data)
    assert all(("usage" in _shown(frame)) == wants_usage for frame in frames if frame.data)
    assert frames[-1].data == b""
    event = _settled(reader, Usage(input_tokens=11, output_tokens=7))
    assert event == (_chunk(usage=USAGE) | {"model": "small"} if wants_usage else None)


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
    assert reader.output == 'f{"a": 1}2', "what was generated counts where the vendor sends no usage"


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
    """For a customer who asked, where the vendor sent none: choices are empty, totals add up, and details that OpenAI
    always has are there."""
    billed = Usage(input_tokens=3, output_tokens=4, cached_input_tokens=2, reasoning_tokens=1)
    event = usage_event(billed, "small", 1_700_000_000, "req_1")
    shown = _shown(Frame(event, content=False))
    assert (shown["choices"], shown["model"], shown["object"]) == ([], "small", "chat.completion.chunk")
    assert shown["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }


def test_a_usage_chunk_that_says_something_else_than_the_bill_is_rewritten() -> None:
    """Capped, estimated, or read in another way: the customer sees the numbers of the receipt; the rest of the chunk is
    the vendor's."""
    reader = _reader(wants_usage=True)
    _read(reader, _chunk({"content": "Hi"}, "stop"), _chunk(usage=USAGE, system_fingerprint="fp"))
    shown = _settled(reader, Usage(input_tokens=11, output_tokens=3))
    assert shown is not None
    assert (shown["usage"]["completion_tokens"], shown["usage"]["total_tokens"]) == (3, 14)
    assert (shown["choices"], shown["model"], shown["system_fingerprint"]) == ([], "small", "fp")


@pytest.mark.parametrize("before", [{"prompt_tokens": -1}, USAGE | {"completion_tokens": 2, "total_tokens": 13}])
def test_a_usage_chunk_is_held_against_the_bill_by_its_own_numbers(before: Json) -> None:
    """Not by those of another chunk, which count: one that says something else is rewritten."""
    reader = _reader(wants_usage=True)
    _read(reader, _chunk(usage=before), _chunk({"content": "Hi"}, "stop", usage=USAGE))
    shown = _settled(reader, Usage(input_tokens=11, output_tokens=7))
    assert shown is not None
    assert (shown["usage"]["prompt_tokens"], shown["usage"]["completion_tokens"]) == (11, 7)


def test_a_usage_chunk_without_a_model_gets_none() -> None:
    """What needs no change is the vendor's bytes."""
    reader = _reader(wants_usage=True)
    raw = msgspec.json.encode({"choices": [], "usage": USAGE, "x": 1})
    reader.read(raw)
    event = reader.usage_event(Usage(input_tokens=11, output_tokens=7), 1_700_000_000, "req_1")
    assert event == b"data: " + raw + b"\n\n"


def test_the_vendors_price_is_not_shown() -> None:
    """Neither OpenRouter's `cost` nor its details: they are the operator's."""
    reader = _reader(wants_usage=True)
    _read(reader, _chunk({"content": "Hi"}, "stop"), _chunk(usage=USAGE | {"cost": 0.1, "cost_details": {"a": 1}}))
    shown = _settled(reader, Usage(input_tokens=11, output_tokens=7))
    assert shown is not None
    assert "cost" not in str(shown)


def test_usage_on_the_way_is_not_shown() -> None:
    """It may say something else than the bill: it is null until the settlement, as OpenAI has it."""
    reader = _reader(wants_usage=True)
    frames = _read(reader, _chunk({"content": "Hi"}, usage=USAGE), _chunk({}, "stop", usage=USAGE | {"cost": 1}))
    assert [_shown(frame)["usage"] for frame in frames] == [None, None]
    shown = _settled(reader, Usage(input_tokens=11, output_tokens=7))
    assert shown is not None
    assert shown["usage"]["total_tokens"] == 18


LOW = {"prompt_tokens": 0, "completion_tokens": 1, "total_tokens": 1}
EARLY = _chunk({"content": "a"}, usage=LOW)
FINISH = _chunk({}, "stop")


@pytest.mark.parametrize(
    ("chunks", "is_done", "is_final"),
    [
        ([EARLY], False, False),
        ([EARLY, FINISH], False, False),  # its finish came later
        ([EARLY, FINISH], True, True),
        ([_chunk({"content": "a"}, "stop", usage=LOW)], False, True),
        ([FINISH, _chunk(usage=LOW)], False, True),
        ([_chunk(usage=LOW)], False, False),  # some vendors count as they go, in chunks of their own
        ([_chunk({"content": "a"}), _chunk(usage=LOW)], False, False),
        ([_chunk({"content": "a"}), _chunk(usage=LOW)], True, True),
        ([_chunk(usage=LOW), _chunk({"content": "a"}, "stop")], True, False),  # more was generated after it
        ([EARLY, _chunk({"content": "b"}), FINISH], True, False),
        ([FINISH, _chunk(usage={"prompt_tokens": 9})], True, False),  # it does not say how long the answer is
        ([FINISH], True, False),
    ],
)
def test_when_a_usage_is_the_last_word(chunks: list[Json], is_done: bool, is_final: bool) -> None:
    """At a terminal event (every finish_reason, or [DONE]), with nothing generated after it. Until then a vendor may be
    counting still."""
    reader = _reader()
    _read(reader, *chunks)
    if is_done:
        reader.end()
    assert reader.is_usage_final == is_final


def test_a_usage_that_says_less_takes_nothing_back() -> None:
    """Garbage, or one without the answer's length, after a whole one."""
    reader = _reader()
    _read(reader, _chunk(usage=USAGE), _chunk(usage={"prompt_tokens": 3}), _chunk(usage={"prompt_tokens": -1}))
    assert reader.usage == Usage(input_tokens=11, output_tokens=7)


ARGUMENTS = msgspec.json.encode({f"city_{number}": "Berlin" for number in range(20)}).decode()


def test_streamed_tool_calls_count_by_name_and_arguments() -> None:
    """Not with the JSON around each piece, which is ten times as long: neither in the text nor in its bytes."""
    pieces = [ARGUMENTS[start : start + 3] for start in range(0, len(ARGUMENTS), 3)]
    head = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    reader = _reader()
    _read(
        reader,
        _chunk({"tool_calls": [head]}),
        *(_chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in pieces),
    )
    assert reader.output == "weather" + ARGUMENTS
    assert reader.output_bytes == len("weather" + ARGUMENTS)
    assert count_tokens_sync([reader.output]) <= count_tokens_sync(["weather", ARGUMENTS])


HALVES = (rb"\ud83c", rb"\udf88")


@pytest.mark.parametrize("model", ["small", "vendor"])
@pytest.mark.parametrize("wants_usage", [True, False])
def test_half_a_character_cuts_no_stream(model: str, wants_usage: bool) -> None:
    """A vendor that cuts its text between two escapes of one character: the halves are passed on as they came, for
    clients that join them, and each counts as a character."""
    reader = _reader(wants_usage)
    for half in HALVES:
        raw = b'{"model":"%b","choices":[{"delta":{"content":"a%b"}}]}' % (model.encode(), half)
        frame = reader.read(raw)
        assert frame.content
        assert half in frame.data
    assert reader.output == "a\ufffda\ufffd"


@pytest.mark.parametrize("wants_usage", [True, False])
@pytest.mark.parametrize("model", [b"", b',"model":"vendor"', b',"x":{"model":"v"},"model":"vendor"'])
def test_half_a_character_in_a_chunk_that_is_rewritten(model: bytes, wants_usage: bool) -> None:
    """Whatever else is changed in it, all texts keep their escapes."""
    choices = rb'"choices":[{"delta":{"content":"a\\ud83c\ud83c \ud83c\udf88"}}]'
    raw = rb'{"\udf88":"\uDF88",%b%b,"usage":{"prompt_tokens":1}}' % (choices, model)
    reader = _reader(wants_usage)
    shown = reader.read(raw).data
    assert choices in shown
    assert rb'"\udf88":"\udf88"' in shown.lower()
    assert b"vendor" not in shown
    assert reader.output == "a\\ud83c\ufffd \U0001f388"


@pytest.mark.parametrize(
    "odd",
    [b'"id":7', b'"model":null', b'"created":"17"', b'"model":7'],
)
@pytest.mark.parametrize("choice", [b'"index":null', b'"index":"0"', b'"index":0.0', b'"index":0'])
def test_a_chunk_with_small_types_of_its_own_is_read(odd: bytes, choice: bytes) -> None:
    """Its meaning is plain: no stream is cut, and no name of the vendor's shown."""
    reader = _reader()
    frame = reader.read(b'{%b,"choices":[{%b,"delta":{"content":"a"},"finish_reason":null}]}' % (odd, choice))
    assert frame.content
    shown = _shown(frame)
    assert shown.get("model", "small") == "small"
    assert isinstance(shown.get("id", ""), str)
    assert shown["choices"][0]["index"] == 0
    reader.read(b'{%b,"choices":[{%b,"delta":{},"finish_reason":1}]}' % (odd, choice))
    assert (reader.output, reader.finished, reader.finish_reason) == ("a", True, "1")


@pytest.mark.parametrize("wants_usage", [True, False])
@pytest.mark.parametrize("model", ["small", "vendor-small"])
def test_what_a_gateway_tells_of_its_vendors_is_shown_in_no_chunk(model: str, wants_usage: bool) -> None:
    """Neither beside the content nor with the usage, wherever it stands."""
    private = {"provider": "Cheap Inc", "cost": 0.1, "cost_details": None}
    reader = _reader(wants_usage)
    chunks = (
        _chunk({"content": "Hi"}),
        _chunk({"content": "Hi"}, usage=None),
        _chunk({}, "stop", usage=USAGE | private),
        _chunk(usage=USAGE | private),
        _chunk(usage=USAGE),
    )
    frames = _read(reader, *(chunk | private | {"model": model} for chunk in chunks))
    shown = [_shown(frame) for frame in frames if frame.data]
    shown += [last] if (last := _settled(reader, Usage(input_tokens=11, output_tokens=7))) else []
    assert len(shown) == 3 + wants_usage
    for each in shown:
        assert each.keys().isdisjoint(private)
        assert (each.get("usage") or {}).keys().isdisjoint(private)
        assert each["model"] == "small"


_STREAM = b"".join(
    b"data: " + msgspec.json.encode(chunk) + b"\n\n"
    for chunk in (
        _chunk({"content": "Grüße \U0001f388"}, usage=LOW),
        _chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": '{"a": "é"}'}}]}, usage=LOW),
        _chunk({}, "tool_calls"),
        _chunk(usage=USAGE),
    )
)


@given(st.lists(st.integers(0, len(_STREAM)), max_size=20))
def test_any_split_gives_the_same_usage_and_text(cuts: list[int]) -> None:
    """However the network cuts the bytes, inside of a character, too."""
    splitter, reader = EventSplitter(), _reader(wants_usage=True)
    bounds = [0, *sorted(cuts), len(_STREAM)]
    for start, end in pairwise(bounds):
        for payload in splitter.feed(_STREAM[start:end]):
            reader.read(payload)
    assert reader.output == 'Grüße \U0001f388f{"a": "é"}'
    assert (reader.usage, reader.is_usage_final) == (Usage(input_tokens=11, output_tokens=7), True)
    assert _settled(reader, Usage(input_tokens=11, output_tokens=7)) == _chunk(usage=USAGE) | {"model": "small"}


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


@pytest.mark.parametrize("delta", [{"reasoning": "x", "reasoning_content": "a b c"}, {"reasoning": "a b c"}])
def test_of_two_names_for_a_thought_the_longer_text_counts(delta: Json) -> None:
    reader = _reader()
    _read(reader, _chunk(delta))
    assert reader.output == "a b c"
