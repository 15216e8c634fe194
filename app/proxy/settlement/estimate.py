"""What an answer took whose vendor sent no usage: a count of the texts by an offline vocabulary, and a figure for each
picture and recording. An estimate, which the receipt says it is."""

import logging

import msgspec

from app.base.receipt import Usage, UsageSource
from app.base.tokens import TOKENS_PER_TEXT, count_tokens
from app.proxy.records import Order

__all__ = ["at_least_the_text", "count_output", "estimate_usage", "media_tokens"]

log = logging.getLogger("tollgate.settlement")

_BYTES_A_TOKEN = 4  # of English; only where the tokenizer fails
# The larger of the examples in OpenAI's documents: 2048x4096 at high detail, for gpt-4o 85 + 6 x 170.
_IMAGE_TOKENS = 1_105
# OpenAI counts some 10 tokens a second of speech, which takes some 10 kB where it is compressed.
_AUDIO_BYTES_A_TOKEN = 1_024


async def estimate_usage(order: Order, output: str, *, media: int | None = None) -> Usage:
    """Never more of the prompt than was held for it. `media` is what its media take, where that is not the usual."""
    texts = await _count_prompt(order) + (media_tokens(order) if media is None else media)
    return Usage(input_tokens=min(texts, order.input_bound), output_tokens=await count_output(output))


async def at_least_the_text(
    order: Order, output: str, said: Usage, *, media: int | None = None
) -> tuple[Usage, UsageSource]:
    """A count that is not the vendor's last word, or what the text comes to where that is more. A vendor that has not
    even counted the prompt's text yet does not know its media either; one that has knows them."""
    input_tokens = said.input_tokens
    if input_tokens < await _count_prompt(order):
        input_tokens = max(input_tokens, (await estimate_usage(order, "", media=media)).input_tokens)
    output_tokens = max(said.output_tokens, await count_output(output))
    if (input_tokens, output_tokens) == (said.input_tokens, said.output_tokens):
        return said, "upstream"
    return msgspec.structs.replace(said, input_tokens=input_tokens, output_tokens=output_tokens), "estimated"


async def _count_prompt(order: Order) -> int:
    return await _count(order.prompt) + TOKENS_PER_TEXT * len(order.prompt)


async def count_output(text: str) -> int:
    """Tokens of an answer's text. Does not fail."""
    return await _count((text,))


def media_tokens(order: Order) -> int:
    """What images and recordings usually take, and never more than was held for them. Of a file or a video nobody
    knows, so all media count what was held then."""
    usual = 0
    for part in order.media:
        match part.kind:
            case "image":
                usual += _IMAGE_TOKENS
            case "audio" if part.size:
                usual += -(-part.size // _AUDIO_BYTES_A_TOKEN)
            case _:
                return order.media_tokens
    return min(order.media_tokens, usual)


async def _count(texts: tuple[str, ...]) -> int:
    try:
        return await count_tokens(texts)
    except Exception:  # a hold must end whatever a text does to the tokenizer
        log.exception("tokens could not be counted: their number is taken from the bytes")
        return sum(-(-len(text.encode(errors="replace")) // _BYTES_A_TOKEN) for text in texts)
