"""OpenAI's `usage`, as its vendors fill it in: every one counts a little differently. Pure.

`prompt_tokens` includes what was cached, and `completion_tokens` the reasoning (OpenAI's reference). Vendors differ in
two ways. Some give a class another name: such a name means the same wherever it appears, and gateways pass it on, so
every name is read at every vendor. Some count a class outside of its whole: that depends on the vendor, and is data
(`UsageRules`, chosen in `providers`).

A figure is read from any JSON type that holds a whole number: `10`, `10.0`, `"10"`. Details that are no object say
nothing.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from app.proxy.records import Usage

__all__ = ["OPENAI_RULES", "TOKENS_MOST", "SentUsage", "UsageRules", "read_usage", "usage_fields"]

Json = dict[str, Any]

# No request has so many: a vendor that says so does not know.
TOKENS_MOST = 1_000_000_000
_DIGITS_MOST = len(str(TOKENS_MOST))

_PROMPT_DETAILS = ("prompt_tokens_details", "prompt_token_details")  # OpenAI; Mistral
_COMPLETION_DETAILS = ("completion_tokens_details",)
_CACHED = ("cached_tokens",)
# Beside the details: Moonshot, DeepSeek, Mistral, gateways to Anthropic.
_CACHED_BESIDE = ("cached_tokens", "prompt_cache_hit_tokens", "num_cached_tokens", "cache_read_input_tokens")
_WRITTEN = ("cache_write_tokens", "cache_creation_input_tokens")  # OpenAI; DashScope, gateways to Anthropic
_HOURLY = ("ephemeral_1h_input_tokens",)
_REASONING = ("reasoning_tokens",)
_PRIVATE = (b"cost", b"provider")  # what a gateway tells of its vendors and prices
_EMPTY: Json = {}
_NULL = Raw(b"null")

_decode = msgspec.json.Decoder().decode


class UsageRules(msgspec.Struct, frozen=True, kw_only=True):
    """What a vendor counts outside of the whole in which OpenAI counts it.

    `hides_output`: output may be in `total_tokens` alone, named as reasoning or not at all. `lacks_cached`:
    `prompt_tokens` may leave out the cached tokens. `tool_prompts`: the names, in the details of the prompt or beside
    them, of what tools added to the prompt (results of searches), which `prompt_tokens` leaves out. The total of a
    vendor with such names has no other class in it.
    """

    hides_output: bool = False
    lacks_cached: bool = False
    tool_prompts: tuple[str, ...] = ()


OPENAI_RULES = UsageRules()


class SentUsage(msgspec.Struct, frozen=True):
    """What a vendor's `usage` says. `has_output` is False where it does not say how long the answer is;
    `counts.output_tokens` is 0 then. `is_plain`: a customer who reads it in OpenAI's way finds the same numbers as in
    `counts`, and neither an amount of money nor a vendor's name."""

    counts: Usage
    has_output: bool = True
    is_plain: bool = True


Tokens = Annotated[int, Meta(ge=0, le=TOKENS_MOST)]


class _PlainPrompt(msgspec.Struct, forbid_unknown_fields=True):
    cached_tokens: Tokens = 0
    audio_tokens: Tokens = 0
    image_tokens: Tokens = 0
    text_tokens: Tokens = 0


class _PlainCompletion(msgspec.Struct, forbid_unknown_fields=True):
    reasoning_tokens: Tokens = 0
    audio_tokens: Tokens = 0
    image_tokens: Tokens = 0
    text_tokens: Tokens = 0
    accepted_prediction_tokens: Tokens = 0
    rejected_prediction_tokens: Tokens = 0


class _Plain(msgspec.Struct, forbid_unknown_fields=True):
    """OpenAI's own shape, which most requests have: to read it this way takes a fifth of the time."""

    prompt_tokens: Tokens
    completion_tokens: Tokens
    total_tokens: Tokens
    prompt_tokens_details: _PlainPrompt | None = None
    completion_tokens_details: _PlainCompletion | None = None


_plain = msgspec.json.Decoder(_Plain)
_NO_PROMPT = _PlainPrompt()
_NO_COMPLETION = _PlainCompletion()


class _Wholes(msgspec.Struct):
    """Prompt and completion in tokens, with their parts that vendors may count outside of them. `completion` and
    `reasoning` are None where they are not said."""

    prompt: int
    completion: int | None
    cached: int
    reasoning: int | None


def read_usage(raw: Raw, rules: UsageRules = OPENAI_RULES) -> SentUsage | None:
    """Usage as the vendor counted it; an explicit zero is a zero. None where it is missing or makes no sense: it has no
    readable prompt, or a completion that is negative, a fraction or above TOKENS_MOST. Raises nothing."""
    if raw == _NULL:
        return None
    try:
        if (counts := _read_plain(_plain.decode(raw))) is not None:
            return SentUsage(counts)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return _read_any(raw, rules)


def _read_any(raw: Raw, rules: UsageRules) -> SentUsage | None:
    try:
        sent = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if type(sent) is not dict or (prompt := _count(sent.get("prompt_tokens"))) is None:
        return None
    said = sent.get("completion_tokens")
    completion = _count(said)
    if completion is None and said is not None:
        return None
    inputs, outputs = _details(sent, _PROMPT_DETAILS), _details(sent, _COMPLETION_DETAILS)
    cached = _first(_CACHED, inputs) or _first(_CACHED_BESIDE, sent) or 0
    wholes = _Wholes(prompt, completion, cached, _first(_REASONING, outputs, sent))
    total = _count(sent.get("total_tokens"))
    spare = 0 if total is None else total - prompt - (completion or 0)
    if spare > 0 or (rules.lacks_cached and cached > prompt):
        tools = _first(rules.tool_prompts, inputs, sent) or 0
        _take_in(wholes, max(spare, 0), tools, rules)
    counts = _counts(wholes, sent, inputs, outputs)
    is_plain = _is_plain(sent, counts) and not any(word in bytes(raw) for word in _PRIVATE)
    return SentUsage(counts, wholes.completion is not None, is_plain)


def usage_fields(counts: Usage) -> Json:
    """The counts as OpenAI's `usage` says them."""
    prompt = {"cached_tokens": counts.cached_input_tokens}
    completion = {"reasoning_tokens": counts.reasoning_tokens}
    for details, name, tokens in (
        (prompt, "cache_write_tokens", counts.cache_write_tokens),
        (prompt, "audio_tokens", counts.audio_input_tokens),
        (prompt, "image_tokens", counts.image_input_tokens),
        (completion, "audio_tokens", counts.audio_output_tokens),
        (completion, "image_tokens", counts.image_output_tokens),
    ):
        if tokens:
            details[name] = tokens
    return {
        "prompt_tokens": counts.input_tokens,
        "completion_tokens": counts.output_tokens,
        "total_tokens": counts.input_tokens + counts.output_tokens,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": completion,
    }


def _read_plain(sent: _Plain) -> Usage | None:
    """None where a sum or a part needs a second look."""
    whole, output = sent.prompt_tokens, sent.completion_tokens
    if sent.total_tokens != whole + output:
        return None
    if sent.prompt_tokens_details is None and sent.completion_tokens_details is None:
        return Usage(input_tokens=whole, output_tokens=output)
    prompt = sent.prompt_tokens_details or _NO_PROMPT
    completion = sent.completion_tokens_details or _NO_COMPLETION
    if (
        max(prompt.cached_tokens, prompt.audio_tokens, prompt.image_tokens) > whole
        or max(completion.reasoning_tokens, completion.audio_tokens, completion.image_tokens) > output
    ):
        return None
    return Usage(
        input_tokens=whole,
        output_tokens=output,
        cached_input_tokens=prompt.cached_tokens,
        reasoning_tokens=completion.reasoning_tokens,
        audio_input_tokens=prompt.audio_tokens,
        audio_output_tokens=completion.audio_tokens,
        image_input_tokens=prompt.image_tokens,
        image_output_tokens=completion.image_tokens,
    )


def _take_in(wholes: _Wholes, spare: int, tools: int, rules: UsageRules) -> None:
    """Adds to its whole what was counted outside of it. `spare` is what the total has beyond prompt and completion: so
    much of it as neither the numbers nor the rules explain is not charged."""
    reasoning = wholes.reasoning or 0
    if rules.lacks_cached and wholes.cached:
        is_in_total = spare != reasoning and spare in (wholes.cached, wholes.cached + reasoning)
        if is_in_total or wholes.cached > wholes.prompt:
            wholes.prompt += wholes.cached
            spare -= wholes.cached if is_in_total else 0
    if tools <= spare:
        wholes.prompt += tools
        spare -= tools
    if wholes.completion is None:
        wholes.completion = spare or None  # a total that is the prompt's says nothing of the answer
    elif wholes.reasoning is None and rules.hides_output:
        wholes.completion += spare
        wholes.reasoning = spare
    elif spare == reasoning or rules.hides_output:
        hidden = min(spare, reasoning)
        wholes.completion += hidden
        if rules.tool_prompts:
            wholes.prompt += spare - hidden


def _counts(wholes: _Wholes, sent: Json, inputs: Json, outputs: Json) -> Usage:
    """A class is a part of its whole, whatever a vendor says."""
    whole, output = wholes.prompt, wholes.completion or 0
    cached = min(wholes.cached, whole)
    written = min(_first(_WRITTEN, inputs, sent) or 0, whole - cached)
    hourly = 0
    if written:
        hourly = _first(_HOURLY, _details(sent, ("cache_creation",)), _details(inputs, ("cache_creation",))) or 0
    return Usage(
        input_tokens=whole,
        output_tokens=output,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=min(hourly, written),
        reasoning_tokens=min(wholes.reasoning or 0, output),
        audio_input_tokens=min(_count(inputs.get("audio_tokens")) or 0, whole),
        audio_output_tokens=min(_count(outputs.get("audio_tokens")) or 0, output),
        image_input_tokens=min(_count(inputs.get("image_tokens")) or 0, whole),
        image_output_tokens=min(_count(outputs.get("image_tokens")) or 0, output),
    )


def _is_plain(sent: Json, counts: Usage) -> bool:
    total = counts.input_tokens + counts.output_tokens
    return (
        _says(sent, "prompt_tokens", counts.input_tokens)
        and _says(sent, "completion_tokens", counts.output_tokens)
        and _says(sent, "total_tokens", total)
        and _says_part(sent, "prompt_tokens_details", "cached_tokens", counts.cached_input_tokens)
        and _says_part(sent, "completion_tokens_details", "reasoning_tokens", counts.reasoning_tokens)
        and _says_all(_details(sent, _COMPLETION_DETAILS), "audio_tokens", counts.audio_output_tokens)
        and _says_all(_details(sent, _COMPLETION_DETAILS), "image_tokens", counts.image_output_tokens)
        and _says_all(_details(sent, _PROMPT_DETAILS), "audio_tokens", counts.audio_input_tokens)
        and _says_all(_details(sent, _PROMPT_DETAILS), "image_tokens", counts.image_input_tokens)
        and all(
            _says_all(place, name, counts.cache_write_tokens)
            for place in (sent, _details(sent, _PROMPT_DETAILS))
            for name in _WRITTEN
        )
    )


def _says(sent: Json, name: str, tokens: int) -> bool:
    figure = sent.get(name)
    return type(figure) is int and figure == tokens


def _says_all(parts: Json, name: str, tokens: int) -> bool:
    """A class of its own: where it is named, it is as it is charged."""
    return parts.get(name) is None or _says(parts, name, tokens)


def _says_part(sent: Json, details: str, name: str, tokens: int) -> bool:
    """Details that are left out say that there are none of the class."""
    parts = sent.get(details)
    if parts is None:
        return tokens == 0
    return type(parts) is dict and (_says(parts, name, tokens) or (tokens == 0 and parts.get(name) is None))


def _details(sent: Json, names: tuple[str, ...]) -> Json:
    for name in names:
        if type(found := sent.get(name)) is dict:
            return found
    return _EMPTY


def _first(names: tuple[str, ...], *places: Json) -> int | None:
    """The first readable figure under one of the names, place by place."""
    for place in places:
        for name in names:
            if name in place and (tokens := _count(place[name])) is not None:
                return tokens
    return None


def _count(figure: object) -> int | None:
    """A number of tokens. None where it is none: a fraction, a boolean, a negative or an absurd figure."""
    if type(figure) is float:
        figure = int(figure) if figure.is_integer() else None
    elif type(figure) is str:
        is_number = len(figure) <= _DIGITS_MOST and figure.isascii() and figure.isdigit()
        figure = int(figure) if is_number else None
    return figure if type(figure) is int and 0 <= figure <= TOKENS_MOST else None
