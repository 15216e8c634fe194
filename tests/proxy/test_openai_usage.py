"""Usage as vendors of the chat dialect count it: read once, for plain answers and for streams."""

import msgspec
import pytest
from msgspec import Raw

from app.proxy.records import Usage
from app.proxy.relay.dialects.openai_usage import read_usage


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
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 60},
                "cache_creation_input_tokens": 30,
                "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
            },
            Usage(
                input_tokens=100,
                output_tokens=4,
                cached_input_tokens=60,
                cache_write_tokens=30,
                cache_write_1h_tokens=20,
            ),
        ),
        (
            {
                "prompt_tokens": 50,
                "completion_tokens": 40,
                "prompt_tokens_details": {"audio_tokens": 30, "image_tokens": 10},
                "completion_tokens_details": {"audio_tokens": 25, "reasoning_tokens": 5},
            },
            Usage(
                input_tokens=50,
                output_tokens=40,
                reasoning_tokens=5,
                audio_input_tokens=30,
                audio_output_tokens=25,
                image_input_tokens=10,
            ),
        ),
        (  # reasoning beside the completion, as xAI counts it: the total says so
            {
                "prompt_tokens": 10,
                "completion_tokens": 4,
                "total_tokens": 44,
                "completion_tokens_details": {"reasoning_tokens": 30},
            },
            Usage(input_tokens=10, output_tokens=34, reasoning_tokens=30),
        ),
        (  # reasoning within the completion, as OpenAI counts it
            {
                "prompt_tokens": 10,
                "completion_tokens": 34,
                "total_tokens": 44,
                "completion_tokens_details": {"reasoning_tokens": 30},
            },
            Usage(input_tokens=10, output_tokens=34, reasoning_tokens=30),
        ),
        (  # a total that nothing explains is not charged
            {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 99},
            Usage(input_tokens=10, output_tokens=4),
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


def test_a_vendor_that_hides_its_reasoning_is_read_by_its_total() -> None:
    """Gemini's thoughts are in the total alone: they are output, and charged as such."""
    usage = Raw(b'{"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 44}')
    assert read_usage(usage, hides_output=True) == Usage(input_tokens=10, output_tokens=34, reasoning_tokens=30)
