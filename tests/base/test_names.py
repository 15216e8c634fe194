"""Allow-lists of names: what a pattern matches, and which pattern is within another."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base.names import Names, covers

patterns = st.text("ab*", max_size=8)
texts = st.text("ab", max_size=8)


def _oracle(pattern: str, name: str) -> bool:
    """By its definition: one star after the other, every way it could go."""
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(_oracle(pattern[1:], name[start:]) for start in range(len(name) + 1))
    return bool(name) and name[0] == pattern[0] and _oracle(pattern[1:], name[1:])


@given(st.lists(patterns, max_size=3), texts)
def test_a_star_is_any_text(listed: list[str], name: str) -> None:
    assert (name in Names(listed)) == any(_oracle(pattern, name) for pattern in listed)


@pytest.mark.parametrize(
    ("listed", "name", "is_in"),
    [
        pytest.param(["gpt-4*"], "gpt-4o-mini", True, id="a prefix"),
        pytest.param(["gpt-4*"], "gpt-4", True, id="nothing is a text too"),
        pytest.param(["gpt-4*"], "my-gpt-4", False, id="from the start"),
        pytest.param(["*-mini"], "o3-mini-high", False, id="to the end"),
        pytest.param(["gpt-4.1"], "gpt-4x1", False, id="a dot is a dot"),
        pytest.param(["gpt-4?", "gpt-[45]"], "gpt-4", False, id="only the star is special"),
        pytest.param(["gpt-*"], "GPT-4", False, id="letters have their case"),
        pytest.param(["*"], "a\nb", True, id="a line's end is a letter"),
        pytest.param([], "gpt-4", False, id="an empty list has nothing"),
        pytest.param(["a(b*"], "a(bc", True, id="no expression of its own"),
    ],
)
def test_names_and_patterns(listed: list[str], name: str, is_in: bool) -> None:
    assert (name in Names(listed)) is is_in


@given(st.lists(patterns, min_size=1, max_size=3), patterns, texts)
def test_what_is_covered_is_allowed(wide: list[str], narrow: str, name: str) -> None:
    """Whatever the narrow one matches, the wide list matches as well."""
    if covers(wide, narrow) and name in Names([narrow]):
        assert name in Names(wide)


@given(patterns)
def test_everything_covers_itself_and_a_star_everything(pattern: str) -> None:
    assert covers([pattern], pattern)
    assert covers(["*"], pattern)


@pytest.mark.parametrize(("wide", "narrow"), [(["gpt-4*"], "*"), (["gpt-4"], "gpt-*"), ([], "a"), (["a*"], "*a")])
def test_what_goes_beyond_is_not_covered(wide: list[str], narrow: str) -> None:
    assert not covers(wide, narrow)


def test_no_pattern_takes_long() -> None:
    """Customers write them too: a search through every way to place the stars would not end."""
    begun_s = time.process_time()
    assert "a" * 200 not in Names(["a*" * 90 + "b"])
    assert not covers(["*a" * 90 + "b"], "a" * 200)
    assert time.process_time() - begun_s < 5
