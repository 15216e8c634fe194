"""OpenAI's chat completions, the answer: plain and streamed. What it says is read, what the customer sees is the
vendor's JSON, but for the model's public name and a usage chunk nobody asked for.
"""

import io
from typing import Any

import msgspec
from msgspec import Raw

from app.proxy.records import Usage

__all__ = ["BrokenAnswer", "Frame", "PlainAnswer", "StreamReader", "read_plain", "usage_event"]


class BrokenAnswer(Exception):
    """A 200 that is no answer: garbage, an error in disguise, or nothing. The text names what was wrong with it."""


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    prompt_cache_hit_tokens: int | None = None  # DeepSeek


class _Said(msgspec.Struct):
    """A message or a delta."""

    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None
    function_call: Any = None
    audio: Any = None


class _Choice(msgspec.Struct):
    index: int = 0
    message: _Said | None = None
    delta: _Said | None = None
    finish_reason: str | None = None


_ABSENT = Raw(b"null")


class _Answer(msgspec.Struct):
    """A completion or a chunk of one."""

    model: str | None = None
    choices: list[_Choice] | None = None
    usage: Raw = _ABSENT
    error: Any = None


class PlainAnswer(msgspec.Struct, frozen=True):
    """`body` is what the customer sees."""

    body: bytes
    usage: Usage | None
    finish_reason: str | None
    output: str


class Frame(msgspec.Struct, frozen=True):
    """`data` is the event as the customer sees it, empty where it is not for them; `content` says that the answer has
    begun."""

    data: bytes
    content: bool


# No request has so many: a vendor that says so does not know.
TOKENS_MOST = 1_000_000_000

_answer = msgspec.json.Decoder(_Answer)
_fields = msgspec.json.Decoder(dict[str, Raw])
_usage = msgspec.json.Decoder(_Usage | None)
_encode = msgspec.json.Encoder().encode


def read_plain(body: bytes, public_model: str) -> PlainAnswer:
    """Raises BrokenAnswer where another channel should be asked instead."""
    answer = _decode(body)
    choices = answer.choices
    if not choices:
        raise BrokenAnswer("empty answer")
    usage = read_usage(answer.usage)
    output = "".join(text for choice in choices for text in _texts(choice.message))
    finish = next((choice.finish_reason for choice in choices if choice.finish_reason), None)
    spent = usage is not None and usage.output_tokens > 0
    if not spent and finish != "content_filter" and not any(_says(choice.message) for choice in choices):
        raise BrokenAnswer("empty answer")
    fields: dict[str, Any] = dict(_fields.decode(body))
    fields["model"] = public_model
    return PlainAnswer(_encode(fields), usage, finish, output)


def read_usage(raw: Raw) -> Usage | None:
    """Usage as the vendor counted it; an explicit zero is a zero. None where it is missing or makes no sense."""
    try:
        sent = _usage.decode(raw)
    except msgspec.DecodeError:
        return None
    if sent is None or sent.prompt_tokens is None:
        return None
    if not (0 <= sent.prompt_tokens <= TOKENS_MOST and 0 <= (sent.completion_tokens or 0) <= TOKENS_MOST):
        return None
    prompt = sent.prompt_tokens_details or _Details()
    completion = sent.completion_tokens_details or _Details()
    output = sent.completion_tokens or 0
    cached = prompt.cached_tokens if prompt.cached_tokens is not None else sent.prompt_cache_hit_tokens
    # A class is a part of its whole, whatever a vendor says.
    cached = _within(cached, sent.prompt_tokens)
    return Usage(
        input_tokens=sent.prompt_tokens,
        output_tokens=output,
        cached_input_tokens=cached,
        cache_write_tokens=_within(prompt.cache_write_tokens, sent.prompt_tokens - cached),
        reasoning_tokens=_within(completion.reasoning_tokens, output),
    )


def usage_event(usage: Usage, model: str, created_s: int, request_id: str) -> bytes:
    """The usage chunk for a customer who asked for it, where the vendor sent none."""
    chunk = {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion.chunk",
        "created": created_s,
        "model": model,
        "choices": [],
        "usage": {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
        },
    }
    return b"data: " + _encode(chunk) + b"\n\n"


class StreamReader:
    """Reads the events of one streamed answer, in order, and knows at the end what it came to."""

    def __init__(self, public_model: str, wants_usage: bool, answers: int) -> None:
        self._public_model = public_model
        self._wants_usage = wants_usage
        self._answers = answers
        self._finished: set[int] = set()
        self.usage: Usage | None = None
        self.usage_shown = False
        self.finish_reason: str | None = None
        self._output = io.StringIO()  # a list of small texts would take ten times the memory
        self.frames = 0

    @property
    def output(self) -> str:
        """The text so far, of all answers."""
        return self._output.getvalue()

    @property
    def finished(self) -> bool:
        """Every answer has said why it ended."""
        return len(self._finished) >= self._answers

    def read(self, payload: bytes) -> Frame:
        """One event. Raises BrokenAnswer on garbage or an error event."""
        chunk = _decode(payload)
        choices = chunk.choices or []
        content = False
        for choice in choices:
            said = choice.delta or choice.message
            if choice.finish_reason:
                self._finished.add(choice.index)
                self.finish_reason = choice.finish_reason
            if _says(said):
                content = True
                for text in _texts(said):
                    self._output.write(text)
        has_usage = bytes(chunk.usage) != b"null"
        if has_usage:
            # Vendors that send it in every chunk send it cumulated: the last one counts.
            self.usage = read_usage(chunk.usage) or self.usage
        if has_usage and not self._wants_usage and not choices:
            return Frame(b"", content=False)
        self.frames += 1
        self.usage_shown = self.usage_shown or (has_usage and self._wants_usage)
        renamed = chunk.model is not None and chunk.model != self._public_model
        if renamed or (chunk.usage is not _ABSENT and not self._wants_usage):
            payload = self._shown(payload, renamed)
        return Frame(b"data: %b\n\n" % _one_line(payload), content)

    def _shown(self, payload: bytes, renamed: bool) -> bytes:
        fields: dict[str, Any] = dict(_fields.decode(payload))
        if renamed:
            fields["model"] = self._public_model
        if not self._wants_usage:
            fields.pop("usage", None)
        return _encode(fields)


def _one_line(payload: bytes) -> bytes:
    """JSON over several lines would break an event apart; raw parts keep their white space when written again."""
    return payload if b"\n" not in payload else _encode(msgspec.json.decode(payload))


def _decode(body: bytes) -> _Answer:
    try:
        answer = _answer.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BrokenAnswer("empty answer" if not body.strip() else "answer is not a completion") from None
    if answer.error:
        raise BrokenAnswer("error in a 200")
    return answer


def _says(said: _Said | None) -> bool:
    """Whether there is anything in it: a role alone is nothing."""
    return said is not None and bool(
        said.content
        or said.tool_calls
        or said.reasoning_content
        or said.reasoning
        or said.refusal
        or said.function_call
        or said.audio
    )


def _texts(said: _Said | None) -> list[str]:
    """The texts that were generated, for a count where the vendor sends none."""
    if said is None:
        return []
    found = [text for text in (said.reasoning_content or said.reasoning, said.refusal) if text]
    if isinstance(said.content, str):
        found.append(said.content)
    others = (None if isinstance(said.content, str) else said.content, said.tool_calls, said.function_call)
    found.extend(_encode(other).decode() for other in others if other)
    return found


def _within(part: int | None, whole: int) -> int:
    return max(0, min(part or 0, whole))
