"""JSON paths, as operators write them: a part of RFC 9535. Names and indexes, `[*]` and `.*`; the leading `$.` may be
left out. No filters, no slices, no descent."""

import re
from typing import Final

__all__ = ["EVERY", "Path", "parse_path"]

EVERY: Final = None  # a wildcard
Path = tuple[str | int | None, ...]

_MOST = 20
_SEGMENT = re.compile(
    r"""\.(?P<name>[^\W\d][\w-]*)
      | (?P<every>\.\*|\[\s*\*\s*\])
      | \[\s*(?P<index>-?\d{1,9})\s*\]
      | \[\s*(?P<quote>['"])(?P<quoted>(?:\\['"\\]|(?!(?P=quote))[^\\])*)(?P=quote)\s*\]""",
    re.VERBOSE,
)
_ESCAPED = re.compile(r"\\(.)")


def parse_path(text: str) -> Path:
    """Names are texts, indexes numbers (from behind where negative). Raises ValueError, saying what is wrong."""
    rest = text.removeprefix("$")
    if rest == text and rest[:1] not in ("[", "."):
        rest = f".{rest}"
    path: list[str | int | None] = []
    at = 0
    while at < len(rest):
        match = _SEGMENT.match(rest, at)
        if match is None:
            raise ValueError(f"`{rest[at:]}` is not a name, an index or a wildcard")
        path.append(_segment(match))
        at = match.end()
    if not path:
        raise ValueError("names no field")
    if len(path) > _MOST:
        raise ValueError(f"goes deeper than {_MOST}")
    return tuple(path)


def _segment(match: re.Match[str]) -> str | int | None:
    if match["every"]:
        return EVERY
    if match["index"]:
        return int(match["index"])
    return match["name"] if match["quote"] is None else _ESCAPED.sub(r"\1", match["quoted"])
