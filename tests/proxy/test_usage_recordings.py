"""What recorded usage of real vendors comes to, by the rules of their providers."""

from pathlib import Path

import pytest
from msgspec import Raw

from app.proxy.records import Usage
from app.proxy.relay.dialects.openai_usage import read_usage
from app.proxy.relay.providers import PROVIDERS

RECORDINGS = Path(__file__).parent.parent / "recordings"

# Those of providers that have no rules of their own are read as any OpenAI-compatible vendor's.
EXPECTED = {
    "dashscope/text": Usage(input_tokens=18, output_tokens=1064),
    "dashscope/reasoning-stream": Usage(input_tokens=24, output_tokens=1355, reasoning_tokens=1084),
    "deepseek/cached": Usage(input_tokens=495, output_tokens=144, cached_input_tokens=320, reasoning_tokens=118),
    "deepseek/tool-call-stream": Usage(
        input_tokens=339, output_tokens=83, cached_input_tokens=320, reasoning_tokens=39
    ),
    "groq/reasoning-stream": Usage(input_tokens=17, output_tokens=1107, reasoning_tokens=963),
    "mistral/text": Usage(input_tokens=13, output_tokens=434),
    "mistral/tool-call-stream": Usage(input_tokens=171, output_tokens=14, cached_input_tokens=128),
    "moonshot/reasoning": Usage(input_tokens=20, output_tokens=30, cached_input_tokens=10, reasoning_tokens=22),
    "moonshot/text": Usage(input_tokens=9, output_tokens=5),
    "perplexity/text": Usage(input_tokens=11, output_tokens=392),
    "xai/text": Usage(input_tokens=12, output_tokens=229, cached_input_tokens=2, reasoning_tokens=228),
    "xai/text-stream": Usage(input_tokens=12, output_tokens=291, cached_input_tokens=11, reasoning_tokens=290),
    "xai/tool-call-stream": Usage(input_tokens=291, output_tokens=222, cached_input_tokens=290, reasoning_tokens=196),
}
NOT_PLAIN = {"moonshot/reasoning", "xai/text", "xai/text-stream", "xai/tool-call-stream"}


@pytest.mark.parametrize("name", EXPECTED)
def test_recorded_usage(name: str) -> None:
    """Classes as the vendor's documents define them; shown as it came where OpenAI's clients read the same in it."""
    provider = PROVIDERS.get(name.partition("/")[0], PROVIDERS["openai_compatible"])
    said = read_usage(Raw((RECORDINGS / f"{name}.json").read_bytes()), provider.usage_rules)
    assert said is not None
    assert said.counts == EXPECTED[name]
    assert said.has_output
    assert said.is_plain == (name not in NOT_PLAIN)


def test_every_recording_is_expected() -> None:
    found = {str(path.relative_to(RECORDINGS).with_suffix("")) for path in RECORDINGS.glob("*/*.json")}
    assert found == set(EXPECTED)
