"""The messages of a request: their texts, their media, and how many bytes of them are neither.

Messages of text alone, which most are, are read by a decoder that knows no other field. All others are looked at key by
key: what a part can cost must not hide under a name, a type or a second key that is not read here.

Source of the parts: the Chat Completions API reference, and those of vendors that add to it: Mistral (`document_url`,
`thinking`, `reference`), Qwen (`video`, `video_url`), vLLM (`audio_url`, `video_url`).
"""

import json
import mimetypes
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw

from app.base.errors import InvalidField
from app.base.tokens import TOKENS_PER_TEXT
from app.proxy.records import MediaPart
from app.proxy.relay.dialects.openai_fields import check_names

__all__ = ["Messages", "Prompt", "TextMessages", "hides_content", "look_closely", "read_texts"]

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
_NEED_CONTENT = frozenset({"system", "developer", "user", "tool"})

_MEDIA: dict[str, Literal["image", "audio", "file", "video"]] = {
    "image_url": "image",
    "input_audio": "audio",
    "audio_url": "audio",
    "file": "file",
    "document_url": "file",
    "video": "video",
    "video_url": "video",
}
_TEXTS = frozenset({"text", "refusal"})
_OTHER_PARTS = frozenset({"thinking", "reference"})  # all that is in them is text
# Beside a message's content, as some vendors have them: pictures of an answer before, in parts (OpenRouter), and what
# can be bounded in no such place.
_IMAGES = "images"
_MEDIA_BESIDE = frozenset({"audios", "videos", "files", "file_ids", "attachments"})
_MESSAGE_FIELDS = frozenset(
    {"role", "content", "name", "tool_call_id", "tool_calls", "function_call", "refusal", "audio", _IMAGES}
    | _MEDIA_BESIDE
)
_PART_FIELDS = _MEDIA.keys() | _TEXTS | _OTHER_PARTS | {"type", "cache_control"}
_SOURCES = ("url", "data", "file_data")
_PLACES = (*_SOURCES, "file_id", "file_url", "id")
_PAYLOAD_FIELDS = frozenset({*_PLACES, "detail", "format", "filename"})

_encode = msgspec.json.Encoder().encode


class _TextPart(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["text"]
    text: str
    cache_control: Raw = Raw()


class _TextMessage(msgspec.Struct, forbid_unknown_fields=True):
    role: Role
    content: str | list[_TextPart] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[Raw] | None = None  # as they came: Go's reader makes one object of two under the same key


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


class Prompt(msgspec.Struct):
    """What messages are made of; `uncounted` is in bytes."""

    texts: list[str]
    media: list[MediaPart]
    uncounted: int = 0


def read_texts(messages: list[_TextMessage]) -> Prompt:
    """Of messages that the strict decoder takes."""
    prompt = Prompt([], [])
    for index, message in enumerate(messages):
        content = message.content
        if content is None:
            _check_content_may_miss(message.role, index)
        elif isinstance(content, str):
            prompt.texts.append(content)
        else:
            for part in content:
                prompt.texts.append(part.text)
                prompt.uncounted += len(bytes(part.cache_control))
        if message.tool_calls:
            _check_calls(message.tool_calls, index)
            prompt.texts.append(_encode(message.tool_calls).decode())
        elif not content:
            prompt.uncounted += TOKENS_PER_TEXT
        if message.name is not None:
            prompt.uncounted += 1 + len(message.name.encode())
        if message.tool_call_id is not None:
            prompt.uncounted += len(message.tool_call_id.encode())
    return prompt


def hides_content(raw: bytes, messages: int) -> bool:
    """Whether one of so many messages may have a second `content`, which another reader would take for the first. A
    name can be written with escapes (`\\u0063ontent`): those of small letters are 0061 to 007a."""
    return raw.count(b'"content"') > messages or (b"\\u00" in raw and (b"\\u006" in raw or b"\\u007" in raw))


def look_closely(raw: bytes) -> Prompt:
    """Of any messages whose types are sound. Raises InvalidField with the path of what can't be bounded."""
    objects: list[_Object] = []

    def keep(pairs: list[tuple[str, Any]]) -> _Object:
        objects.append(_Object(pairs))
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


class _Object(dict[str, Any]):
    """A JSON object, and a name that it gives twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.twice: str | None = None
        if len(self) != len(pairs):
            names = [name for name, _ in pairs]
            self.twice = next(name for name in names if names.count(name) > 1)

    def check(self, known: frozenset[str] | set[str], at: str) -> None:
        if self.twice is not None:
            raise InvalidField(f"{at}.{self.twice}", "is given twice")
        check_names(self, known, at)


def _look_at_message(prompt: Prompt, message: _Object, index: int) -> None:
    at = f"messages[{index}]"
    message.check(_MESSAGE_FIELDS, at)
    content = message.get("content")
    if content is None:
        _check_content_may_miss(message["role"], index)
    elif isinstance(content, str):
        prompt.texts.append(content)
    else:
        for place, part in enumerate(content):
            _look_at_part(prompt, part, f"{at}.content[{place}]")
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
            prompt.uncounted += len(name) + _size(value)


def _look_at_media_beside(prompt: Prompt, message: _Object, at: str) -> None:
    """Media that a message has beside its content."""
    if message.get("audio") is not None:  # of an answer before, by its id
        prompt.media.append(MediaPart("audio", f"{at}.audio"))
    images = message.get(_IMAGES) or []
    if not isinstance(images, list) or not all(isinstance(image, _Object) for image in images):
        raise InvalidField(f"{at}.{_IMAGES}", "must be a list of parts")
    for place, image in enumerate(images):
        _look_at_part(prompt, image, f"{at}.{_IMAGES}[{place}]")
    for name in message.keys() & _MEDIA_BESIDE:
        if message[name]:
            raise InvalidField(f"{at}.{name}", "is not taken here; media are parts of `content`")


def _look_at_part(prompt: Prompt, part: _Object, at: str) -> None:
    part.check(_PART_FIELDS, at)
    kind = part.get("type")
    for name in part.keys() & _MEDIA.keys():
        if name != kind:  # a vendor may go by the names, not by the type
            raise InvalidField(f"{at}.{name}", f"does not belong to a part of type `{kind}`")
    rest = {name: value for name, value in part.items() if name not in ("type", kind)}
    prompt.uncounted += _size(rest) if rest else 0
    if kind in _MEDIA:
        _look_at_media(prompt, part, kind, at)
    elif kind in _TEXTS:
        if not isinstance(part.get(kind), str):
            raise InvalidField(f"{at}.{kind}", "must be a text")
        prompt.texts.append(part[kind])
    elif kind in _OTHER_PARTS:
        prompt.uncounted += _size(part.get(kind))
    else:
        raise InvalidField(at, f"parts of type `{kind}` are not known here")


def _look_at_media(prompt: Prompt, part: _Object, kind: str, at: str) -> None:
    """The part has under its type an object, or an address, or addresses of a video's frames."""
    payload: Any = part.get(kind)
    if isinstance(payload, _Object):
        payload.check(_PAYLOAD_FIELDS, f"{at}.{kind}")
        if len([name for name in _PLACES if payload.get(name) is not None]) > 1:
            raise InvalidField(f"{at}.{kind}", f"must have one of {', '.join(_PLACES)}")
        sources = {name: payload[name] for name in _SOURCES if isinstance(payload.get(name), str)}
        inline = {name: text for name, text in sources.items() if name != "url" or _is_data(text)}
        data = list(inline.values())
        prompt.uncounted += _size({name: value for name, value in payload.items() if name not in inline})
    else:
        addresses = payload if isinstance(payload, list) else [payload]
        if not addresses or not all(isinstance(address, str) for address in addresses):
            raise InvalidField(f"{at}.{kind}", "must be an object")
        sources = {"url": addresses[0]}
        data = [address for address in addresses if _is_data(address)]
        prompt.uncounted += sum(len(address) for address in addresses if address not in data)
    detail = payload.get("detail") if isinstance(payload, dict) else None
    if "detail" in part and part["detail"] != detail:  # nobody knows which of them a vendor goes by
        detail = None
    known = _MEDIA[kind]
    if known == "image":
        if "url" not in sources:
            raise InvalidField(f"{at}.{kind}.url", "is required")
        known = _kind_at(sources["url"])
    elif known == "audio" and "url" in sources and (named := _kind_at(sources["url"])) != "image":
        known = named
    size = sum(len(text.encode(errors="surrogatepass")) for text in data)
    prompt.media.append(MediaPart(known, at, size, detail if isinstance(detail, str) else None))


def _kind_at(url: str) -> Literal["image", "audio", "file", "video"]:
    """What an image's address really names: Gemini's and other vendors' models take a PDF or a video there too. One
    that can't be told by its address is taken for an image."""
    scheme, _, rest = url.strip().partition(":")
    scheme = scheme.casefold()
    if scheme == "data":
        return _kind_of(rest.partition(",")[0].partition(";")[0].strip().casefold())
    media_type = mimetypes.guess_type(url.partition("?")[0].partition("#")[0])[0] or ""
    if scheme in ("http", "https") and not media_type.startswith(("video/", "audio/", "application/pdf")):
        return "image"
    return _kind_of(media_type)


def _kind_of(media_type: str) -> Literal["image", "audio", "file", "video"]:
    match media_type.partition("/")[0]:
        case "image":
            return "image"
        case "audio":
            return "audio"
        case "video":
            return "video"
        case _:
            return "file"


def _is_data(url: str) -> bool:
    return url.lstrip()[:5].casefold() == "data:"


def _size(value: Any) -> int:
    """Bytes of it as JSON; no tokenizer counts more tokens."""
    return len(json.dumps(value))


def _check_calls(calls: list[Raw], index: int) -> None:
    for place, call in enumerate(calls):
        if bytes(memoryview(call)[:1]) != b"{":
            raise InvalidField(f"messages[{index}].tool_calls[{place}]", "must be an object")


def _check_content_may_miss(role: str, index: int) -> None:
    if role in _NEED_CONTENT:
        raise InvalidField(f"messages[{index}].content", "is required")
