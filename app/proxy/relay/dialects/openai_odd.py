"""Answers that OpenAI would not give and whose meaning is plain: small fields of another type, and a whole answer where
a stream was asked for. Both are made what OpenAI's clients read; all else keeps its bytes. Pure.
"""

from typing import Any

import msgspec
from msgspec import Raw

from app.proxy.relay.dialects.openai_json import rewritten

__all__ = ["as_chunk", "with_usual_types"]

Json = dict[str, Any]

_DIGITS_MOST = 15
_NULL = Raw(b"null")

_objects = msgspec.json.Decoder(list[dict[str, Raw]])
_object = msgspec.json.Decoder(dict[str, Raw])
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def with_usual_types(body: bytes) -> bytes:
    """The answer or chunk, its `id`, `model` and `finish_reason` strings or null, its `index` and `created` whole.
    Raises msgspec.DecodeError."""
    return rewritten(body, _make_usual)


def as_chunk(body: bytes) -> bytes:
    """A whole answer as a stream's only chunk, in which every choice ends. As it is where it has no choices."""
    try:
        return rewritten(body, _make_chunk)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body


def _make_usual(fields: Json) -> None:
    for name in ("id", "model"):
        if name in fields:
            fields[name] = _text(fields[name])
    if "created" in fields:
        fields["created"] = _whole(fields["created"], 0)
    if bytes(fields.get("choices", _NULL)) == b"null":
        return
    choices = _objects.decode(fields["choices"])
    for position, choice in enumerate(choices):
        choice["index"] = _whole(choice.get("index", _NULL), position)
        if "finish_reason" in choice:
            choice["finish_reason"] = _text(choice["finish_reason"])
    fields["choices"] = choices


def _make_chunk(fields: Json) -> None:
    _make_usual(fields)
    if not isinstance(fields.get("choices"), list):
        return
    fields["object"] = "chat.completion.chunk"
    for choice in fields["choices"]:
        if "message" in choice:
            choice["delta"] = _as_delta(choice.pop("message"))


def _as_delta(message: Raw) -> Raw:
    """Calls of tools have an index in a stream."""
    fields: Json = dict(_object.decode(message))
    if bytes(fields.get("tool_calls", _NULL)) == b"null":
        return message
    calls = _objects.decode(fields["tool_calls"])
    fields["tool_calls"] = [{"index": index, **call} for index, call in enumerate(calls)]
    return Raw(_encode(fields))


def _text(sent: Raw) -> Raw:
    """Of a number its digits. A zero says nothing, as an enumeration has it."""
    if bytes(sent)[:1] == b'"':
        return sent
    value = _decode(sent)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and bool(value)
    return Raw(_encode(str(value))) if is_number else _NULL


def _whole(sent: Raw, otherwise: int) -> Raw:
    value = _decode(sent)
    is_text = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _DIGITS_MOST
    if is_text or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    return Raw(_encode(value if isinstance(value, int) and not isinstance(value, bool) else otherwise))
