"""What an answer took whose vendor sent no usage: a count of the texts by an offline vocabulary, and a figure for each
picture and recording. An estimate, which the receipt says it is."""

import logging
from collections.abc import Iterable
from typing import Literal, Protocol

from app.base.receipt import Usage
from app.base.tokens import TOKENS_PER_TEXT, count_tokens
from app.proxy.records import Order

__all__ = ["Media", "count_output", "estimate_usage", "media_tokens"]

log = logging.getLogger("tollgate.settlement")

_BYTES_A_TOKEN = 4  # of English; only where the tokenizer fails
# The larger of the examples in OpenAI's documents: 2048x4096 at high detail, for gpt-4o 85 + 6 x 170.
_IMAGE_TOKENS = 1_105
_IMAGE_BOUND = 8_192  # what is held for one
# OpenAI counts some 10 tokens a second of speech, which takes some 10 kB where it is compressed.
_AUDIO_BYTES_A_TOKEN = 1_024


class Media(Protocol):
    """A part of a prompt that is no text: `bound` is the most tokens that it can take, `size` the bytes of its data."""

    @property
    def kind(self) -> Literal["image", "audio", "file", "video"]: ...
    @property
    def bound(self) -> int: ...
    @property
    def size(self) -> int: ...


async def estimate_usage(order: Order, output: str) -> Usage:
    """Never more of the prompt than was held for it."""
    prompt = await _count(order.prompt) + TOKENS_PER_TEXT * len(order.prompt) + _media_of(order)
    return Usage(input_tokens=min(prompt, order.input_bound), output_tokens=await count_output(output))


async def count_output(text: str) -> int:
    """Tokens of an answer's text. Does not fail."""
    return await _count((text,))


def media_tokens(parts: Iterable[Media]) -> int:
    """What pictures and recordings usually take; of a file or a video nobody knows, so that counts its bound."""
    return sum(_tokens(part) for part in parts)


def _tokens(part: Media) -> int:
    match part.kind:
        case "image":
            return min(part.bound, _IMAGE_TOKENS)
        case "audio":
            return min(part.bound, -(-part.size // _AUDIO_BYTES_A_TOKEN))
    return part.bound


def _media_of(order: Order) -> int:
    """Orders know the sum of their pictures' bounds alone, each of which is the same."""
    pictures = -(-order.image_tokens // _IMAGE_BOUND)
    return min(order.image_tokens, pictures * _IMAGE_TOKENS)


async def _count(texts: tuple[str, ...]) -> int:
    try:
        return await count_tokens(texts)
    except Exception:  # a hold must end whatever a text does to the tokenizer
        log.exception("tokens could not be counted: their number is taken from the bytes")
        return sum(-(-len(text.encode(errors="replace")) // _BYTES_A_TOKEN) for text in texts)
