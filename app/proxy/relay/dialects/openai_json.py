"""JSON as vendors write it: halves of characters among its escapes, and fields that are changed while all else keeps
its bytes. Pure.

A vendor that cuts a text between two escapes of one character (`\\ud83c`, `\\udf88`) sends halves, of which each is
valid JSON (RFC 8259, section 8.2) and which our decoder refuses. They are read as U+FFFD, and passed on as they came:
the customer can still join them.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

__all__ = ["edited", "has_halves", "rewritten", "with_whole_characters"]

_surrogate = re.compile(rb"\\u[dD][89a-fA-F]")
# An escaped backslash, a whole pair, or a half.
_escape = re.compile(
    rb"\\(?:\\|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u(?P<half>[dD][89a-fA-F][0-9a-fA-F]{2}))"
)
# Stands for the `\u` of a half while fields are changed: U+FDD0 is never a character of a text (Unicode, section 23.7).
_HIDING = "\ufdd0".encode()
_hidden = re.compile(_HIDING + rb"(?=[dD][89a-fA-F][0-9a-fA-F]{2})")

_fields = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode


def has_halves(body: bytes) -> bool:
    """Whether there may be some: also where all of them are pairs."""
    return _surrogate.search(body) is not None


def with_whole_characters(body: bytes) -> bytes:
    """Each half as U+FFFD."""
    return _escape.sub(lambda found: b"\\ufffd" if found["half"] else found[0], body)


def edited(body: bytes, changes: Mapping[str, object], dropped: Iterable[str] = ()) -> bytes:
    """The JSON object `body`, which has been read before, with these fields and without those. Raises
    msgspec.DecodeError where it is none."""

    def change(fields: dict[str, Any]) -> None:
        for name in dropped:
            fields.pop(name, None)
        fields.update(changes)

    return rewritten(body, change)


def rewritten(body: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The JSON object `body` after a change of its fields. Values that are not changed keep their bytes. Raises
    msgspec.DecodeError where it is none, and what `change` raises."""
    try:
        fields: dict[str, Any] = dict(_fields.decode(body))
    except msgspec.DecodeError:
        hidden = _escape.sub(lambda found: _HIDING + found["half"] if found["half"] else found[0], body)
        fields = dict(_fields.decode(hidden))
        change(fields)
        return _hidden.sub(rb"\\u", _encode(fields))
    change(fields)
    return _encode(fields)
