"""Usage as vendors of the chat dialect count it: read once, for plain answers and for streams."""

import msgspec
import pytest
from msgspec import Raw

from app.proxy.records import Usage
from app.proxy.relay.dialects.openai_answer import read_usage


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, None),
        ({}, None),
        ("many", None),
        ({"prompt_tokens": -1, "completion_tokens": 2}, None),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, Usage()),
        ({"prompt_tokens": 5}, Usage(input_tokens=5)),
        (
            {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 6}},
            Usage(input_tokens=9, output_tokens=4, cached_input_tokens=6),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 4, "prompt_cache_hit_tokens": 6},
            Usage(input_tokens=9, output_tokens=4, cached_input_tokens=6),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 12, "cache_write_tokens": 3},
                "completion_tokens_details": {"reasoning_tokens": 8},
            },
            Usage(input_tokens=9, output_tokens=4, cached_input_tokens=9, reasoning_tokens=4),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": None}},
            Usage(input_tokens=9, output_tokens=4),
        ),
    ],
)
def test_usage_as_vendors_say_it(usage: object, expected: Usage | None) -> None:
    """An explicit zero is a zero, nonsense is nothing, and a class is never more than its whole."""
    assert read_usage(Raw(msgspec.json.encode(usage))) == expected


@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
@pytest.mark.parametrize("tokens", [10**20, 2**63])
def test_a_count_that_no_book_can_hold_is_no_usage(name: str, tokens: int) -> None:
    """A vendor's figure ends in a 64-bit column: one that cannot is nonsense, like a negative one."""
    usage = {"prompt_tokens": 11, "completion_tokens": 7} | {name: tokens}
    assert read_usage(Raw(msgspec.json.encode(usage))) is None
