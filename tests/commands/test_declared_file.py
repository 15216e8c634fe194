"""A declaration as a YAML file: numbers as written, texts as meant, variables filled in."""

from typing import Any

import pytest

from app.base.errors import InvalidField
from app.commands.declared_file import read_file


@pytest.mark.parametrize(
    ("text", "read"),
    [
        pytest.param(
            "prices: {input: 2.50, output: 10, request: '0'}",
            {"input": "2.50", "output": "10", "request": "0"},
            id="money is text",
        ),
        pytest.param(
            "prices: {input: 0.1234567890123456789}", {"input": "0.1234567890123456789"}, id="to the last digit"
        ),
        pytest.param(
            "prices: {tiers: [{above_input_tokens: 5, input: 1}]}",
            {"tiers": [{"above_input_tokens": 5, "input": "1"}]},
            id="a count is none",
        ),
        pytest.param("weight: 2", 2, id="a count"),
        pytest.param("temperature: 0.50", 0.5, id="a number of a request"),
        pytest.param("sticky: on", "on", id="on is a text"),
        pytest.param("answer: no", "no", id="no is a text"),
        pytest.param("enabled: true", True, id="true is not"),
        pytest.param("since: 2026-01-31", "2026-01-31", id="a date is a text"),
        pytest.param("x: ~", None, id="null"),
        pytest.param("x: ${KEY}", "hush", id="variable"),
        pytest.param("x: Bearer ${KEY}-${N}", "Bearer hush-1", id="variables inside"),
        pytest.param("x: $${KEY} $KEY $.a", "${KEY} $KEY $.a", id="what is no variable"),
        pytest.param("x: ['${KEY}']", ["hush"], id="in a list"),
    ],
)
def test_values(text: str, read: Any) -> None:
    (value,) = read_file(text, {"KEY": "hush", "N": "1"}).values()
    assert (value, type(value)) == (read, type(read))


def test_an_empty_file_declares_nothing() -> None:
    assert read_file("# nothing yet", {}) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "channels: {a: {credentials: ['${NONE}']}}",
            "'channels.a.credentials[0]': the environment has no variable NONE",
        ),
        ("channels: {a: {}, a: {}}", "`a` is there twice at line 1"),
        ("a: [1", "line 1"),
        ("a: 'hush\n b: c", "not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
    ],
)
def test_what_cannot_be_read_is_said_without_its_lines(text: str, said: str) -> None:
    with pytest.raises(InvalidField) as caught:
        read_file(text, {})
    assert said in str(caught.value)
    assert "hush" not in str(caught.value)
