"""The parts of a message's content: what each of them is, and what it may cost.

What a part can cost must not hide under a name, a type or a second key that is not read here.

Source of the parts: the Chat Completions API reference, and those of vendors that add to it: Mistral (`document_url`,
`thinking`, `reference`), Qwen (`video`, `video_url`), vLLM (`audio_url`, `video_url`).
"""

import json
import mimetypes
import re
from collections import Counter
from typing import Any, Literal
from unicodedata import is_normalized, normalize
from urllib.parse import unquote

import msgspec

from app.base.errors import InvalidField
from app.proxy.records import MediaPart
from app.proxy.relay.dialects.openai_fields import check_names

__all__ = ["JsonObject", "Prompt", "composed_growth", "look_at_part", "size_of"]

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
_PART_FIELDS = frozenset({*_MEDIA, *_TEXTS, *_OTHER_PARTS, "type", "cache_control"})
_SOURCES = ("url", "data", "file_data")
_PLACES = (*_SOURCES, "file_id", "file_url", "id")
_PAYLOAD_FIELDS = frozenset({*_PLACES, "detail", "format", "filename"})
# Python's own table, and not that of the machine, with what it lacks.
_AT_THE_END = re.compile(r"\W+$")
_TYPES = mimetypes.MimeTypes()
for _ending, _type in {
    **dict.fromkeys((".docx", ".xlsx", ".pptx", ".odt", ".ods", ".odp", ".rtf", ".epub"), "application/x-document"),
    ".md": "text/markdown",
    **dict.fromkeys((".mkv", ".m4v", ".flv", ".wmv", ".ogv", ".3gp", ".3g2"), "video/x-video"),
    **dict.fromkeys((".m4a", ".flac", ".ogg", ".oga", ".wma", ".amr"), "audio/x-audio"),
}.items():
    _TYPES.add_type(_type, _ending)


class Prompt(msgspec.Struct):
    """What messages are made of; `uncounted` is in bytes."""

    texts: list[str]
    media: list[MediaPart]
    uncounted: int = 0


class JsonObject(dict[str, Any]):
    """A JSON object, and a name that it gives twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.twice: str | None = None
        if len(self) != len(pairs):
            names = [name for name, _ in pairs]
            self.twice = next(name for name in names if names.count(name) > 1)

    def check(self, known: frozenset[str], at: str) -> None:
        """Raises InvalidField for a name that is given twice, or that only looks like a known one."""
        if self.twice is not None:
            raise InvalidField(f"{at}.{self.twice}", "is given twice")
        check_names(self, known, at)


def look_at_part(prompt: Prompt, part: JsonObject, at: str) -> None:
    """Adds a part to its prompt; `at` is its path. Raises InvalidField with the path of what can't be bounded."""
    part.check(_PART_FIELDS, at)
    kind = part.get("type")
    for name in part.keys() & _MEDIA.keys():
        if name != kind:  # a vendor may go by the names, not by the type
            raise InvalidField(f"{at}.{name}", f"does not belong to a part of type `{kind}`")
    rest = {name: value for name, value in part.items() if name not in ("type", kind)}
    prompt.uncounted += size_of(rest) if rest else 0
    if kind in _MEDIA:
        _look_at_media(prompt, part, kind, at)
    elif kind in _TEXTS:
        if not isinstance(part.get(kind), str):
            raise InvalidField(f"{at}.{kind}", "must be a text")
        prompt.texts.append(part[kind])
    elif kind in _OTHER_PARTS:
        prompt.uncounted += size_of(part.get(kind))
    else:
        raise InvalidField(at, f"parts of type `{kind}` are not known here")


def _look_at_media(prompt: Prompt, part: JsonObject, kind: str, at: str) -> None:
    """The part has under its type an object, or an address, or addresses of a video's frames."""
    payload: Any = part.get(kind)
    if isinstance(payload, JsonObject):
        payload.check(_PAYLOAD_FIELDS, f"{at}.{kind}")
        if len([name for name in _PLACES if payload.get(name) is not None]) > 1:
            raise InvalidField(f"{at}.{kind}", f"must have one of {', '.join(_PLACES)}")
        sources = {name: payload[name] for name in _SOURCES if isinstance(payload.get(name), str)}
        inline = {name: text for name, text in sources.items() if name != "url" or _is_data(text)}
        data = list(inline.values())
        prompt.uncounted += size_of({name: value for name, value in payload.items() if name not in inline})
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
    that can't be told by its address is taken for an image. Many servers take an address with a slash or a blank at its
    end for the one without."""
    scheme, _, rest = url.strip().partition(":")
    scheme = scheme.casefold()
    if scheme == "data":
        return _kind_of(rest.partition(",")[0].partition(";")[0].strip().casefold())
    path = (rest or url).partition("?")[0].partition("#")[0]
    if path.startswith("//"):
        path = path[2:].partition("/")[2]
    name = _AT_THE_END.sub("", unquote(path)).rpartition("/")[2]
    media_type = next((known for each in (name, name.partition(";")[0]) if (known := _TYPES.guess_type(each)[0])), "")
    if not media_type and scheme in ("http", "https"):
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


def size_of(value: Any) -> int:
    """Bytes of it as JSON; no tokenizer counts more tokens."""
    return len(json.dumps(value))


def composed_growth(text: str) -> int:
    """Bytes by which a text can grow at most where a tokenizer composes its characters first (Unicode's form NFC), as
    Qwen's does: some hundred characters, such as U+0FB9, become several."""
    if is_normalized("NFC", text):
        return 0
    return sum(
        count * max(0, len(normalize("NFC", character).encode()) - len(character.encode()))
        for character, count in Counter(text).items()
        if not character.isascii()
    )
