"""OpenAI's chat completions, the answer: plain and streamed. What it says is read, what the customer sees is the
vendor's JSON, but for the model's public name and a usage chunk nobody asked for.
"""

import io
import re
from typing import Any

import msgspec
from msgspec import Raw

from app.proxy.records import Usage
from app.proxy.relay.dialects.openai_usage import read_usage

__all__ = ["BrokenAnswer", "Frame", "PlainAnswer", "StreamReader", "read_plain", "usage_event"]


class BrokenAnswer(Exception):
    """A 200 that is no answer: garbage, an error in disguise, or nothing. The text names what was wrong with it;
    `usage` is what the vendor said that it took all the same."""

    def __init__(self, what: str, usage: Usage | None = None) -> None:
        super().__init__(what)
        self.usage = usage


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

    id: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: Raw = _ABSENT
    error: Any = None
    service_tier: Any = None


class PlainAnswer(msgspec.Struct, frozen=True):
    """`body` is what the customer sees."""

    body: bytes
    usage: Usage | None
    finish_reason: str | None
    output: str
    service_tier: str | None = None


class Frame(msgspec.Struct, frozen=True):
    """`data` is the event as the customer sees it, empty where it is not for them; `content` says that the answer has
    begun."""

    data: bytes
    content: bool


_BACKSLASH = 0x5C
_tier_name = re.compile(r"[A-Za-z0-9_.-]{1,40}")

_answer = msgspec.json.Decoder(_Answer)
_fields = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode


def read_plain(body: bytes, public_model: str, *, hides_output: bool = False) -> PlainAnswer:
    """`hides_output` is the vendor's quirk, see `read_usage`. Raises BrokenAnswer where another should be asked."""
    answer = _decode(body)
    choices = answer.choices
    usage = read_usage(answer.usage, hides_output=hides_output)
    if not choices:
        raise BrokenAnswer("empty answer", usage)
    texts: list[str] = []
    finish: str | None = None
    for choice in choices:
        texts += _texts(choice.message)
        finish = finish or choice.finish_reason or None
    spent = usage is not None and usage.output_tokens > 0
    if not spent and finish != "content_filter" and not any(_says(choice.message) for choice in choices):
        raise BrokenAnswer("empty answer", usage)
    return PlainAnswer(_renamed(body, answer.model, public_model), usage, finish, "".join(texts), _tier(answer))


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

    def __init__(self, public_model: str, wants_usage: bool, answers: int, *, hides_output: bool = False) -> None:
        self._public_model = public_model
        self._wants_usage = wants_usage
        self._answers = answers
        self._hides_output = hides_output
        self._begun: dict[int, int] = {}  # by choice: the frame that was the first with something of it
        self._finished: dict[int, int] = {}  # by choice: the frame that said why it ended
        self.usage: Usage | None = None
        self.usage_shown = False
        self.finish_reason: str | None = None
        self.service_tier: str | None = None
        self._output = io.StringIO()  # a list of small texts would take ten times the memory
        self._id: str | None = None
        self.output_letters = 0
        self.output_bytes = 0
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
        self._id = self._id or chunk.id
        if chunk.service_tier is not None:
            self.service_tier = _tier(chunk) or self.service_tier
        for choice in choices:
            said = choice.delta or choice.message
            self._begun.setdefault(choice.index, self.frames + 1)
            if choice.finish_reason:
                self._finished.setdefault(choice.index, self.frames + 1)
                self.finish_reason = choice.finish_reason
            if _says(said):
                content = True
                for text in _texts(said):
                    self._output.write(text)
                    self.output_letters += len(text)
                    self.output_bytes += len(text) if text.isascii() else len(text.encode())
        has_usage = bytes(chunk.usage) != b"null"
        if has_usage:
            # Vendors that send it in every chunk send it cumulated: the last one counts.
            self.usage = read_usage(chunk.usage, hides_output=self._hides_output) or self.usage
        if has_usage and not self._wants_usage and not choices:
            return Frame(b"", content=False)
        self.frames += 1
        self.usage_shown = self.usage_shown or (has_usage and self._wants_usage)
        renamed = chunk.model is not None and chunk.model != self._public_model
        if renamed or (chunk.usage is not _ABSENT and not self._wants_usage):
            payload = self._shown(payload, chunk)
        return Frame(b"data: %b\n\n" % _one_line(payload), content)

    def closing_events(self, created_s: int, request_id: str, sent_frames: int) -> bytes:
        """What ends an answer that is broken off after so many frames, as a vendor ends one at its limit of tokens."""
        return b"".join(
            b"data: " + _encode(self._closing_chunk(index, created_s, request_id, sent_frames)) + b"\n\n"
            for index in range(self._answers)
            if self._finished.get(index, sent_frames + 1) > sent_frames
        )

    def _closing_chunk(self, index: int, created_s: int, request_id: str, sent_frames: int) -> dict[str, Any]:
        """A choice of which nothing was sent begins with it: clients take the role from its first chunk."""
        is_begun = self._begun.get(index, sent_frames + 1) <= sent_frames
        return {
            "id": self._id or f"chatcmpl-{request_id}",
            "object": "chat.completion.chunk",
            "created": created_s,
            "model": self._public_model,
            "choices": [
                {
                    "index": index,
                    "delta": {} if is_begun else {"role": "assistant", "content": ""},
                    "finish_reason": "length",
                }
            ],
        }

    def _shown(self, payload: bytes, chunk: _Answer) -> bytes:
        if self._wants_usage or chunk.usage is _ABSENT:
            return _renamed(payload, chunk.model, self._public_model)
        fields: dict[str, Any] = dict(_fields.decode(payload))
        if chunk.model is not None:
            fields["model"] = self._public_model
        fields.pop("usage", None)
        return _encode(fields)


def _renamed(body: bytes, model: str | None, public_model: str) -> bytes:
    """The JSON object `body`, which says that it is from `model`, under the public name. All else keeps its bytes."""
    if model is not None:
        # Vendors name the model before anything nested: what comes before the first inner brace is the object's own.
        name, at = _encode(model), body.find(b'"model":')
        end = at + 8 + (body[at + 8 : at + 9] == b" ")
        if (
            at > 0
            and body.startswith(name, end)
            and body.find(b"{", 1, at) < 0
            and body.find(b'"model"', end) < 0
            and body[at - 1] != _BACKSLASH
        ):
            return b"%b%b%b" % (body[:end], _encode(public_model), body[end + len(name) :])
    fields: dict[str, Any] = dict(_fields.decode(body))
    fields["model"] = public_model
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


def _tier(answer: _Answer) -> str | None:
    """The tier that the vendor served, where it names one that may be one."""
    tier = answer.service_tier
    return tier if isinstance(tier, str) and _tier_name.fullmatch(tier) else None


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
    if isinstance(said.content, str) and not (
        said.tool_calls or said.reasoning_content or said.reasoning or said.refusal or said.function_call
    ):
        return [said.content]
    found = [text for text in (said.reasoning_content or said.reasoning, said.refusal) if text]
    if isinstance(said.content, str):
        found.append(said.content)
    others = (None if isinstance(said.content, str) else said.content, said.tool_calls, said.function_call)
    found.extend(_encode(other).decode() for other in others if other)
    return found
