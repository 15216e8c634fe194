"""The parts of messages: what is text, what is media, and what is refused because nobody can bound it."""

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base.errors import InvalidField
from app.proxy.records import MediaPart, Order
from tests.proxy.makers import order

AT = "messages[0].content[1]"
PIXELS = "data:image/png;base64," + "A" * 900
PAPER = base64.b64encode(b"%PDF" * 100).decode()
TEXT = {"type": "text", "text": "See"}


def with_part(part: object) -> Order:
    return order(messages=[{"role": "user", "content": [TEXT, part]}])


def of(**fields: Any) -> MediaPart:
    return MediaPart(**{"at": AT} | fields)


@pytest.mark.parametrize(
    ("part", "media"),
    [
        ({"type": "image_url", "image_url": {"url": "https://e.com/a.jpg"}}, of(kind="image")),
        ({"type": "image_url", "image_url": "https://e.com/a.jpg"}, of(kind="image")),
        ({"type": "image_url", "image_url": {"url": PIXELS}}, of(kind="image", size=len(PIXELS))),
        (
            {"type": "image_url", "image_url": {"url": "https://e.com/a", "detail": "low"}},
            of(kind="image", detail="low"),
        ),
        ({"type": "image_url", "image_url": {"url": "https://e.com/a", "detail": 7}}, of(kind="image")),
        ({"type": "image_url", "image_url": {"url": "https://e.com/a.php?x=.pdf"}}, of(kind="image")),
        ({"type": "image_url", "image_url": {"url": "https://e.com/a.pdf?x=1"}}, of(kind="file")),
        ({"type": "image_url", "image_url": {"url": "https://e.com/a.mp4"}}, of(kind="video")),
        ({"type": "image_url", "image_url": {"url": "gs://bucket/a.mp4"}}, of(kind="video")),
        ({"type": "image_url", "image_url": {"url": "gs://bucket/a"}}, of(kind="file")),
        ({"type": "image_url", "image_url": {"url": "data:application/pdf;base64,AAAA"}}, of(kind="file", size=32)),
        ({"type": "image_url", "image_url": {"url": " DATA:Application/PDF;base64,AAAA"}}, of(kind="file", size=33)),
        ({"type": "image_url", "image_url": {"url": "data:video/mp4;base64,AAAA"}}, of(kind="video", size=26)),
        ({"type": "image_url", "image_url": {"url": "data:audio/wav;base64,AAAA"}}, of(kind="audio", size=26)),
        ({"type": "image_url", "image_url": {"url": "data:;base64,AAAA"}}, of(kind="file", size=17)),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, of(kind="audio", size=4)),
        ({"type": "input_audio", "input_audio": {"id": "audio_1"}}, of(kind="audio")),
        ({"type": "audio_url", "audio_url": {"url": "https://e.com/a.wav"}}, of(kind="audio")),
        ({"type": "file", "file": {"file_id": "file_1"}}, of(kind="file")),
        ({"type": "file", "file": {"file_data": PAPER, "filename": "a.pdf"}}, of(kind="file", size=len(PAPER))),
        ({"type": "file", "file": {"file_url": "https://e.com/a.pdf"}}, of(kind="file")),
        ({"type": "document_url", "document_url": "https://e.com/a.pdf"}, of(kind="file")),
        ({"type": "video_url", "video_url": {"url": "https://e.com/a.mp4"}}, of(kind="video")),
        ({"type": "video", "video": ["https://e.com/1.jpg", PIXELS, PIXELS]}, of(kind="video", size=2 * len(PIXELS))),
    ],
)
def test_media_are_told_apart_by_what_they_are(part: object, media: MediaPart) -> None:
    """A PDF or a video is none the less one for standing in an `image_url`."""
    asked = with_part(part)
    assert asked.media == (media,)
    assert asked.prompt == ("See",)


def test_audio_of_an_answer_before_is_media() -> None:
    asked = order(messages=[{"role": "assistant", "content": None, "audio": {"id": "audio_1"}}])
    assert asked.media == (MediaPart("audio", "messages[0].audio"),)


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "new", "x": 1}, AT),
        ({"type": "Image_URL", "image_url": {"url": "https://e.com/a"}}, f"{AT}.image_url"),
        ({"type": "Image_URL"}, AT),
        ({"type": "image_url"}, f"{AT}.image_url"),
        ({"type": "image_url", "image_url": {}}, f"{AT}.image_url.url"),
        ({"type": "image_url", "image_url": {"url": 7}}, f"{AT}.image_url.url"),
        ({"type": "image_url", "Image_Url": {"url": "https://e.com/a"}}, f"{AT}.Image_Url"),
        (
            {"type": "image_url", "image_url": {"url": PIXELS, "Detail": "high", "detail": "low"}},
            f"{AT}.image_url.Detail",
        ),
        ({"type": "image_url", "image_url": {"url": PIXELS, "URL": "x"}}, f"{AT}.image_url.URL"),
        ({"type": "text", "text": "a", "image_url": {"url": PIXELS}}, f"{AT}.image_url"),
        ({"type": "image_url", "image_url": {"url": PIXELS}, "video_url": {"url": "x"}}, f"{AT}.video_url"),
        ({"type": "text", "text": "a", "\u017fext": "b", "TEXT": "c"}, f"{AT}.TEXT"),
        ({"type": "text"}, f"{AT}.text"),
        ({"type": "file", "file": 7}, f"{AT}.file"),
        ({"type": "video", "video": []}, f"{AT}.video"),
        ({"type": "video", "video": [7]}, f"{AT}.video"),
    ],
)
def test_a_part_that_nobody_can_bound_is_refused_by_its_path(part: object, param: str) -> None:
    with pytest.raises(InvalidField) as refusal:
        with_part(part)
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ('{"role":"assistant","tool_calls":[7]}', "messages[0].tool_calls[0]"),
        ('{"role":"assistant","content":"a","images":{"url":"x"}}', "messages[0].images"),
        ('{"role":"assistant","content":"a","images":["AAAA"]}', "messages[0].images"),
        ('{"role":"assistant","content":"a","images":[{}]}', "messages[0].images[0]"),
        ('{"role":"assistant","content":"a","Images":[]}', "messages[0].Images"),
        ('{"role":"assistant","content":"a","attachments":[{"id":"f"}]}', "messages[0].attachments"),
        ('{"role":"assistant","refusal":"a","tool_calls":[{"function":{"name":"f","name":"g"}}]}', "messages"),
    ],
)
def test_what_stands_beside_the_content_is_looked_at(message: str, param: str) -> None:
    with pytest.raises(InvalidField) as refusal:
        order(b'{"model":"small","messages":[%b]}' % message.encode())
    assert refusal.value.param == param


def test_a_message_without_media_beside_its_content_may_say_so() -> None:
    asked = order(messages=[{"role": "assistant", "content": "a", "images": None, "attachments": []}])
    assert asked.media == ()


IMAGE = '{"url":"https://e.com/a","detail":"high"}'


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (
            '[{"role":"user","content":[{"type":"image_url","image_url":{"detail":"high","url":"x","detail":"low"}}]}]',
            "messages[0].content[0].image_url.detail",
        ),
        (
            '[{"role":"user","content":[{"type":"image_url","type":"text","text":"a"}]}]',
            "messages[0].content[0].type",
        ),
        (
            f'[{{"role":"user","content":[{{"type":"image_url","image_url":{IMAGE},"image_url":{IMAGE}}}]}}]',
            "messages[0].content[0].image_url",
        ),
        (
            f'[{{"role":"user","content":[{{"type":"image_url","image_url":{IMAGE}}}],"content":"Hi"}}]',
            "messages[0].content",
        ),
        (
            f'[{{"role":"user","\\u0063ontent":[{{"type":"image_url","image_url":{IMAGE}}}],"content":"Hi"}}]',
            "messages[0].content",
        ),
        ('[{"role":"user","content":"Hi","Content":[]}]', "messages[0].Content"),
        ('[{"role":"user","content":"Hi","ROLE":"system"}]', "messages[0].ROLE"),
        ('[{"role":"user","content":"Hi","tool_call\\u017f":[]}]', "messages[0].tool_call\u017f"),
    ],
)
def test_a_second_key_hides_nothing(messages: str, param: str) -> None:
    """Of two readers of JSON one takes the first of two keys, another the last, and a third ignores their case."""
    raw = b'{"model":"small","messages":%b}' % messages.encode()
    with pytest.raises(InvalidField) as refusal:
        order(raw)
    assert refusal.value.param == param


def test_plain_texts_with_escapes_are_read_as_ever() -> None:
    """The close look at what may hide something finds nothing in an honest request."""
    raw = (
        rb'{"model":"small","messages":[{"role":"user","content":"\u0061 \"content\""},{"role":"user","content":"b"}]}'
    )
    assert order(raw).prompt == ('a "content"', "b")


@pytest.mark.parametrize(
    ("message", "counted", "uncounted"),
    [
        ({"content": "Hi"}, ("Hi",), 0),
        ({"content": "Hi", "name": "ann"}, ("Hi",), 3),
        ({"content": [{"type": "text", "text": "Hi", "cache_control": {"x": 1}}]}, ("Hi",), 7),
        ({"content": "Hi", "reasoning_content": "a" * 1000}, ("Hi",), 1000),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "a" * 1000}]}]}, (), 1000),
        ({"content": [{"type": "refusal", "refusal": "No"}]}, ("No",), 0),
        ({"content": [{"type": "file", "file": {"file_data": "AAAA", "filename": "f" * 1000}}]}, (), 1000),
        (
            {"content": "Hi", "function_call": {"name": "f", "arguments": "a"}},
            ("Hi", '{"name": "f", "arguments": "a"}'),
            0,
        ),
    ],
)
def test_what_no_tokenizer_counts_is_known_by_its_bytes(
    message: dict[str, Any], counted: tuple[str, ...], uncounted: int
) -> None:
    """Nothing of a prompt is left out: it is a text, a part with a bound of its own, or so many bytes."""
    asked = order(messages=[{"role": "assistant", **message}])
    assert asked.prompt == counted
    assert uncounted <= asked.uncounted_bytes <= uncounted + 60


def test_fields_that_nobody_knows_are_counted_by_their_bytes() -> None:
    assert order(temperature=1, user="x" * 1000, metadata={"a": "b" * 1000}).uncounted_bytes == 0
    assert order(documents=["a" * 1000]).uncounted_bytes >= 1000
    assert "a" * 1000 in order(response_format={"type": "json_schema", "json_schema": {"x": "a" * 1000}}).prompt[-1]


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_names = st.sampled_from(["type", "text", "image_url", "file", "input_audio", "video_url", "url", "Detail", "new"])
_parts = st.dictionaries(_names, _values | st.sampled_from(["text", "image_url", "file", "video"]), max_size=5)


@given(parts=st.lists(_parts, max_size=3), fields=st.dictionaries(st.sampled_from(["name", "x", "audio"]), _values))
def test_whatever_a_customer_writes_is_bounded_or_refused(parts: list[Any], fields: dict[str, Any]) -> None:
    """Never an error of ours; and all of the body is bounded but the data of its media."""
    raw = msgspec.json.encode({"model": "small", "messages": [{"role": "user", "content": parts, **fields}]})
    try:
        asked = order(raw)
    except InvalidField:
        return
    assert asked.text_bytes + sum(part.size for part in asked.media) == len(raw)
    assert asked.text_bytes > 0
