"""Allow-lists of names, such as a key's models: names, and patterns in which `*` stands for any text."""

import re
from collections.abc import Iterable

__all__ = ["Names", "covers"]

_ANY = "*"


class Names:
    """`name in names`: what is named itself is found at once, and all patterns are one expression, compiled once."""

    __slots__ = ("_exact", "_pattern", "listed")

    def __init__(self, listed: Iterable[str]) -> None:
        self.listed = tuple(listed)
        self._exact = frozenset(each for each in self.listed if _ANY not in each)
        patterns = [_expression(each) for each in self.listed if _ANY in each]
        self._pattern = re.compile("|".join(patterns), re.DOTALL) if patterns else None

    def __contains__(self, name: object) -> bool:
        if name in self._exact:
            return True
        return self._pattern is not None and isinstance(name, str) and self._pattern.fullmatch(name) is not None


def covers(wide: Iterable[str], narrow: str) -> bool:
    """Whether one entry of `wide` allows all that the entry `narrow` does. Two that only do so together don't count."""
    # Read as a text, a `*` of the narrow one can only be met by a `*` of the wide one: whatever it stands for is too.
    return any(
        each == narrow or (_ANY in each and re.fullmatch(_expression(each), narrow, re.DOTALL) is not None)
        for each in wide
    )


def _expression(pattern: str) -> str:
    """Each part between two `*` is met where it first can be, for good: no name makes it search for long."""
    first, *middle, last = (re.escape(part) for part in re.split(r"\*+", pattern))
    return first + "".join(f"(?>.*?{part})" for part in middle) + ".*" + last
