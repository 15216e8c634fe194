"""OpenAI's chat completions, the request: checked where its documents bound it, and passed on otherwise as it came.

Source: the Chat Completions API reference, and the documents of gateways that customers come from.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw

from app.base.errors import InvalidField
from app.base.fields import named_fault
from app.proxy.records import Order

__all__ = ["NAME", "read_order", "write_request"]

NAME = "openai_chat"

# The dearest picture of the vendors we know of costs a few thousand tokens, whatever the bytes of its data URL.
IMAGE_TOKENS_MOST = 8192
DEFAULT_MAX_TOKENS = 4096
ANSWERS_MOST = 128
MODELS_MOST = 20

_LIMITS = ("max_tokens", "max_completion_tokens")

# Fields beside the messages that a vendor makes part of the prompt.
_ALSO_PROMPT = ("tools", "functions", "response_format")

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
ModelName = Annotated[str, Meta(min_length=1, max_length=200)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]


class _Part(msgspec.Struct):
    type: str
    text: str | None = None
    image_url: Raw = Raw()


class _Message(msgspec.Struct):
    role: Role
    content: str | list[_Part] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class _Tool(msgspec.Struct):
    type: str
    function: dict[str, Any] | None = None


class _ResponseFormat(msgspec.Struct):
    type: str
    json_schema: dict[str, Any] | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Request(msgspec.Struct):
    model: ModelName
    messages: Annotated[list[_Message], Meta(min_length=1)]
    models: Annotated[list[ModelName], Meta(max_length=MODELS_MOST)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    n: Annotated[int, Meta(ge=1, le=ANSWERS_MOST)] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    stop: str | list[str] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=100_000_000)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1, le=100_000_000)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    seed: int | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: _ResponseFormat | None = None


_fields = msgspec.json.Decoder(dict[str, Raw])
_request = msgspec.json.Decoder(_Request)
_options = msgspec.json.Decoder(dict[str, Any] | None)
_encode = msgspec.json.Encoder().encode


def read_order(body: bytes, request_id: str, created_at_ms: int) -> Order:
    """Checks a request. Raises InvalidField with the path of the field at fault."""
    try:
        fields = _fields.decode(body)
        request = _request.decode(body)
    except msgspec.ValidationError as error:
        raise named_fault(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidField(None, f"the body is not valid JSON ({error})") from None
    fields.pop("models", None)  # a question to this gateway
    texts, images, image_bytes = _walk(request.messages)
    texts += tuple(bytes(fields[name]).decode() for name in _ALSO_PROMPT if name in fields)
    return Order(
        request_id=request_id,
        created_at_ms=created_at_ms,
        dialect=NAME,
        model=request.model,
        stream=bool(request.stream),
        wants_usage=bool(request.stream_options and request.stream_options.include_usage),
        answers=request.n or 1,
        output_limit=_output_limit(request),
        # A token of a byte-level tokenizer is a byte at least, and the JSON around the texts outweighs a chat template.
        input_bound=len(body) - image_bytes + images * IMAGE_TOKENS_MOST,
        body=fields,
        prompt=texts,
        conversation=request.prompt_cache_key or request.user or None,
        also=tuple(request.models or ()),
        image_tokens=images * IMAGE_TOKENS_MOST,
    )


def write_request(
    order: Order,
    upstream_model: str,
    *,
    usage_in_streams: bool,
    requires_max_tokens: bool,
    limit_field: str = "max_tokens",
    shape: Callable[[dict[str, Raw]], None] | None = None,
) -> bytes:
    """The body for a vendor: the customer's, with the vendor's name of the model and a request for usage; and with the
    limit that the wallet imposes, in the field that the vendor reads. `shape` changes the rest as the operator likes,
    but for the bound of an answer: that stays what was paid for."""
    fields = dict(order.body)
    fields["model"] = Raw(_encode(upstream_model))
    if order.stream and usage_in_streams and not order.wants_usage:
        sent = _options.decode(fields["stream_options"]) if "stream_options" in fields else None
        fields["stream_options"] = Raw(_encode({**(sent or {}), "include_usage": True}))
    if requires_max_tokens and order.output_limit is None:
        fields["max_tokens"] = Raw(_encode(DEFAULT_MAX_TOKENS))
    if shape is not None:
        shape(fields)
        _bound_again(fields, order, limit_field)
    if order.imposed_limit is not None:
        fields[limit_field] = Raw(_encode(order.imposed_limit))
    return _encode(fields)


def _bound_again(fields: dict[str, Raw], order: Order, limit_field: str) -> None:
    """A shaped answer may be shorter than the customer bounded it, never longer: its hold pays for no more."""
    most = order.output_limit
    if most is None:
        return
    limits = [_number(fields[name]) for name in _LIMITS if name in fields]
    if not limits:
        fields[limit_field] = Raw(_encode(most))
    for name in _LIMITS:
        if name in fields and not 0 < _number(fields[name]) <= most:
            fields[name] = Raw(_encode(most))


def _number(value: Raw) -> float:
    """0 where it is none."""
    sent = msgspec.json.decode(value)
    return sent if isinstance(sent, (int, float)) else 0


def _output_limit(request: _Request) -> int | None:
    """The vendor obeys the newer name where both are sent; the larger is the safe one to hold."""
    older, newer = request.max_tokens, request.max_completion_tokens
    if older is None or newer is None:
        return newer if older is None else older
    return max(older, newer)


def _walk(messages: list[_Message]) -> tuple[tuple[str, ...], int, int]:
    """The prompt's texts, how many pictures it has, and how many bytes of the body those take."""
    texts: list[str] = []
    images = image_bytes = 0
    for index, message in enumerate(messages):
        content = message.content
        if content is None:
            if message.role in ("system", "developer", "user", "tool"):
                raise InvalidField(f"messages[{index}].content", "is required")
        elif isinstance(content, str):
            texts.append(content)
        else:
            for part in content:
                if part.text is not None:
                    texts.append(part.text)
                if size := len(bytes(part.image_url)):
                    images += 1
                    image_bytes += size
        if message.tool_calls:
            texts.append(_encode(message.tool_calls).decode())
    return tuple(texts), images, image_bytes
