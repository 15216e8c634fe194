"""Usage as vendors of the chat dialect count it: read once, for plain answers and for streams."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from app.proxy.records import Usage
from app.proxy.relay.dialects.openai_usage import (
    OPENAI_RULES,
    TOKENS_MOST,
    SentUsage,
    UsageRules,
    read_usage,
    usage_fields,
)
from app.proxy.relay.providers import PROVIDERS

GEMINI, XAI = PROVIDERS["gemini"].usage_rules, PROVIDERS["xai"].usage_rules


def sent(usage: object, rules: UsageRules = OPENAI_RULES) -> SentUsage | None:
    return read_usage(Raw(msgspec.json.encode(usage)), rules)


def counts(usage: object, rules: UsageRules = OPENAI_RULES) -> Usage | None:
    said = sent(usage, rules)
    return None if said is None else said.counts


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
    assert counts(usage) == expected


@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
@pytest.mark.parametrize("tokens", [10**20, 2**63])
def test_a_count_that_no_book_can_hold_is_no_usage(name: str, tokens: int) -> None:
    """A vendor's figure ends in a 64-bit column: one that cannot is nonsense, like a negative one."""
    usage = {"prompt_tokens": 11, "completion_tokens": 7} | {name: tokens}
    assert sent(usage) is None


@pytest.mark.parametrize("rules", [GEMINI, XAI], ids=["gemini", "xai"])
def test_a_vendor_that_hides_its_reasoning_is_read_by_its_total(rules: UsageRules) -> None:
    """Gemini's thoughts are in the total alone: they are output, and charged as such."""
    usage = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 44}
    assert counts(usage, rules) == Usage(input_tokens=10, output_tokens=34, reasoning_tokens=30)


@pytest.mark.parametrize("figure", [10, 10.0, "10"])
@pytest.mark.parametrize("details", [[], None, "none", 7, {"cached_tokens": []}, {"cached_tokens": -3}])
def test_usage_of_any_shape_is_readable(figure: object, details: object) -> None:
    """Figures are whole numbers in any notation; details that are no object, or hold no number, say nothing."""
    usage = {
        "prompt_tokens": figure,
        "completion_tokens": figure,
        "total_tokens": 20,
        "prompt_tokens_details": details,
        "completion_tokens_details": details,
        "cache_creation": details,
    }
    assert counts(usage) == Usage(input_tokens=10, output_tokens=10)


@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
@pytest.mark.parametrize("figure", [-1, 1.5, True, "ten", "-1", "1.5", "", "٣", [10], {}, TOKENS_MOST + 1, "9" * 30])
def test_what_is_no_number_of_tokens_is_no_usage(name: str, figure: object) -> None:
    """Fractions, booleans, negative and absurd figures: such a usage makes no sense, and the text is counted."""
    assert sent({"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18} | {name: figure}) is None


@pytest.mark.parametrize("usage", [{"prompt_tokens": 11}, {"prompt_tokens": 11, "completion_tokens": None}])
def test_a_missing_completion_is_the_rest_of_the_total(usage: dict[str, Any]) -> None:
    """Missing or null beside a total, it is what the prompt leaves of that."""
    said = sent(usage | {"total_tokens": 18})
    assert said is not None
    assert (said.counts, said.has_output) == (Usage(input_tokens=11, output_tokens=7), True)


@pytest.mark.parametrize("total", [None, 11, 5, -1, "many"])
def test_a_missing_completion_is_not_a_zero(total: object) -> None:
    """Without a total that says more than the prompt, the prompt is kept and the length of the answer is not known."""
    said = sent({"prompt_tokens": 11, "completion_tokens": None, "total_tokens": total})
    assert said is not None
    assert (said.counts, said.has_output) == (Usage(input_tokens=11), False)


def test_an_explicit_zero_is_said() -> None:
    said = sent({"prompt_tokens": 11, "completion_tokens": 0})
    assert said is not None
    assert (said.counts, said.has_output) == (Usage(input_tokens=11), True)


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 30, "completion_tokens": 4, "num_cached_tokens": 20},
        {"prompt_tokens": 30, "completion_tokens": 4, "prompt_token_details": {"cached_tokens": 20}},
        {"prompt_tokens": 30, "completion_tokens": 4, "cached_tokens": 20},
        {"prompt_tokens": 30, "completion_tokens": 4, "prompt_cache_hit_tokens": 20, "prompt_cache_miss_tokens": 10},
        {"prompt_tokens": 30, "completion_tokens": 4, "cache_read_input_tokens": 20},
    ],
    ids=["mistral", "mistral details", "moonshot", "deepseek", "anthropic"],
)
def test_cached_tokens_have_many_names(usage: dict[str, Any]) -> None:
    """Each vendor's own, read at every channel: gateways pass it on. Where a customer looks for it, it is missing."""
    said = sent(usage | {"total_tokens": 34})
    assert said == SentUsage(Usage(input_tokens=30, output_tokens=4, cached_input_tokens=20), is_plain=False)


def test_what_qwen_writes_to_the_cache_is_in_the_details() -> None:
    """DashScope's name for it, within the prompt."""
    usage = {
        "prompt_tokens": 200,
        "completion_tokens": 75,
        "total_tokens": 275,
        "prompt_tokens_details": {"cached_tokens": 120, "cache_creation_input_tokens": 50},
    }
    assert counts(usage) == Usage(input_tokens=200, output_tokens=75, cached_input_tokens=120, cache_write_tokens=50)


@pytest.mark.parametrize(
    ("prompt", "cached", "total", "whole"),
    [
        (12, 244, None, 256),  # more cached than there is of the prompt
        (12, 244, 12 + 1 + 30, 256),  # as above; the total leaves it out, too
        (12, 244, 12 + 244 + 1 + 30, 256),
        (291, 244, 291 + 244 + 1 + 30, 535),  # the total has both
        (291, 244, 291 + 1 + 30, 291),
        (291, 30, 291 + 1 + 30, 291),  # as much reasoning as was cached: it is in the total anyway
    ],
)
def test_a_prompt_without_its_cached_part_is_made_whole(
    prompt: int, cached: int, total: int | None, whole: int
) -> None:
    """xAI's, and only where the numbers show it; what was cached is never charged as output."""
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": 1,
        "total_tokens": total,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    read = counts(usage, XAI)
    assert read is not None
    assert (read.input_tokens, read.cached_input_tokens) == (whole, cached)
    assert read.output_tokens == (1 if total is None else 31)


def test_other_vendors_prompts_are_whole() -> None:
    """There, more cached than prompt is nonsense, and what was cached is a part at most."""
    usage = {"prompt_tokens": 12, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 244}}
    assert counts(usage) == Usage(input_tokens=12, output_tokens=1, cached_input_tokens=12)


@pytest.mark.parametrize(
    "named",
    [
        {"tool_use_prompt_tokens": 500},
        {"toolUsePromptTokenCount": 500},
        {"prompt_tokens_details": {"tool_use_prompt_tokens": 500}},
        {"completion_tokens_details": {"reasoning_tokens": 30}},
    ],
)
def test_what_tools_add_to_a_prompt_is_not_output(named: dict[str, Any]) -> None:
    """Gemini's total is prompt + tool-use + candidates + thoughts: where it names one of the two, the other is the
    rest, and results of searches are input."""
    usage = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 10 + 500 + 4 + 30} | named
    read = counts(usage, GEMINI)
    assert read == Usage(input_tokens=510, output_tokens=34, reasoning_tokens=30)


def test_a_missing_completion_leaves_search_results_out() -> None:
    usage = {"prompt_tokens": 10, "total_tokens": 544, "tool_use_prompt_tokens": 500}
    assert counts(usage, GEMINI) == Usage(input_tokens=510, output_tokens=34)


def test_a_rest_that_is_named_nowhere_is_not_charged() -> None:
    """A vendor that names its reasoning has said all that it hides."""
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "total_tokens": 99,
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    assert counts(usage, XAI) == Usage(input_tokens=10, output_tokens=34, reasoning_tokens=30)


PLAIN = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


@pytest.mark.parametrize(
    ("usage", "is_plain"),
    [
        (PLAIN, True),
        (PLAIN | {"prompt_tokens_details": None, "completion_tokens_details": {}}, True),
        (PLAIN | {"prompt_tokens_details": {"cached_tokens": 5}, "prompt_cache_hit_tokens": 5}, True),
        (PLAIN | {"completion_tokens_details": {"reasoning_tokens": 5}}, True),
        (PLAIN | {"prompt_tokens": 11.0}, False),
        (PLAIN | {"completion_tokens": "7"}, False),
        (PLAIN | {"completion_tokens": None}, False),
        (PLAIN | {"total_tokens": 99}, False),
        ({"prompt_tokens": 11, "completion_tokens": 7}, False),
        (PLAIN | {"cached_tokens": 5}, False),
        (PLAIN | {"prompt_tokens_details": []}, False),
        (PLAIN | {"prompt_tokens_details": {"cached_tokens": 12}}, False),
        (PLAIN | {"cost": 0.0012}, False),
        (PLAIN | {"cost_details": {"upstream_inference_cost": 0.0012}}, False),
    ],
)
def test_a_plain_usage_says_to_the_customer_what_is_billed(usage: dict[str, Any], is_plain: bool) -> None:
    """The same numbers where OpenAI's clients look for them, and no price of the vendor's."""
    said = sent(usage)
    assert said is not None
    assert said.is_plain == is_plain


_figures = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(0, 2000), st.floats(), st.integers(0, 2000).map(str), st.text()
)
_parts = [
    "cached_tokens",
    "cache_creation_input_tokens",
    "reasoning_tokens",
    "audio_tokens",
    "ephemeral_1h_input_tokens",
]
_any_json = st.recursive(_figures, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)
_details = st.dictionaries(st.sampled_from(_parts), _figures) | _any_json
_usages = _any_json | st.fixed_dictionaries(
    {"prompt_tokens": _figures},
    optional={
        "completion_tokens": _figures,
        "total_tokens": _figures,
        "prompt_tokens_details": _details,
        "completion_tokens_details": _details,
        "cache_creation": _details,
        "cached_tokens": _figures,
        "tool_use_prompt_tokens": _figures,
    },
)


@given(_usages, st.sampled_from([OPENAI_RULES, GEMINI, XAI]))
def test_any_usage_gives_parts_within_their_wholes(usage: object, rules: UsageRules) -> None:
    """Whatever a vendor sends: nothing is raised, nothing is negative, and no class is more than its whole."""
    said = sent(usage, rules)
    if said is None:
        return
    read = said.counts
    assert all(type(tokens) is int and tokens >= 0 for tokens in msgspec.structs.astuple(read))
    assert read.cached_input_tokens + read.cache_write_tokens <= read.input_tokens
    assert read.cache_write_1h_tokens <= read.cache_write_tokens
    assert max(read.audio_input_tokens, read.image_input_tokens) <= read.input_tokens
    assert max(read.reasoning_tokens, read.audio_output_tokens, read.image_output_tokens) <= read.output_tokens


_small = st.integers(0, 50)
_plain_usages = st.fixed_dictionaries(
    {"prompt_tokens": _small, "completion_tokens": _small, "total_tokens": _small | st.integers(0, 100)},
    optional={
        "prompt_tokens_details": st.none() | st.fixed_dictionaries({}, optional={"cached_tokens": _small}),
        "completion_tokens_details": st.none() | st.fixed_dictionaries({}, optional={"reasoning_tokens": _small}),
    },
)


@given(_plain_usages, st.booleans(), st.sampled_from([OPENAI_RULES, GEMINI, XAI]))
def test_a_field_that_says_nothing_changes_nothing(usage: dict[str, Any], is_sum: bool, rules: UsageRules) -> None:
    """OpenAI's own shape is read in a shorter way, to the same end."""
    if is_sum:
        usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
    assert sent(usage, rules) == sent(usage | {"note": None}, rules)


@given(_usages, st.sampled_from([OPENAI_RULES, GEMINI, XAI]))
def test_a_usage_of_ours_is_read_as_what_it_was_made_from(usage: object, rules: UsageRules) -> None:
    """What the customer is shown says what was billed, by the same reader."""
    said = sent(usage, rules)
    if said is not None:
        five_minutes = msgspec.structs.replace(said.counts, cache_write_1h_tokens=0)
        assert sent(usage_fields(five_minutes)) == SentUsage(five_minutes) or five_minutes.input_tokens > TOKENS_MOST


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens_details": {"audio_tokens": 50}},
        {"prompt_tokens_details": {"image_tokens": 50}},
        {"completion_tokens_details": {"audio_tokens": 99}},
        {"completion_tokens_details": {"audio_tokens": "5"}},
        {"cache_creation_input_tokens": 5000},
        {"prompt_tokens_details": {"cache_write_tokens": 5000}},
    ],
)
def test_a_class_that_is_charged_otherwise_is_not_shown_as_it_came(usage: dict[str, Any]) -> None:
    """A class is a part of its whole on the receipt, and so in the usage that the customer reads."""
    said = sent({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15} | usage)
    assert said is not None
    assert not said.is_plain
