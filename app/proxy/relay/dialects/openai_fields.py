"""The fields of a request beside its messages: which are known, which have a price of their own, and which only look
like a known one. A vendor whose JSON reader ignores case, such as Go's, takes `N` for `n`: it would serve another
request than the one that is read here. So would a reader of protobuf's JSON, such as Gemini's, that takes `maxTokens`
for `max_tokens`. Sources: https://pkg.go.dev/encoding/json/v2 (case, underscores, dashes),
https://protobuf.dev/programming-guides/json (both spellings).
"""

from collections.abc import Iterable, Mapping
from functools import cache

import msgspec
from msgspec import Raw

from app.base.errors import InvalidField
from app.base.priced_fields import HOSTED_TOOLS, PRICED_FIELDS
from app.base.receipt import NO_EXTRAS, Extras
from app.proxy.relay.dialects.openai_limits import LIMITS

__all__ = [
    "ALSO_PROMPT",
    "ORDINARY",
    "check_names",
    "drop_fields",
    "read_extras",
    "read_options",
    "read_tools",
    "uncounted_bytes",
]

# Fields beside the messages that a vendor makes part of the prompt.
ALSO_PROMPT = ("tools", "functions", "response_format")
# Tools whose calls the customer answers itself; the vendor runs all others.
_OWN_TOOLS = frozenset({"function", "custom"})
_TOOL_FIELDS = frozenset({"type", *_OWN_TOOLS})
# What may stand beside these: all of it is text. Some clients have a function's fields in the tool itself.
_BESIDE_A_TOOL = frozenset(
    {
        *("name", "description", "parameters", "strict", "format", "input_schema", "input_examples"),
        *("cache_control", "defer_loading", "eager_input_streaming"),
    }
)
_OPTIONS = frozenset({"include_usage", "include_obfuscation"})
# Fields that bear on the answer and never become part of the prompt. `metadata` and its like are kept by the vendor.
_SETTINGS = frozenset(
    {
        *("model", "models", "stream", "stream_options", "n", "stop", "seed", "user", "safety_identifier", "metadata"),
        *("temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs"),
        *("tool_choice", "parallel_tool_calls", "function_call", "prompt_cache_key", "reasoning_effort", "verbosity"),
        *("modalities", "audio", *LIMITS),
    }
)
_PRICED = frozenset(PRICED_FIELDS)
_COUNTED = _SETTINGS | {"messages", *ALSO_PROMPT}
_KNOWN = _COUNTED | _PRICED
# Most requests have no other: nothing of these has a price of its own, or is a part of the prompt that nobody counts.
ORDINARY = _COUNTED - _PRICED
# Values that ask for nothing which has a price.
_NOTHING = frozenset({b"null", b"false"})
_USUAL_TIERS = frozenset({"default", "standard"})

_encode = msgspec.json.Encoder().encode
_objects = msgspec.json.Decoder(list[dict[str, Raw]])
_object = msgspec.json.Decoder(dict[str, Raw])


def check_names(names: Iterable[str], known: frozenset[str] = _KNOWN, at: str = "") -> None:
    """`names` are those of an object at the path `at`, or of the request. Raises InvalidField with one that is no known
    name, but would be in another case (Unicode's, in which U+017F is an `s` and U+212A a `k`), or with its underscores
    elsewhere (`maxTokens`)."""
    for name in names:
        if name not in known and (meant := _by_letters(known).get(_letters(name))) is not None:
            raise InvalidField(f"{at}.{name}" if at else name, f"is not a field here; `{meant}` is")


@cache
def _by_letters(known: frozenset[str]) -> dict[str, str]:
    return {_letters(name): name for name in sorted(known)}


def _letters(name: str) -> str:
    return name.replace("_", "").replace("-", "").casefold()


def read_options(fields: dict[str, Raw]) -> None:
    """Checks `stream_options`, which are an object, and leaves one of each name in them."""
    if not is_null(sent := fields["stream_options"]):
        options = _object.decode(sent)
        check_names(options, _OPTIONS, "stream_options")
        fields["stream_options"] = Raw(_encode(options))


def read_tools(fields: dict[str, Raw]) -> None:
    """Checks `tools`, which are a list of objects, and leaves one of each name in each: the types that are read here
    are those that the vendor reads. One that the customer runs has nothing beside it that a vendor could run: some go
    by the names in a tool (Gemini's `googleSearch`), not by its type."""
    tools = _objects.decode(fields["tools"])
    for index, tool in enumerate(tools):
        check_names(tool, _TOOL_FIELDS, f"tools[{index}]")
        kind = msgspec.json.decode(tool["type"])
        if kind in _OWN_TOOLS:
            for name in tool.keys() - _BESIDE_A_TOOL - {"type", kind}:
                if not is_null(tool[name]):
                    raise InvalidField(f"tools[{index}].{name}", f"does not belong to a tool of type `{kind}`")
    fields["tools"] = Raw(_encode(tools))


def read_extras(fields: dict[str, Raw], tool_types: Iterable[str]) -> Extras:
    """What the request asks for that has a price of its own; fields that ask for nothing are taken out. Raises
    InvalidField for a service tier that is not in lower case, as all of them are."""
    asked: list[str] = []
    tier = None
    for name in sorted(_PRICED & fields.keys()):
        if name == HOSTED_TOOLS:
            if not _OWN_TOOLS.issuperset(tool_types):
                asked.append(name)
        elif bytes(fields[name]) in _NOTHING:
            del fields[name]
        elif name == "service_tier":
            tier = msgspec.json.decode(fields[name], type=str)
            if tier != tier.lower():  # priced by its name, which vendors may read in any case
                raise InvalidField(name, "must be in lower case")
            if tier in _USUAL_TIERS:
                tier = None
                del fields[name]
        else:
            asked.append(name)
    return Extras(service_tier=tier, fields=tuple(asked)) if asked or tier is not None else NO_EXTRAS


def drop_fields(fields: dict[str, Raw], names: Iterable[str]) -> None:
    """Takes them out, and of the tools those that the vendor runs."""
    for name in names:
        if name == HOSTED_TOOLS:
            _drop_hosted(fields)
        else:
            fields.pop(name, None)


def uncounted_bytes(fields: Mapping[str, Raw]) -> int:
    """Of fields that nobody here knows: a vendor may make them part of the prompt."""
    return sum(len(name) + len(bytes(fields[name])) for name in fields.keys() - _COUNTED)


def is_null(value: Raw) -> bool:
    return bytes(value) == b"null"


def _drop_hosted(fields: dict[str, Raw]) -> None:
    tools = [tool for tool in _objects.decode(fields["tools"]) if msgspec.json.decode(tool["type"]) in _OWN_TOOLS]
    if tools:
        fields["tools"] = Raw(_encode(tools))
    else:  # vendors refuse a choice among none
        for name in ("tools", "tool_choice", "parallel_tool_calls"):
            fields.pop(name, None)
