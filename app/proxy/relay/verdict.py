"""What a vendor's status means: ask another channel, or another model, or tell the customer. Pure."""

import email.utils
import re

import msgspec

from app.base.errors import VendorRefused
from app.base.receipt import Usage
from app.catalog.records import Channel
from app.proxy.relay.bounds import ERROR_BYTES_SEARCHED

__all__ = ["is_answer", "is_overflow", "is_refusal", "read_refusal", "retry_after_ms", "tokens_taken"]

# The vendor found fault with the request itself: every other vendor would too. Anything else that is no answer is this
# channel's trouble, its 401, 402 and 403 included: those are about the operator's credential.
_REFUSALS = frozenset({400, 404, 413, 422})
_ANSWERS = frozenset({200, 201})  # some frameworks have 201 for every POST
_MESSAGE_MOST = 2000
_WAIT_MOST_MS = 3_600_000
_LETTERS_A_TOKEN = 4  # of English
_number = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")
_SCRUBBED_MOST = 64 * 1024
_SECRET_FROM = 6  # letters: what is shorter in an operator's header is no secret, and may be any word
_ANY_KEY = re.compile(r"\b(?:sk|key|gsk|xai|AIza)[-_][A-Za-z0-9_*.…-]{6,}")


class _Error(msgspec.Struct):
    message: object = None
    code: object = None
    param: object = None


class _Body(msgspec.Struct):
    error: _Error | str | None = None
    message: str | None = None


def is_answer(status: int) -> bool:
    return status in _ANSWERS


def is_refusal(status: int) -> bool:
    return status in _REFUSALS


def read_refusal(status: int, body: bytes, channel: Channel, public_model: str) -> VendorRefused:
    """The vendor's own words, without the operator's secrets: credentials, the channel's name and address, and the
    model's upstream name."""
    try:
        sent = msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        sent = _Body()
    error = sent.error if isinstance(sent.error, _Error) else _Error(message=sent.error or sent.message)
    message = error.message if isinstance(error.message, str) and error.message else "The request was refused."
    return VendorRefused(
        status,
        _scrub(message, channel, public_model)[:_MESSAGE_MOST],
        _scrub(error.code, channel, public_model)[:100] if isinstance(error.code, str) else None,
        _scrub(error.param, channel, public_model)[:200] if isinstance(error.param, str) else None,
    )


# How vendors say that a prompt, or a prompt and the answer it asks for, is longer than the model's window.
_OVERFLOW_CODES = (b"context_length_exceeded", b"exceed_context_size_error", b"model_context_window_exceeded")
_overflow = re.compile(
    rb"maximum context length"  # OpenAI, DeepSeek, Together, OpenRouter, vLLM, Mistral
    rb"|maximum prompt length"  # xAI
    rb"|prompt is too long"  # Anthropic
    rb"|exceed(?:s|ed)? (?:the )?(?:context (?:limit|window|length)|available context size|model token limit)"
    rb"|exceeds the maximum number of (?:input )?tokens"  # Gemini
    rb"|too many tokens"  # Cohere
    rb"|input is too long for (?:the )?requested model"  # Bedrock
    rb"|range of input length should be"  # DashScope
    rb"|reduce the length of the (?:messages|prompt|input)",  # Groq, Fireworks
    re.IGNORECASE,
)


def is_overflow(status: int, body: bytes) -> bool:
    """Whether the vendor refused the request because its prompt is too long for the model."""
    said = body[:ERROR_BYTES_SEARCHED]
    return status in {400, 413} and (any(code in said for code in _OVERFLOW_CODES) or bool(_overflow.search(said)))


def retry_after_ms(sent: str | None, sent_ms: str | None, now_ms: int) -> int | None:
    """When a vendor wants to be asked again: from its `retry-after-ms`, or else its `retry-after`, seconds or a date.
    An hour at most; None where neither makes sense."""
    if sent_ms is not None and _number.fullmatch(sent_ms.strip()):
        return min(round(float(sent_ms)), _WAIT_MOST_MS)
    if sent is None:
        return None
    if _number.fullmatch(sent.strip()):
        return min(round(float(sent) * 1000), _WAIT_MOST_MS)
    try:
        at = email.utils.parsedate_to_datetime(sent)
        return min(max(0, round(at.timestamp() * 1000) - now_ms), _WAIT_MOST_MS)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def tokens_taken(usage: Usage | None, input_bytes: int = 0, output_letters: int = 0) -> int:
    """What a vendor counts against its limit of tokens; where it does not say, guessed from the texts."""
    if usage is not None:
        return usage.input_tokens + usage.output_tokens
    return (input_bytes + output_letters) // _LETTERS_A_TOKEN


def _scrub(text: str, channel: Channel, public_model: str) -> str:
    text = text[:_SCRUBBED_MOST]  # cut to its final length only after: a secret across the cut would not be known
    for credential in channel.credentials:
        if credential.secret is not None:
            text = text.replace(credential.secret.reveal(), "[redacted]")
    shaping = channel.shaping
    for value in (*shaping.headers.set.values(), *shaping.headers.default.values()):
        for word in value.split():
            if len(word) >= _SECRET_FROM:
                text = text.replace(word, "[redacted]")
    text = _ANY_KEY.sub("[redacted]", text)
    host = channel.base_url.partition("://")[2].partition("/")[0]
    for name, shown in (
        (channel.base_url, "[upstream]"),
        (host, "[upstream]"),
        (channel.id, "[channel]"),
        (channel.name, "[channel]"),
        (shaping.organization, "[organization]"),
        (shaping.project, "[project]"),
        (channel.models.get(public_model, ""), public_model),
    ):
        if name:
            text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", lambda _, shown=shown: shown, text)  # type: ignore[misc]
    return text
