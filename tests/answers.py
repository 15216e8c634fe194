"""What a vendor of the OpenAI chat dialect says, as data: bodies, stream chunks, their framing. No I/O.

Every figure is fixed by the test or by the request: what the receipt must show is known beforehand.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["CREATED", "Answer", "Shape", "ToolCall", "body_of", "chunks_of", "frames_of", "sse"]

CREATED = 1_700_000_000

Json = dict[str, Any]


@dataclass(frozen=True)
class ToolCall:
    """A call of a function. On a stream its arguments go out in `pieces`."""

    name: str
    pieces: tuple[str, ...]

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True)
class Answer:
    """What the model "says". One piece is one token, unless the counts are given."""

    pieces: tuple[str, ...] = ("Hello", ",", " wörld", " — ", "你好", " 🎈", "!")
    prompt_tokens: int = 11
    completion_tokens: int | None = None
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    finish_reason: str = "stop"
    tool_calls: tuple[ToolCall, ...] = ()
    usage_in_body: bool = True
    extra: Json = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def text_of(self, choice: int) -> str:
        """With `n` above 1 each choice says something of its own."""
        return "".join(self.pieces_of(choice))

    def pieces_of(self, choice: int) -> tuple[str, ...]:
        return self.pieces if choice == 0 else (f"[{choice}] ", *self.pieces)

    def output_tokens(self, n: int = 1) -> int:
        if self.completion_tokens is not None:
            return self.completion_tokens
        return sum(len(self.pieces_of(choice)) for choice in range(n))

    def usage(self, n: int = 1) -> Json:
        output = self.output_tokens(n)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": output,
            "total_tokens": self.prompt_tokens + output,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
        }


@dataclass(frozen=True)
class Shape:
    """How a stream is cut into events, and events into bytes."""

    usage: Literal["asked", "every", "ones", "with_finish", "zeros", "none"] = "asked"
    newline: str = "\n"
    space: bool = True
    done: bool = True
    finish: bool = True
    minimal: bool = False  # chunks with nothing but an id and a delta
    multiline: bool = False  # each event's JSON spread over several `data:` lines
    comments: bool = False  # a comment, an id and a named ping between events
    bytes_per_write: int | None = None  # None: one write an event


ONES = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
ZEROS = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def body_of(answer: Answer, request: Json) -> Json:
    """The whole answer of a request that is not streamed."""
    n = request.get("n") or 1
    body: Json = {
        "id": "chatcmpl-vendor",
        "object": "chat.completion",
        "created": CREATED,
        "model": request.get("model"),
        "choices": [
            {"index": i, "message": _message(answer, i), "finish_reason": _finish(answer), "logprobs": None}
            for i in range(n)
        ],
        "system_fingerprint": "fp_vendor",
        **answer.extra,
    }
    if answer.usage_in_body:
        body["usage"] = answer.usage(n)
    return body


def chunks_of(answer: Answer, shape: Shape, request: Json) -> list[Json]:
    """The chunks of a streamed answer: role, deltas with the choices interleaved, finish, usage."""
    n = request.get("n") or 1
    chunks = [_chunk(request, shape, i, {"role": "assistant", "content": ""}) for i in range(n)]
    tracks = [[{"content": piece} for piece in answer.pieces_of(i)] + _tool_deltas(answer) for i in range(n)]
    for step in range(max(len(track) for track in tracks)):
        chunks += [_chunk(request, shape, i, track[step]) for i, track in enumerate(tracks) if step < len(track)]
    if shape.finish and not shape.minimal:
        if shape.usage == "with_finish":  # content, finish_reason and usage share one frame
            for i in range(n):
                last = [chunk for chunk in chunks if chunk["choices"][0]["index"] == i][-1]
                last["choices"][0]["finish_reason"] = _finish(answer)
        else:
            chunks += [_chunk(request, shape, i, {}, _finish(answer)) for i in range(n)]
    return _with_usage(chunks, answer, shape, request)


def frames_of(answer: Answer, shape: Shape, request: Json) -> list[bytes]:
    """The same, as the bytes of one event each, `[DONE]` included unless the shape leaves it out."""
    events = [json.dumps(chunk, ensure_ascii=False) for chunk in chunks_of(answer, shape, request)]
    if shape.done:
        events.append("[DONE]")
    return [sse(event, shape) for event in events]


def sse(data: str, shape: Shape) -> bytes:
    """One event in the framing of the shape."""
    lines = [data]
    if shape.multiline and data.startswith("{"):
        lines = json.dumps(json.loads(data), ensure_ascii=False, indent=1).split("\n")
    prefix = "data: " if shape.space else "data:"
    noise = [": keep-alive", "id: 7", "retry: 3000"] if shape.comments else []
    text = shape.newline.join([*noise, *(prefix + line for line in lines), "", ""])
    if shape.comments:
        text = f": ping{shape.newline}{shape.newline}" + text
    return text.encode()


def _finish(answer: Answer) -> str:
    return "tool_calls" if answer.tool_calls else answer.finish_reason


def _message(answer: Answer, choice: int) -> Json:
    message: Json = {"role": "assistant", "content": answer.text_of(choice) or None}
    if answer.tool_calls:
        message["tool_calls"] = [
            {
                "id": f"call_{i}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for i, call in enumerate(answer.tool_calls)
        ]
    return message


def _tool_deltas(answer: Answer) -> list[Json]:
    deltas: list[Json] = []
    for index, call in enumerate(answer.tool_calls):
        head = {"name": call.name, "arguments": ""}
        deltas.append({"tool_calls": [{"index": index, "id": f"call_{index}", "type": "function", "function": head}]})
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in call.pieces]
    return deltas


def _chunk(request: Json, shape: Shape, index: int, delta: Json, finish_reason: str | None = None) -> Json:
    if shape.minimal:
        return {"id": "chatcmpl-vendor", "choices": [{"delta": delta}]}
    return {
        "id": "chatcmpl-vendor",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": request.get("model"),
        "choices": [{"index": index, "delta": delta, "finish_reason": finish_reason}],
    }


def _with_usage(chunks: list[Json], answer: Answer, shape: Shape, request: Json) -> list[Json]:
    n = request.get("n") or 1
    usage = answer.usage(n)
    asked = bool((request.get("stream_options") or {}).get("include_usage"))
    if shape.usage == "every":  # cumulative: only the last one is the truth
        for i, chunk in enumerate(chunks, start=1):
            so_far = min(i, usage["completion_tokens"])
            chunk["usage"] = usage | {
                "completion_tokens": so_far,
                "total_tokens": usage["prompt_tokens"] + so_far,
            }
        chunks[-1]["usage"] = usage
    elif shape.usage == "ones":  # a vendor that does not count until its last chunk
        for chunk in chunks:
            chunk["usage"] = ONES
        chunks[-1]["usage"] = usage
    elif shape.usage == "with_finish":
        chunks[-1]["usage"] = usage
    elif asked and shape.usage in ("asked", "zeros"):
        counts = usage if shape.usage == "asked" else ZEROS
        tail = chunks[-1] | {"choices": [], "usage": counts}
        chunks = [chunk | {"usage": None} for chunk in chunks] + [tail]
    return chunks
