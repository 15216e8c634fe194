"""OpenAI's chat completions, the answer: plain and streamed. What it says is read, what the customer sees is the
vendor's JSON, but for the model's public name, a usage chunk nobody asked for, and a usage that says something else
than the receipt.
"""

import io
import re
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from app.proxy.records import Usage
from app.proxy.relay.dialects.openai_json import edited, has_halves, with_whole_characters
from app.proxy.relay.dialects.openai_odd import with_usual_types
from app.proxy.relay.dialects.openai_text import Said, says, texts
from app.proxy.relay.dialects.openai_usage import OPENAI_RULES, SentUsage, UsageRules, read_usage, usage_fields

__all__ = [
    "BrokenAnswer",
    "Frame",
    "PlainAnswer",
    "StreamReader",
    "read_plain",
    "shown_body",
    "stands_empty",
    "usage_event",
]


class BrokenAnswer(Exception):
    """A 200 that is no answer: garbage, an error in disguise, or nothing. The text names what was wrong with it;
    `usage` is what the vendor said that it took all the same."""

    def __init__(self, what: str, usage: Usage | None = None) -> None:
        super().__init__(what)
        self.usage = usage


class _Choice(msgspec.Struct):
    index: int = 0
    message: Said | None = None
    delta: Said | None = None
    finish_reason: str | None = None


_ABSENT = Raw(b"null")


class _Answer(msgspec.Struct):
    """A completion or a chunk of one. Its last fields are what a gateway tells of its own vendors and prices: they are
    the operator's (OpenRouter's reference)."""

    id: str | None = None
    model: str | None | UnsetType = UNSET
    choices: list[_Choice] | None = None
    usage: Raw = _ABSENT
    error: Any = None
    service_tier: Any = None
    cost: Raw = _ABSENT
    cost_details: Raw = _ABSENT
    provider: Raw = _ABSENT


_PRIVATE = ("cost", "cost_details", "provider")


class PlainAnswer(msgspec.Struct, frozen=True):
    """`body` is the vendor's under the public name, `usage` what `sent` counts, `output` the text of all answers."""

    body: bytes
    usage: Usage | None
    sent: SentUsage | None
    finish_reason: str | None
    output: str
    service_tier: str | None


class Frame(msgspec.Struct, frozen=True):
    """`data` is the event as the customer sees it, empty where it is not for them or not yet; `content` says that the
    answer has begun."""

    data: bytes
    content: bool


# Why an answer ended that says nothing and is one all the same: the vendor has read the prompt, and charges for it.
FILTERED = "content_filter"

_BACKSLASH = 0x5C
_tier_name = re.compile(r"[A-Za-z0-9_.-]{1,40}")

_BOM = b"\xef\xbb\xbf"
_answer = msgspec.json.Decoder(_Answer)
_encode = msgspec.json.Encoder().encode


def stands_empty(usage: Usage | None, finish_reason: str | None, *, may_be_empty: bool) -> bool:
    """Whether an answer that says nothing is one all the same, for which the vendor charges: it has filtered the
    prompt, has generated something that it does not show, or was asked so that it may end before it has begun."""
    if finish_reason == FILTERED:
        return True
    if usage is None:
        return False
    return usage.output_tokens > 0 or (may_be_empty and bool(finish_reason) and usage.input_tokens > 0)


def read_plain(
    body: bytes, public_model: str, rules: UsageRules = OPENAI_RULES, *, may_be_empty: bool = False
) -> PlainAnswer:
    """`rules` are the vendor's, see `read_usage`; `may_be_empty` is the order's. Raises BrokenAnswer where another
    should be asked."""
    body = body.removeprefix(_BOM)
    answer, body = _decode(body)
    choices = answer.choices
    sent = read_usage(answer.usage, rules)
    usage = None if sent is None else sent.counts
    if not choices:
        raise BrokenAnswer("empty answer", usage)
    output: list[str] = []
    finish: str | None = None
    for choice in choices:
        output += texts(choice.message)
        finish = finish or choice.finish_reason or None
    stands = stands_empty(usage, finish, may_be_empty=may_be_empty)
    if not stands and not any(says(choice.message) for choice in choices):
        raise BrokenAnswer("empty answer", usage)
    if _tells_private(answer):
        body = edited(body, {"model": public_model}, _PRIVATE)
    else:
        body = _renamed(body, answer.model, public_model)
    return PlainAnswer(body, usage, sent, finish, "".join(output), _tier(answer))


def shown_body(answer: PlainAnswer, billed: Usage) -> bytes:
    """What the customer sees: the body as it is where its usage says what was billed, else with the billed usage."""
    return answer.body if _is_billed(answer.sent, billed) else _with_usage(answer.body, billed)


def usage_event(billed: Usage, model: str, created_s: int, request_id: str) -> bytes:
    """The usage chunk for a customer who asked for it, where the vendor sent none."""
    chunk = {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion.chunk",
        "created": created_s,
        "model": model,
        "choices": [],
        "usage": usage_fields(billed),
    }
    return b"data: " + _encode(chunk) + b"\n\n"


class StreamReader:
    """Reads the events of one streamed answer, in order, and knows at the end what it came to.

    The usage of a chunk with content is a vendor's figure on the way, whatever it says: it is not shown, and is final
    only where nothing was generated after it and the stream has come to its end (`is_usage_final`).
    """

    def __init__(self, public_model: str, wants_usage: bool, answers: int, rules: UsageRules = OPENAI_RULES) -> None:
        self._public_model = public_model
        self._wants_usage = wants_usage
        self._answers = answers
        self._rules = rules
        self._begun: dict[int, int] = {}  # by choice: the frame that was the first with something of it
        self._finished: dict[int, int] = {}  # by choice: the frame that said why it ended
        self._sent: SentUsage | None = None
        # The vendor's usage chunk and what it says, held back until the request is settled.
        self._usage_chunk: tuple[bytes, SentUsage | None] | None = None
        self._is_usage_late = False  # nothing was generated after it
        self._is_ended = False
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

    @property
    def usage(self) -> Usage | None:
        """The vendor's latest count."""
        return None if self._sent is None else self._sent.counts

    @property
    def is_usage_final(self) -> bool:
        """Whether `usage` is the vendor's last word. Until then it may count less than was generated."""
        return self._sent is not None and self._sent.has_output and self._is_usage_late and self._is_ended

    def end(self) -> None:
        """The vendor said `[DONE]`."""
        self._is_ended = True

    def read(self, payload: bytes) -> Frame:
        """One event. Raises BrokenAnswer on garbage or an error event."""
        chunk, payload = _decode(payload)
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
            if says(said):
                content = True
                self._write(texts(said))
        if content:
            self._is_usage_late = False
        renamed = chunk.model is not UNSET and chunk.model != self._public_model
        tells_private = _tells_private(chunk)
        has_usage = chunk.usage is not _ABSENT and bytes(chunk.usage) != b"null"
        if has_usage:
            sent = self._take_usage(chunk.usage)
            if not choices:
                if self._wants_usage:
                    shown = self._public(payload, chunk) if renamed or tells_private else payload
                    self._usage_chunk = (shown, sent)
                return Frame(b"", content=False)
        self.frames += 1
        if renamed or tells_private or has_usage or (chunk.usage is not _ABSENT and not self._wants_usage):
            payload = self._shown(payload, chunk, has_usage=has_usage)
        return Frame(b"data: %b\n\n" % _one_line(payload), content)

    def usage_event(self, billed: Usage, created_s: int, request_id: str) -> bytes:
        """The usage chunk as the customer who asked for it sees it, once the request is settled: the vendor's own where
        it says what was billed. Empty for a customer who did not ask."""
        if not self._wants_usage:
            return b""
        if self._usage_chunk is None:
            return usage_event(billed, self._public_model, created_s, request_id)
        payload, sent = self._usage_chunk
        return b"data: %b\n\n" % _one_line(payload if _is_billed(sent, billed) else _with_usage(payload, billed))

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

    def _write(self, generated: list[str]) -> None:
        for text in generated:
            self._output.write(text)
            self.output_letters += len(text)
            self.output_bytes += len(text) if text.isascii() else len(text.encode())

    def _take_usage(self, raw: Raw) -> SentUsage | None:
        """What it says. Vendors that send it in every chunk send it cumulated: the last one counts. One that does not
        say how long the answer is takes nothing back."""
        sent = read_usage(raw, self._rules)
        if sent is not None and (sent.has_output or self._sent is None or not self._sent.has_output):
            self._sent = sent
            self._is_usage_late = True
            self._is_ended = self.finished
        return sent

    def _shown(self, payload: bytes, chunk: _Answer, *, has_usage: bool) -> bytes:
        if not has_usage and (self._wants_usage or chunk.usage is _ABSENT):
            return self._public(payload, chunk)
        changes = self._name(chunk)
        if self._wants_usage:
            changes["usage"] = None  # as OpenAI has it in every chunk but the last
            return edited(payload, changes, _PRIVATE)
        return edited(payload, changes, ("usage", *_PRIVATE))

    def _public(self, payload: bytes, chunk: _Answer) -> bytes:
        """Under the public name, without what is the operator's."""
        if _tells_private(chunk):
            return edited(payload, self._name(chunk), _PRIVATE)
        return _renamed(payload, chunk.model, self._public_model)

    def _name(self, chunk: _Answer) -> dict[str, object]:
        return {} if chunk.model is UNSET else {"model": self._public_model}


def _is_billed(sent: SentUsage | None, billed: Usage) -> bool:
    """Whether the usage that the vendor sent can be shown as it is."""
    return sent is not None and sent.is_plain and sent.has_output and sent.counts == billed


def _with_usage(body: bytes, billed: Usage) -> bytes:
    return edited(body, {"usage": usage_fields(billed)})


def _renamed(body: bytes, model: str | None | UnsetType, public_model: str) -> bytes:
    """The JSON object `body`, which says that it is from `model`, under the public name. All else keeps its bytes."""
    if isinstance(model, str):
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
    return edited(body, {"model": public_model})


def _one_line(payload: bytes) -> bytes:
    """JSON over several lines would break an event apart. A line break in JSON is white space: in a text it is
    escaped."""
    return payload.replace(b"\n", b" ")


def _tells_private(answer: _Answer) -> bool:
    return answer.cost is not _ABSENT or answer.cost_details is not _ABSENT or answer.provider is not _ABSENT


def _decode(body: bytes) -> tuple[_Answer, bytes]:
    """What it says, and the body to pass on: with small fields of another type made what they plainly mean."""
    try:
        answer = _answer.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        answer, body = _decode_odd(body)
    if answer.error:
        raise BrokenAnswer("error in a 200")
    return answer, body


def _decode_odd(body: bytes) -> tuple[_Answer, bytes]:
    """What the decoder refuses may have halves of characters in it, or small fields of another type. Raises
    BrokenAnswer where it is no answer."""
    try:
        if has_halves(body):
            with suppress(msgspec.DecodeError, UnicodeDecodeError):
                return _answer.decode(with_whole_characters(body)), body
        usual = with_usual_types(body)
        return _answer.decode(with_whole_characters(usual)), usual
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BrokenAnswer("answer is not a completion" if body.strip() else "empty answer") from None


def _tier(answer: _Answer) -> str | None:
    """The tier that the vendor served, where it names one that may be one."""
    tier = answer.service_tier
    if tier is None:
        return None
    return tier if isinstance(tier, str) and _tier_name.fullmatch(tier) else None
