"""OpenAI's `usage`, as its vendors fill it in: every one counts a little differently. Pure.

`prompt_tokens` includes what was cached (OpenAI's reference); DeepSeek names that `prompt_cache_hit_tokens`; gateways
to Anthropic keep its `cache_creation_input_tokens`; xAI and Gemini leave reasoning out of `completion_tokens` and count
it in `total_tokens` alone.
"""

import msgspec
from msgspec import Raw

from app.proxy.records import Usage

__all__ = ["TOKENS_MOST", "read_usage"]

# No request has so many: a vendor that says so does not know.
TOKENS_MOST = 1_000_000_000


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class _CacheCreation(msgspec.Struct):
    ephemeral_1h_input_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    prompt_cache_hit_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None


_usage = msgspec.json.Decoder(_Usage | None)
_NO_DETAILS = _Details()


def read_usage(raw: Raw, *, hides_output: bool = False) -> Usage | None:
    """Usage as the vendor counted it; an explicit zero is a zero. None where it is missing or makes no sense.

    `hides_output`: what the total has beyond prompt and completion is output of this vendor.
    """
    try:
        sent = _usage.decode(raw)
    except msgspec.DecodeError:
        return None
    if sent is None or sent.prompt_tokens is None:
        return None
    whole, output = sent.prompt_tokens, sent.completion_tokens or 0
    if not (0 <= whole <= TOKENS_MOST and 0 <= output <= TOKENS_MOST):
        return None
    prompt = sent.prompt_tokens_details or _NO_DETAILS
    completion = sent.completion_tokens_details or _NO_DETAILS
    reasoning = completion.reasoning_tokens or 0
    hidden = (sent.total_tokens or 0) - whole - output
    if 0 < hidden <= TOKENS_MOST and (hides_output or hidden == reasoning):
        output += hidden
        reasoning = max(reasoning, hidden)
    # A class is a part of its whole, whatever a vendor says.
    cached = _within(_first(prompt.cached_tokens, sent.prompt_cache_hit_tokens, sent.cache_read_input_tokens), whole)
    written = _within(_first(prompt.cache_write_tokens, sent.cache_creation_input_tokens), whole - cached)
    hourly = sent.cache_creation.ephemeral_1h_input_tokens if sent.cache_creation else None
    return Usage(
        input_tokens=whole,
        output_tokens=output,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=_within(hourly, written),
        reasoning_tokens=_within(reasoning, output),
        audio_input_tokens=_within(prompt.audio_tokens, whole),
        audio_output_tokens=_within(completion.audio_tokens, output),
        image_input_tokens=_within(prompt.image_tokens, whole),
        image_output_tokens=_within(completion.image_tokens, output),
    )


def _first(*counts: int | None) -> int | None:
    for count in counts:
        if count is not None:
            return count
    return None


def _within(part: int | None, whole: int) -> int:
    return max(0, min(part, whole)) if part else 0
