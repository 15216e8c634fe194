"""What a message or a delta of OpenAI's dialect says: whether it says anything, and the texts that were generated, for
a count of tokens where the vendor sends none. Pure.

The JSON around a text is the format's, not the model's: a call of a tool counts by its name and its arguments.
"""

from typing import Any

import msgspec

__all__ = ["Said", "says", "texts"]

_encode = msgspec.json.Encoder().encode

# The text of a part of content: OpenAI's, a refusal, and Mistral's thinking, which holds parts of its own.
_PART_TEXTS = ("text", "refusal", "thinking")
_DEPTH_MOST = 8  # parts in parts; no vendor goes deeper than four


class Said(msgspec.Struct):
    """A message or a delta."""

    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None
    function_call: Any = None
    audio: Any = None


def says(said: Said | None) -> bool:
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


def texts(said: Said | None) -> list[str]:
    """The texts that were generated."""
    if said is None:
        return []
    if isinstance(said.content, str) and not (
        said.tool_calls or said.reasoning_content or said.reasoning or said.refusal or said.function_call
    ):
        return [said.content]
    # Some vendors send the same text under both names.
    thought = max(said.reasoning_content or "", said.reasoning or "", key=len)
    found = [text for text in (thought, said.refusal) if text]
    found += _of_part(said.content)
    for call in said.tool_calls or ():
        found += _of_call(call)
    return found + _of_function(said.function_call)


def _of_part(part: Any, depth: int = _DEPTH_MOST) -> list[str]:
    if isinstance(part, str):
        return [part] if part else []
    if isinstance(part, dict):
        part = [part.get(name) for name in _PART_TEXTS]
    if not isinstance(part, list) or not depth:
        return []
    return [text for each in part for text in _of_part(each, depth - 1)]


def _of_call(call: Any) -> list[str]:
    """`function` of a function tool, `custom` of a custom one."""
    if not isinstance(call, dict):
        return []
    return _of_function(call.get("function")) + _of_function(call.get("custom"))


def _of_function(function: Any) -> list[str]:
    """Arguments are a string in OpenAI's reference; some vendors send the object itself."""
    if not isinstance(function, dict):
        return []
    found = [function.get("name"), function.get("arguments"), function.get("input")]
    return [each if isinstance(each, str) else _encode(each).decode() for each in found if each]
