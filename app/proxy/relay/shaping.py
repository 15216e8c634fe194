"""Rules of a channel for the bodies it sends: fields that are set, defaulted or dropped, by JSON path. Pure.

Only what lies on the way of a rule is opened, level by level: all else is sent as it came, byte for byte.
"""

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from msgspec import Raw

from app.base.json_path import Path, parse_path
from app.catalog.records import FieldRules

__all__ = ["BodyRules", "read_rules"]

Node = dict[str, Raw] | list[Raw]

_encode = msgspec.json.Encoder().encode
_object = msgspec.json.Decoder(dict[str, Raw])
_array = msgspec.json.Decoder(list[Raw])
_EMPTY = Raw(b"{}")
_NOTHING = Raw(b"null")


class _Rule(msgspec.Struct, frozen=True):
    does: Literal["set", "default", "drop"]
    path: Path
    value: Raw = _NOTHING

    def makes(self, depth: int) -> bool:
        """Whether an object that is missing at this depth is made: only where names alone follow."""
        return self.does != "drop" and all(isinstance(each, str) for each in self.path[depth:])


class BodyRules(msgspec.Struct, frozen=True):
    """FieldRules, read: what is set, then what is defaulted, then what is dropped; before them what the vendor would
    refuse."""

    rules: tuple[_Rule, ...]

    def apply(self, fields: dict[str, Raw]) -> None:
        """Changes a body's top fields. A path that the body has no place for changes nothing."""
        for rule in self.rules:
            _apply(fields, rule, 0)


def read_rules(rules: FieldRules, refused: Iterable[str] = ()) -> BodyRules | None:
    """None where there are none. Raises ValueError at a path that is none."""
    read = [_Rule("drop", parse_path(path)) for path in refused]
    read += [_Rule("set", parse_path(path), Raw(_encode(value))) for path, value in rules.set.items()]
    read += [_Rule("default", parse_path(path), Raw(_encode(value))) for path, value in rules.default.items()]
    read += [_Rule("drop", parse_path(path)) for path in rules.drop]
    return BodyRules(tuple(read)) if read else None


def _apply(node: Node, rule: _Rule, depth: int) -> None:
    segment, below = rule.path[depth], depth + 1
    if below == len(rule.path):
        _finish(node, rule, segment)
        return
    if isinstance(node, dict) and isinstance(segment, str) and segment not in node and rule.makes(below):
        node[segment] = _EMPTY
    for key in _keys(node, segment):
        inner = _opened(node[key])
        if inner is not None:
            _apply(inner, rule, below)
            node[key] = Raw(_encode(inner))


def _finish(node: Node, rule: _Rule, segment: str | int | None) -> None:
    if rule.does == "drop":
        for key in reversed(_keys(node, segment)):  # from behind: what is left keeps its index
            del node[key]
    elif isinstance(node, dict) and isinstance(segment, str):
        if rule.does == "set" or segment not in node:
            node[segment] = rule.value
    elif rule.does == "set":
        for key in _keys(node, segment):
            node[key] = rule.value


def _keys(node: Any, segment: str | int | None) -> list[Any]:
    """Those that are there: names of an object, indexes of a list."""
    if segment is None:
        return list(node) if isinstance(node, dict) else list(range(len(node)))
    if isinstance(node, dict):
        return [segment] if segment in node else []
    if isinstance(segment, int) and -len(node) <= segment < len(node):
        return [segment % len(node)]
    return []


def _opened(value: Raw) -> Any:
    """None where it is neither an object nor a list."""
    first = bytes(memoryview(value)[:1])
    if first == b"{":
        return _object.decode(value)
    return _array.decode(value) if first == b"[" else None
