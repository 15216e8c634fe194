"""JSON paths, as operators write them."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base.json_path import parse_path


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("temperature", ("temperature",)),
        ("$.temperature", ("temperature",)),
        (".temperature", ("temperature",)),
        ("$['temperature']", ("temperature",)),
        ("a.b.c", ("a", "b", "c")),
        ("$.messages[0].name", ("messages", 0, "name")),
        ("messages[-1]", ("messages", -1)),
        ("messages[*].name", ("messages", None, "name")),
        ("metadata.*", ("metadata", None)),
        ("safety-settings", ("safety-settings",)),
        ('$["a.b"][ 0 ]', ("a.b", 0)),
        (r"$['it\'s']", ("it's",)),
        (r"$['a\\b']", ("a\\b",)),
        ("größe", ("größe",)),
    ],
)
def test_a_path_is_names_indexes_and_wildcards(text: str, path: tuple[str | int | None, ...]) -> None:
    assert parse_path(text) == path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "$",
        "a.",
        "a..b",
        "$..a",
        "a[",
        "a[x]",
        "a[1:2]",
        "a[?@.b]",
        "0",
        "a b",
        "['a",
        "['a\"]",
        "a['b'",
        "$a",
        "a" + ".b" * 20,
    ],
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_path(text)


@given(st.text(max_size=30))
def test_whatever_is_written_is_a_path_or_is_refused(text: str) -> None:
    with suppress(ValueError):
        assert parse_path(text)


@given(st.lists(st.text(min_size=1, max_size=5) | st.integers(-9, 9), min_size=1, max_size=5))
def test_any_name_can_be_quoted(path: list[str | int]) -> None:
    def quoted(segment: str | int) -> str:
        if isinstance(segment, int):
            return f"[{segment}]"
        return "['" + segment.replace("\\", "\\\\").replace("'", "\\'") + "']"

    assert parse_path("$" + "".join(quoted(segment) for segment in path)) == tuple(path)
