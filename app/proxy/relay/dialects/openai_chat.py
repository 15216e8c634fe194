"""OpenAI's chat completions, the request: checked where their documents bound it or what it costs, and passed on
otherwise as it came.

Source: the Chat Completions API reference, and the documents of gateways that customers come from.
"""

from collections.abc import Callable, Collection
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta, Raw

from app.base.errors import InvalidField
from app.base.fields import named_fault
from app.base.priced_fields import LimitField
from app.base.receipt import NO_EXTRAS
from app.proxy.records import Order
from app.proxy.relay.dialects.openai_fields import (
    ALSO_PROMPT,
    ORDINARY,
    check_names,
    drop_fields,
    read_extras,
    read_options,
    read_tools,
    uncounted_bytes,
)
from app.proxy.relay.dialects.openai_limits import LIMITS, bound_again, smaller_limit, write_bound
from app.proxy.relay.dialects.openai_meant import take_as_meant
from app.proxy.relay.dialects.openai_messages import (
    Messages,
    TextMessages,
    gives_twice,
    look_closely,
    read_texts,
)
from app.proxy.relay.dialects.openai_parts import Prompt, composed_growth

__all__ = ["NAME", "read_order", "write_request"]

NAME = "openai_chat"

DEFAULT_MAX_TOKENS = 4096
ANSWERS_MOST = 128
MODELS_MOST = 20
# What a vendor writes before a prompt with tools: at most 530 (Claude 3 Opus), where vendors say.
# https://docs.claude.com/en/docs/agents-and-tools/tool-use/overview#pricing
TOOLS_PROMPT_TOKENS = 530

ModelName = Annotated[str, Meta(min_length=1, max_length=200)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
M = TypeVar("M")


class _Tool(msgspec.Struct):
    type: str
    function: dict[str, Any] | None = None


class _ResponseFormat(msgspec.Struct):
    type: str
    json_schema: dict[str, Any] | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Request(msgspec.Struct, Generic[M]):
    model: ModelName
    messages: M
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
    service_tier: str | None = None


_ALSO_PROMPT = frozenset(ALSO_PROMPT)

_fields = msgspec.json.Decoder(dict[str, Raw])
_of_texts = msgspec.json.Decoder(_Request[TextMessages])
_of_parts = msgspec.json.Decoder(_Request[Messages])
_options = msgspec.json.Decoder(dict[str, Any] | None)
_encode = msgspec.json.Encoder().encode


def read_order(body: bytes, request_id: str, created_at_ms: int) -> Order:
    """Checks a request. Raises InvalidField with the path of the field at fault."""
    fields, request, prompt = _read(body)
    extras, uncounted, data_bytes = NO_EXTRAS, prompt.uncounted, 0
    if request.stream_options is not None:
        read_options(fields)
    if request.tools is not None:
        read_tools(fields)
    if "models" in fields:
        del fields["models"]  # a question to this gateway
    for name in LIMITS:  # written anew for each vendor
        if name in fields:
            del fields[name]
    if not ORDINARY.issuperset(fields):
        check_names(fields)
        extras = read_extras(fields, [tool.type for tool in request.tools or ()])
        uncounted += uncounted_bytes(fields)
    if prompt.media:
        data_bytes = sum(part.size for part in prompt.media)
    # A token of a byte-level tokenizer is a byte at least, and the JSON around the texts outweighs a chat template.
    text_bytes = len(body) - data_bytes
    if not body.isascii():
        text_bytes += composed_growth(body.decode(errors="replace"))
    texts = prompt.texts
    if not _ALSO_PROMPT.isdisjoint(fields):
        texts += [bytes(fields[name]).decode() for name in ALSO_PROMPT if name in fields]
        if "tools" in fields or "functions" in fields:
            text_bytes += TOOLS_PROMPT_TOKENS
            uncounted += TOOLS_PROMPT_TOKENS
    return Order(
        request_id=request_id,
        created_at_ms=created_at_ms,
        dialect=NAME,
        model=request.model,
        stream=bool(request.stream),
        wants_usage=bool(request.stream_options and request.stream_options.include_usage),
        answers=request.n or 1,
        output_limit=smaller_limit(request.max_tokens, request.max_completion_tokens),
        input_bound=text_bytes,
        text_bytes=text_bytes,
        uncounted_bytes=uncounted,
        body=fields,
        prompt=tuple(texts),
        conversation=request.prompt_cache_key or request.user or None,
        also=tuple(request.models or ()),
        media=tuple(prompt.media),
        extras=extras,
        may_be_empty=request.stop is not None or request.logit_bias is not None,
    )


def _read(body: bytes) -> tuple[dict[str, Raw], _Request[Any], Prompt]:
    """A request of texts alone is decoded once for its fields and once for their values, all others once more."""
    try:
        fields = _fields.decode(body)
        try:
            return _read_values(body, fields)
        except msgspec.ValidationError:
            if not take_as_meant(fields):
                raise
            return _read_values(_encode(fields), fields)
    except msgspec.ValidationError as error:
        raise named_fault(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidField(None, f"the body is not valid JSON ({error})") from None


def _read_values(body: bytes, fields: dict[str, Raw]) -> tuple[dict[str, Raw], _Request[Any], Prompt]:
    """Raises msgspec.ValidationError, and InvalidField."""
    try:
        texts = _of_texts.decode(body)
    except msgspec.ValidationError:  # of other parts, or at fault
        request = _of_parts.decode(body)
    else:
        if not gives_twice(bytes(fields["messages"]), texts.messages):
            return fields, texts, read_texts(texts.messages)
        request = _of_parts.decode(body)
    return fields, request, look_closely(bytes(fields["messages"]))


def write_request(
    order: Order,
    upstream_model: str,
    *,
    usage_in_streams: bool,
    requires_max_tokens: bool,
    limit_field: LimitField = "max_tokens",
    dropped: Collection[str] = (),
    shape: Callable[[dict[str, Raw]], None] | None = None,
) -> bytes:
    """The body for a vendor: the customer's, with the vendor's name of the model and a request for usage; and with the
    bound of each answer, the customer's or the one that is imposed, in the field that the vendor reads. Of its fields
    with a price of their own those that are `dropped` are left out. `shape` changes the rest as the operator likes, but
    for the bound: that is never longer than what was paid for."""
    fields = dict(order.body)
    if dropped:
        drop_fields(fields, dropped)
    fields["model"] = Raw(_encode(upstream_model))
    if order.stream and usage_in_streams and not order.wants_usage:
        sent = _options.decode(fields["stream_options"]) if "stream_options" in fields else None
        fields["stream_options"] = Raw(_encode({**(sent or {}), "include_usage": True}))
    most = order.answer_limit
    if most is None and requires_max_tokens:
        most = DEFAULT_MAX_TOKENS
    if shape is None:
        if most is not None:
            write_bound(fields, most, limit_field)
        return _encode(fields)
    if most is not None and order.output_limit is not None:
        write_bound(fields, most, "both")  # a rule's default is for customers who have named none
    shape(fields)
    if most is not None:
        bound_again(fields, most, limit_field)
    return _encode(fields)
