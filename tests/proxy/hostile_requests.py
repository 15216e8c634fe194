"""Requests as a hostile customer writes them: every field whose value, place, case or number could make a vendor take
more than was read here. They are written by hand, since a key may be there twice.

What is not JSON, or has no model or messages at all, is another test's.
"""

import json
from typing import Any

import msgspec
from hypothesis import strategies as st

__all__ = ["Pairs", "requests", "write"]


class Pairs(msgspec.Struct, frozen=True):
    """A JSON object, key by key."""

    of: list[tuple[str, Any]]


def write(node: Any, *, ascii_only: bool = False) -> str:
    if isinstance(node, Pairs):
        written = [
            f"{json.dumps(name, ensure_ascii=ascii_only)}:{write(value, ascii_only=ascii_only)}"
            for name, value in node.of
        ]
        return "{" + ",".join(written) + "}"
    if isinstance(node, list):
        return "[" + ",".join(write(each, ascii_only=ascii_only) for each in node) + "]"
    return json.dumps(node, ensure_ascii=ascii_only)


def _rarely(usual: st.SearchStrategy[Any], other: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 19).flatmap(lambda roll: other if roll == 19 else usual)


def _cased(name: str) -> st.SearchStrategy[str]:
    """The name, or rarely one that only a reader which ignores case takes for it."""
    others = {name.upper(), name.title(), name.capitalize(), name.replace("s", "\u017f"), name.replace("k", "\u212a")}
    return _rarely(st.just(name), st.sampled_from(sorted(others - {name}) or [name]))


def _pairs(fields: dict[str, st.SearchStrategy[Any]], most: int = 3) -> st.SearchStrategy[list[tuple[str, Any]]]:
    """Some of the fields, in any order; now and then one of them twice."""
    each = [st.tuples(_cased(name), values) for name, values in fields.items()]
    return st.lists(st.sampled_from(each).flatmap(lambda pair: pair), max_size=most)


def _object(
    required: dict[str, st.SearchStrategy[Any]], optional: dict[str, st.SearchStrategy[Any]]
) -> st.SearchStrategy[Pairs]:
    first = st.tuples(*(st.tuples(_cased(name), values) for name, values in required.items())).map(list)
    return st.builds(lambda own, more: Pairs(own + more), first, _rarely(_pairs(optional, 1), _pairs(optional, 3)))


_WORDS = [
    "Hi",
    "a",
    "",
    "word " * 60,
    "9" * 120,
    "你好世界",
    "สวัสดีครับ",
    "שלום ",
    "ಕನ್ನಡ ಭಾಷೆ ",  # five times as many tokens for the models before gpt-4o
    "ქართული ",
    "🎈👩‍👩‍👧‍👦",
    "\u0000\u200d\ufffd",
    "<|im_start|>system",
    '\n\t"\\',
]
_text = st.builds(lambda word, times: word * times, st.sampled_from(_WORDS), st.sampled_from([1, 1, 1, 30])) | st.text(
    max_size=20
)
_count = st.sampled_from([1, 1, 2, 10, 10, 100, 3_000, 10**6, 10.0, None])
_bad_count = st.sampled_from([0, -1, 1.5, "10", True, 10**9, [], {}])
_limit = _rarely(_count, _bad_count)
_PDF, _PICTURE = "data:application/pdf;base64," + "J" * 40, "data:image/png;base64," + "A" * 900
_ADDRESSES = [
    *("https://e.com/a.jpg", "https://e.com/a", _PICTURE, _PICTURE, " DATA:image/PNG;base64,AAAA"),
    *(_PDF, "data:video/mp4;base64,AAAA", "data:audio/wav;base64,AAAA", "https://e.com/a.pdf", "https://e.com/a.mp4"),
    *("https://e.com/a.pdf%20", "https://e.com/a.pdf/", "https://e.com/a.docx", "https://e.com/a.mp4/?x"),
    *("https://e.com/a.PDF?x", "https://e.com/a.mp4#t=1", "https://e.com/a.pdf#page=2"),
]
_address = st.sampled_from(_ADDRESSES)
_detail = st.sampled_from(["low", "high", "auto", "LOW", "original", None, 7])
_source = {
    "url": _address,
    "data": _text,
    "file_data": _text,
    "file_id": st.just("file_1"),
    "id": st.just("x"),
    "detail": _detail,
}
_beside = {"detail": _detail, "cache_control": st.just(Pairs([("type", "ephemeral")])), "text": _text, "x": _text}
_text_part = _object({"type": st.just("text"), "text": _text}, _beside)
_MEDIA: dict[str, st.SearchStrategy[Any]] = {
    "image_url": _object({"url": _address}, _source) | _address,
    "input_audio": _object({"data": st.just("A" * 400), "format": st.just("wav")}, _source)
    | st.just(Pairs([("id", "audio_1")])),
    "file": st.sampled_from(["file_id", "file_data"]).flatmap(lambda name: _object({name: st.just(_PDF)}, _source)),
    "audio_url": _object({"url": _address}, _source),
    "document_url": _address,
    "video_url": _object({"url": _address}, _source),
    "video": st.lists(_address, max_size=3),
}
_media_part = st.sampled_from(sorted(_MEDIA)).flatmap(
    lambda kind: _object({"type": st.just(kind), kind: _MEDIA[kind]}, _beside)
)
_odd_part = st.sampled_from(
    [
        Pairs([("type", "thinking"), ("thinking", [Pairs([("type", "text"), ("text", "hm")])])]),
        Pairs([("type", "new"), ("new", "x")]),
        Pairs([("type", "Image_URL"), ("image_url", "https://e.com/a")]),
    ]
)
_parts = st.lists(_rarely(_text_part | _media_part, _odd_part), max_size=3)
_call = Pairs(
    [
        ("id", "call_1"),
        ("type", "function"),
        ("function", Pairs([("name", "f"), ("arguments", "{}" * 50)])),
        ("function", Pairs([("name", "g")])),
    ]
)
_message_fields = {
    "name": _text,
    "content": _text,
    "tool_calls": st.just([_call]),
    "tool_call_id": _text,
    "refusal": _text,
    "audio": st.just(Pairs([("id", "audio_1")])),
    "images": st.sampled_from([["AAAA"], [Pairs([("type", "image_url"), ("image_url", "https://e.com/a")])], None]),
    "file_ids": st.just(["file_1"]),
    "reasoning_content": _text,
}
_message = st.one_of(
    _object({"role": st.sampled_from(["user", "system"]), "content": _text | _parts}, _message_fields),
    _object({"role": st.just("assistant")}, _message_fields),
)
_messages = st.lists(_message, min_size=1, max_size=3) | st.builds(
    lambda message, times: [message] * times, _message, st.just(40)
)
_TOOL = Pairs([("type", "function"), ("function", Pairs([("name", "f"), ("parameters", Pairs([]))]))])
_tools = [
    [_TOOL],
    [_TOOL, Pairs([("type", "web_search")])],
    [Pairs([("type", "web_search"), ("Type", "function")])],
    [Pairs([*_TOOL.of, ("googleSearch", Pairs([]))])],
    [],
]
_true = st.sampled_from([True, False, None])
_thing = st.sampled_from([Pairs([]), Pairs([("a", "b")]), None, False])
_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "max_tokens": _limit,
    "max_completion_tokens": _limit,
    "n": _rarely(st.sampled_from([1, 2, 3, 2.0, None]), _bad_count | st.just(128)),
    "stream": _rarely(_true, st.just("true")),
    "stream_options": st.sampled_from([None, Pairs([("include_usage", True)]), Pairs([("Include_Usage", True)])]),
    "service_tier": st.sampled_from(["priority", "flex", "auto", "default", "standard", None, "scale", "Priority", 7]),
    "web_search_options": _thing,
    "store": _true,
    "provider": _thing,
    "plugins": st.sampled_from([[], [Pairs([("id", "web")])], None]),
    "prediction": st.just(Pairs([("type", "content"), ("content", "word " * 50)])),
    "tools": st.sampled_from(_tools),
    "functions": st.just([Pairs([("name", "f")])]),
    "response_format": st.just(Pairs([("type", "json_object")])),
    "logprobs": _true,
    "top_logprobs": st.just(20),
    "user": _text,
    "documents": st.lists(_text, max_size=2),
    "model": st.just("small"),
}
# What only some vendors know, and what takes more of them than was read here.
_FOREIGN: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(
        ["n_predict", "max_new_tokens", "max_output_tokens", "max_length", "maxTokens"], st.sampled_from([1, 90_000])
    ),
    **dict.fromkeys(["best_of", "num_beams", "num_return_sequences", "candidate_count"], st.sampled_from([1, 20])),
    **dict.fromkeys(["n_cmpl", "candidateCount"], st.sampled_from([1, 20])),
    **dict.fromkeys(["file_ids", "images", "fallbacks"], st.just(["x"])),
    "prompt": st.just(Pairs([("id", "pmpt_1")])),
    "preset": st.just("big"),
    "serviceTier": st.just("priority"),
    "use_beam_search": _true,
    "extra_body": st.sampled_from([Pairs([("n", 20)]), Pairs([("max_tokens", 90_000)]), Pairs([])]),
    "previous_response_id": st.just("resp_1"),
    "conversation": st.just("conv_1"),
}


@st.composite
def _requests(draw: st.DrawFn) -> bytes:
    pairs = [("model", "small"), (draw(_cased("messages")), draw(_messages))]
    pairs += draw(_pairs(_FIELDS, 5)) + draw(_rarely(st.just([]), _pairs(_FOREIGN, 1)))
    return write(Pairs(draw(st.permutations(pairs))), ascii_only=draw(st.booleans())).encode()


requests = _requests()
