"""The built-in vendor: deterministic, without a network, so that the first curl works before any vendor is set up.

It says back what the last message said, a word a frame, and counts a token a word.
"""

import msgspec

from app.proxy.relay.upstream import Call, Opened, Plain

__all__ = ["SandboxTransport"]

_encode = msgspec.json.Encoder().encode
_CREATED = 1_700_000_000
_STOP_AFTER_MOST = 4096


class _Message(msgspec.Struct):
    content: object = None


class _Asked(msgspec.Struct):
    model: str
    messages: list[_Message]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


_asked = msgspec.json.Decoder(_Asked)


class SandboxTransport:
    async def fetch(self, call: Call) -> Plain:
        asked, words, finish = _answer(call.body)
        body = {
            "id": "chatcmpl-sandbox",
            "object": "chat.completion",
            "created": _CREATED,
            "model": asked.model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "".join(words)},
                    "finish_reason": finish,
                }
            ],
            "usage": _usage(asked, words),
        }
        return Plain(200, _encode(body))

    async def open(self, call: Call) -> Opened:
        asked, words, finish = _answer(call.body)
        deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
        deltas += [({"content": word}, None) for word in words]
        deltas.append(({}, finish))
        events = [
            _event(asked.model, [{"index": 0, "delta": delta, "finish_reason": reason}]) for delta, reason in deltas
        ]
        events += [_event(asked.model, [], _usage(asked, words)), b"data: [DONE]\n\n"]
        return _SandboxAnswer(events)

    async def close(self) -> None:
        return None


class _SandboxAnswer:
    def __init__(self, events: list[bytes]) -> None:
        self.status = 200
        self.retry_after: str | None = None
        self.retry_after_ms: str | None = None
        self._events = iter(events)

    async def read(self) -> bytes | None:
        return next(self._events, None)

    async def close(self) -> None:
        self._events = iter(())


def _answer(body: bytes) -> tuple[_Asked, list[str], str]:
    asked = _asked.decode(body)
    said = asked.messages[-1].content if asked.messages else ""
    text = f"Tollgate's sandbox heard: {said if isinstance(said, str) else 'something other than text'}"
    words = [word if i == 0 else f" {word}" for i, word in enumerate(text.split())]
    limit = min(asked.max_completion_tokens or asked.max_tokens or _STOP_AFTER_MOST, _STOP_AFTER_MOST)
    return asked, words[:limit], "length" if len(words) > limit else "stop"


def _usage(asked: _Asked, words: list[str]) -> dict[str, int]:
    prompt = sum(len(message.content.split()) for message in asked.messages if isinstance(message.content, str))
    return {"prompt_tokens": prompt, "completion_tokens": len(words), "total_tokens": prompt + len(words)}


def _event(model: str, choices: list[dict[str, object]], usage: dict[str, int] | None = None) -> bytes:
    chunk = {
        "id": "chatcmpl-sandbox",
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": model,
        "choices": choices,
        **({"usage": usage} if usage else {}),
    }
    return b"data: " + _encode(chunk) + b"\n\n"
