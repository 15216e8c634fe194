"""A vendor that keeps the bound it is sent and takes all that the bound allows: it reads a request as loosely as any
vendor does, and says that it used as much as that reading permits.

Names are read without regard to case (Go's `encoding/json`) or in camel case (protobuf's JSON), and of several the last
counts, or the first; the bound of an answer is read
in one field alone, and fields that engines and gateways add to OpenAI's are followed: llama.cpp's `n_predict`, vLLM's
`best_of`, LiteLLM's `extra_body` and `fallbacks`, pictures beside a message's content, files beside the messages.
"""

import json
from functools import partial
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import bpe_openai
import msgspec
from msgspec import Raw

from app.base.receipt import Extras, Usage
from app.base.tokens import count_tokens_sync
from app.catalog.records import ImageTokens, Media
from tests.proxy.whole_requests import Json, Said
from tests.upstreams import Exchange

__all__ = ["GreedyVendor", "Reading"]

LimitName = Literal["max_tokens", "max_completion_tokens"]

# What the gateway writes itself, which is no prompt.
_WRITTEN = frozenset({"model", "stream_options", "max_tokens", "max_completion_tokens"})
_BEYOND_BOUNDS = 1_000_000  # tokens of what nobody has declared: a file, a video, a conversation kept by the vendor
_LIMIT_MOST = 100_000  # tokens that a model gives which declares no maximum
_IMAGE = 48_169  # of a model that declares none; the vendor does not read `detail`
_OTHER_LIMITS = ("n_predict", "max_new_tokens", "max_output_tokens", "max_length")
_OTHER_ANSWERS = ("best_of", "num_beams", "num_return_sequences", "candidate_count", "n_cmpl")
_PRICED = ("web_search_options", "store", "provider", "plugins")
# Without a bound of their own: what the vendor keeps, files, and what another model takes.
_UNBOUNDED = ("previous_response_id", "conversation", "prompt", "preset", "file_ids", "images", "fallbacks")
_CAMEL = {name.replace("_", ""): name for name in ("max_tokens", "candidate_count", "service_tier", "n_predict")}
_SOURCES = {
    "image_url": ("image", "url"),
    "input_audio": ("audio", "data"),
    "file": ("file", "file_data"),
    "audio_url": ("audio", "url"),
    "document_url": ("file", "url"),
    "video_url": ("video", "url"),
    "video": ("video", "url"),
}
_TURN_TOKENS = 4  # of a message, beside its content: https://cookbook.openai.com (how to count tokens)
_PRIMING_TOKENS = 3

_fields = msgspec.json.Decoder(dict[str, Raw])


class Reading(msgspec.Struct, frozen=True):
    """What a request was understood to be."""

    usage: Usage
    extras: Extras
    answers: int
    stream: bool


class GreedyVendor:
    """`limit_name` is the field in which it reads the bound; `media` and `most` are what its model takes and gives;
    `is_counted` says that it counts tokens as OpenAI does, by the model's name, and not a token a byte. It answers
    `said` where that is something else than what it read."""

    def __init__(self) -> None:
        self.limit_name: LimitName = "max_tokens"
        self.media = Media()
        self.most: int | None = None
        self.is_counted = False
        self.takes_first = False
        self.said: Said | None = None
        self.readings: list[Reading] = []

    async def __call__(self, exchange: Exchange) -> None:
        reading = self.read(exchange.request.body)
        self.readings.append(reading)
        if self.said is not None:
            await self.said.send(exchange, reading.answers, stream=reading.stream)
            return
        usage = {"prompt_tokens": reading.usage.input_tokens, "completion_tokens": reading.usage.output_tokens}
        usage["total_tokens"] = sum(usage.values())
        tier = reading.extras.service_tier
        said = Said(
            pieces=["word"],
            usages={2: usage},
            tiers={} if tier is None else {2: tier},
            finish="stop",
            ending="done",
            in_one_piece=False,
        )
        await said.send(exchange, reading.answers, stream=reading.stream)

    def read(self, body: bytes) -> Reading:
        read: Json = json.loads(body, object_pairs_hook=partial(_folded, takes_first=self.takes_first))
        if isinstance(read.get("extra_body"), dict):
            read |= read["extra_body"]
        answers = _whole(read.get("n")) or 1
        limit = _whole(read.get(self.limit_name)) or self.most or _LIMIT_MOST
        for name in _OTHER_LIMITS:
            limit = max(limit, _whole(read.get(name)))
        generated = max([answers, *(_whole(read.get(name)) for name in _OTHER_ANSWERS)])
        asked = read.get("service_tier")
        asked = asked.lower() if isinstance(asked, str) else None
        tier = {"auto": "priority", "default": None, "standard": None}.get(asked, asked)
        tools = read.get("tools") or ()
        hosted = any(tool.get("type") not in ("function", "custom") or "googlesearch" in tool for tool in tools)
        priced = [name for name in _PRICED if read.get(name) not in (None, False)] + ["tools"] * hosted
        return Reading(
            Usage(input_tokens=self._prompt(body, read), output_tokens=generated * limit),
            Extras(service_tier=tier, fields=tuple(sorted(priced))),
            answers,
            bool(read.get("stream")),
        )

    def _prompt(self, body: bytes, read: Json) -> int:
        tokens = _counted(read) if self.is_counted else _bytes(body)
        for message in read["messages"]:
            for picture in message.get("images") or ():
                is_part = isinstance(picture, dict)
                tokens += self._media("image_url", picture) if is_part else _image(self.media.image, None)
            if message.get("audio") is not None:
                tokens += self._part("audio", None)
            for part in message["content"] if isinstance(message.get("content"), list) else ():
                kind = part["type"]
                if kind in _SOURCES:
                    tokens += self._media(kind, part)
        return tokens + _BEYOND_BOUNDS * sum(name in read for name in _UNBOUNDED)

    def _media(self, kind: str, part: Json) -> int:
        """Tokens of it; where bytes are tokens, less those of the data that it knows it to be."""
        known, source = _SOURCES[kind]
        payload = part.get(kind)
        if not isinstance(payload, dict):
            payload = {"url": payload[0] if isinstance(payload, list) else payload}
        data = payload.get(source)
        frames = part[kind] if isinstance(part.get(kind), list) else [data]
        inline = [each for each in frames if source != "url" or str(each).lstrip()[:5].lower() == "data:"]
        if source == "url" and known in ("image", "audio"):
            named = _kind_at(str(data))
            known = known if named == "image" else named
        size = sum(len(each.encode()) for each in inline if isinstance(each, str))
        if known == "image":
            tokens = _image(self.media.image, part.get("detail", payload.get("detail")))
        else:
            tokens = self._part(known, None if "id" in payload else size or None)
        return tokens - (0 if self.is_counted else size)

    def _part(self, kind: str, size: int | None) -> int:
        declared: int | None = getattr(self.media, kind)
        if declared is None and kind == "audio":
            declared = size
        return _BEYOND_BOUNDS if declared is None else declared


def _image(declared: int | ImageTokens | None, detail: Any) -> int:
    bound = _IMAGE if declared is None else declared
    if isinstance(bound, int):
        return bound
    return bound.low if detail == "low" else bound.high


def _kind_at(url: str) -> str:
    address = urlsplit(url.strip().lower())
    is_data = address.scheme == "data"
    named = address.path.partition(";")[0] if is_data else unquote(address.path).rstrip("/ ")
    if named.startswith("video/") or named.endswith(".mp4"):
        return "video"
    if named.startswith("audio/") or named.endswith(".wav"):
        return "audio"
    return "file" if named == "application/pdf" or named.endswith((".pdf", ".docx")) else "image"


def _bytes(body: bytes) -> int:
    """A token a byte, of all that the customer may have written."""
    return sum(
        len(name) + len(bytes(value)) + 4 for name, value in _fields.decode(body).items() if name not in _WRITTEN
    )


def _counted(read: Json) -> int:
    texts: list[str] = []
    for message in read["messages"]:
        for name, value in message.items():
            if name == "content" and isinstance(value, list):
                texts += [part["text"] for part in value if isinstance(part.get("text"), str)]
            elif isinstance(value, str) and name != "role":
                texts.append(value)
            elif value is not None and name not in ("role", "audio"):
                texts.append(_said(value))
    texts += [_said(read[name]) for name in ("tools", "functions", "response_format") if read.get(name) is not None]
    named = sum(message.get("name") is not None for message in read["messages"])
    return _tokens(read["model"], texts) + _TURN_TOKENS * len(read["messages"]) + named + _PRIMING_TOKENS


def _tokens(model: str, texts: list[str]) -> int:
    """As tiktoken's `encoding_for_model` has it: https://github.com/openai/tiktoken/blob/main/tiktoken/model.py."""
    if model.startswith(("gpt-4o", "gpt-5", "ft:gpt-4o")):
        return count_tokens_sync(texts)
    encode = bpe_openai.get_encoding("cl100k_base").encode_ordinary
    return sum(len(encode(text)) for text in texts)


def _said(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _whole(value: Any) -> int:
    """0 where it is no number."""
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0


def _folded(pairs: list[tuple[str, Any]], *, takes_first: bool) -> Json:
    """One of each name; of objects under one name the fields of all, as Go reads into a struct."""
    read: Json = {}
    for each, value in reversed(pairs) if takes_first else pairs:
        name = _CAMEL.get(each.casefold(), each.casefold())
        before = read.get(name)
        is_merged = isinstance(before, dict) and isinstance(value, dict)
        read[name] = before | value if is_merged else value
    return read
