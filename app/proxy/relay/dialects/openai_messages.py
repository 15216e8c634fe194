"""The messages of a request: their texts, their media, and how many bytes of them are neither.

Messages of text alone, which most are, are read by a decoder that knows no other field. All others are looked at key by
key: what a message can cost must not hide under a name or a second key that is not read here.
"""

import json
import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from app.base.errors import InvalidField
from app.base.tokens import TOKENS_PER_TEXT
from app.proxy.records import MediaPart
from app.proxy.relay.dialects.openai_parts import JsonObject, Prompt, look_at_part, size_of

__all__ = ["Messages", "TextMessages", "gives_twice", "look_closely", "read_texts"]

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
_NEED_CONTENT = frozenset({"system", "developer", "user", "tool"})

# Beside a message's content, as some vendors have them: pictures of an answer before, in parts (OpenRouter), and what
# can be bounded in no such place.
_IMAGES = "images"
_MEDIA_BESIDE = frozenset({"audios", "videos", "files", "file_ids", "attachments"})
_MESSAGE_FIELDS = frozenset(
    {"role", "content", "name", "tool_call_id", "tool_calls", "function_call", "refusal", "audio", _IMAGES}
    | _MEDIA_BESIDE
)
_NAMES = re.compile(rb'"(?:role|content|name|tool_call_id|tool_calls|text|cache_control)"')
_encode = msgspec.json.Encoder().encode


class _TextPart(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["text"]
    text: str
    cache_control: Raw | UnsetType = UNSET


class _TextMessage(msgspec.Struct, forbid_unknown_fields=True):
    role: Role
    content: str | list[_TextPart] | UnsetType | None = UNSET
    name: str | UnsetType | None = UNSET
    tool_call_id: str | UnsetType | None = UNSET
    # As they came: Go's reader makes one object of two under the same key.
    tool_calls: list[Raw] | UnsetType | None = UNSET


class _Part(msgspec.Struct):
    type: str
    text: str | None = None


class _Message(msgspec.Struct):
    role: Role
    content: str | list[_Part] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    function_call: dict[str, Any] | None = None
    refusal: str | None = None
    audio: dict[str, Any] | None = None


TextMessages = Annotated[list[_TextMessage], Meta(min_length=1)]
Messages = Annotated[list[_Message], Meta(min_length=1)]


def read_texts(messages: list[_TextMessage]) -> Prompt:
    """Of messages that the strict decoder takes."""
    prompt = Prompt([], [])
    for index, message in enumerate(messages):
        content = message.content
        if isinstance(content, str):
            prompt.texts.append(content)
        elif content is None or content is UNSET:
            _check_content_may_miss(message.role, index)
        else:
            for part in content:
                prompt.texts.append(part.text)
                if part.cache_control is not UNSET:
                    prompt.uncounted += len(bytes(part.cache_control))
        if message.tool_calls:
            _check_calls(message.tool_calls, index)
            prompt.texts.append(_encode(message.tool_calls).decode())
        elif not content:
            prompt.uncounted += TOKENS_PER_TEXT
        if message.name is not UNSET and message.name is not None:
            prompt.uncounted += 1 + len(message.name.encode())
        if message.tool_call_id is not UNSET and message.tool_call_id is not None:
            prompt.uncounted += len(message.tool_call_id.encode())
    return prompt


def gives_twice(raw: bytes, messages: list[_TextMessage]) -> bool:
    """Whether a message or a part of these may have a key twice, of which another reader would take the first: whether
    their names are there more often than the decoder has read them. They may be there as texts too; a closer look
    tells. A name can be written with escapes (`\\u0063ontent`): small letters are 0061 to 007a, `_` is 005f.

    What most clients send is as short as JSON can be. Then it has nothing that was not read: the encoder, too, writes
    no space and no escape without need, and what was read gives as many bytes."""
    if len(_encode(messages)) == len(raw):
        return False
    if b"\\" in raw and b"\\u00" in raw and (b"\\u006" in raw or b"\\u007" in raw or b"\\u005" in raw):
        return True
    read = len(messages)  # their roles
    for message in messages:
        content = message.content
        if isinstance(content, list):
            read += 1 + sum(2 if part.cache_control is UNSET else 3 for part in content)  # `text` is a type and a name
        elif content is not UNSET:
            read += 1
        if message.name is not UNSET:
            read += 1
        if message.tool_call_id is not UNSET:
            read += 1
        if message.tool_calls is not UNSET:
            read += 1 + sum(len(_NAMES.findall(bytes(call))) for call in message.tool_calls or ())
    return len(_NAMES.findall(raw)) > read


def look_closely(raw: bytes) -> Prompt:
    """Of any messages whose types are sound. Raises InvalidField with the path of what can't be bounded."""
    objects: list[JsonObject] = []

    def keep(pairs: list[tuple[str, Any]]) -> JsonObject:
        objects.append(JsonObject(pairs))
        return objects[-1]

    try:
        prompt = Prompt([], [])
        for index, message in enumerate(json.loads(raw, object_pairs_hook=keep, parse_int=float)):
            _look_at_message(prompt, message, index)
    except (ValueError, RecursionError):
        raise InvalidField("messages", "can't be read") from None
    for each in objects:  # deeper than messages, parts and what is in these
        if each.twice is not None:
            raise InvalidField("messages", f"has an object that gives `{each.twice}` twice")
    return prompt


def _look_at_message(prompt: Prompt, message: JsonObject, index: int) -> None:
    at = f"messages[{index}]"
    message.check(_MESSAGE_FIELDS, at)
    content = message.get("content")
    if content is None:
        _check_content_may_miss(message["role"], index)
    elif isinstance(content, str):
        prompt.texts.append(content)
    else:
        for place, part in enumerate(content):
            look_at_part(prompt, part, f"{at}.content[{place}]")
    if not content:
        prompt.uncounted += TOKENS_PER_TEXT
    _look_at_media_beside(prompt, message, at)
    for name, value in message.items():
        if value is None or name in ("role", "content"):
            continue
        if name in ("tool_calls", "function_call"):
            prompt.texts.append(json.dumps(value, ensure_ascii=False))
        elif name == "refusal":
            prompt.texts.append(value)
        else:
            prompt.uncounted += len(name) + size_of(value)


def _look_at_media_beside(prompt: Prompt, message: JsonObject, at: str) -> None:
    """Media that a message has beside its content."""
    if message.get("audio") is not None:  # of an answer before, by its id
        prompt.media.append(MediaPart("audio", f"{at}.audio"))
    images = message.get(_IMAGES) or []
    if not isinstance(images, list) or not all(isinstance(image, JsonObject) for image in images):
        raise InvalidField(f"{at}.{_IMAGES}", "must be a list of parts")
    for place, image in enumerate(images):
        look_at_part(prompt, image, f"{at}.{_IMAGES}[{place}]")
    for name in message.keys() & _MEDIA_BESIDE:
        if message[name]:
            raise InvalidField(f"{at}.{name}", "is not taken here; media are parts of `content`")


def _check_calls(calls: list[Raw], index: int) -> None:
    for place, call in enumerate(calls):
        if bytes(memoryview(call)[:1]) != b"{":
            raise InvalidField(f"messages[{index}].tool_calls[{place}]", "must be an object")


def _check_content_may_miss(role: str, index: int) -> None:
    if role in _NEED_CONTENT:
        raise InvalidField(f"messages[{index}].content", "is required")
