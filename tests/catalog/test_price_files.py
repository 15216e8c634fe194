"""Price lists of other projects: read to the last digit, and left out where they don't say enough."""

import json
from decimal import Decimal
from typing import Any

import pytest

from app.base.errors import InvalidField
from app.catalog.price_files import read_price_file


def _usd(**rates: str) -> dict[str, Decimal]:
    return {name: Decimal(rate) for name, rate in rates.items()}


LITELLM = """{
  "sample_spec": {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0, "max_input_tokens": "a text", "mode": "x"},
  "fallback_generalizations": {"rules": [{"name": "n", "pattern": "p"}]},
  "plain": {"input_cost_per_token": 1.5e-07, "output_cost_per_token": 6e-07, "cache_read_input_token_cost": null,
    "max_input_tokens": 128000, "max_output_tokens": 16384, "max_tokens": 16384, "mode": "chat"},
  "full": {"input_cost_per_token": 3e-06, "output_cost_per_token": 1.5e-05, "cache_read_input_token_cost": 3e-07,
    "cache_creation_input_token_cost": 3.75e-06, "cache_creation_input_token_cost_above_1hr": 6e-06,
    "output_cost_per_reasoning_token": 2e-05, "input_cost_per_audio_token": 4e-05, "output_cost_per_audio_token": 8e-05,
    "input_cost_per_image_token": 1e-05, "output_cost_per_image_token": 3e-05, "input_cost_per_request": 0.005,
    "input_cost_per_token_batches": 1e-09, "input_cost_per_token_priority": 1e-03, "supports_vision": true},
  "tiered": {"input_cost_per_token": 3e-06, "output_cost_per_token": 1.5e-05,
    "input_cost_per_token_above_200k_tokens": 6e-06, "output_cost_per_token_above_200k_tokens": 2.25e-05,
    "cache_creation_input_token_cost_above_1hr_above_200k_tokens": 1.2e-05,
    "input_cost_per_token_above_512k_tokens": 9e-06, "input_cost_per_token_above_272k_tokens_flex": 1e-09},
  "ranges": {"mode": "chat", "tiered_pricing": [
    {"range": [0, 32000.0], "input_cost_per_token": 1e-06, "output_cost_per_token": 4e-06},
    {"range": [32000.0, 128000.0], "input_cost_per_token": 2e-06, "output_cost_per_token": 8e-06}]},
  "long-digits": {"input_cost_per_token": 0.00000012345678901234567890, "output_cost_per_token": 1},
  "picture": {"mode": "image_generation", "output_cost_per_image": 0.04},
  "seconds": {"input_cost_per_second": 0.0001, "input_cost_per_token": 1e-06},
  "prose": {"input_cost_per_token": "cheap", "output_cost_per_token": 1},
  "owing": {"input_cost_per_token": -1, "output_cost_per_token": 1},
  "boundless": {"input_cost_per_token": 1e999999999999, "output_cost_per_token": 1},
  "listed": []
}"""


def test_litellms_list_is_read_by_class() -> None:
    """USD a token -> USD per million; variants for batches, priority and flex are other products."""
    listed = read_price_file(LITELLM)
    assert set(listed.models) == {"plain", "full", "tiered", "ranges", "long-digits"}
    plain = listed.models["plain"]
    assert (plain.rates, plain.tiers, plain.request) == (_usd(input="0.15", output="0.6"), (), 0)
    assert (plain.context_length, plain.max_output_tokens) == (128_000, 16_384)
    full = listed.models["full"]
    assert full.rates == _usd(
        input="3",
        output="15",
        cached_input="0.3",
        cache_write="3.75",
        cache_write_1h="6",
        reasoning="20",
        audio_input="40",
        audio_output="80",
        image_input="10",
        image_output="30",
    )
    assert full.request == Decimal("0.005")


def test_litellms_tiers_rise_with_the_prompt() -> None:
    """Above 200k is above 200,000; a tier without an input or output price of its own has that of the one below."""
    listed = read_price_file(LITELLM)
    assert listed.models["tiered"].tiers == (
        (200_000, _usd(input="6", output="22.5", cache_write_1h="12")),
        (512_000, _usd(input="9", output="22.5")),
    )
    ranges = listed.models["ranges"]
    assert (ranges.rates, ranges.tiers) == (_usd(input="1", output="4"), ((32_000, _usd(input="2", output="8")),))


def test_no_digit_is_lost() -> None:
    """A float would have kept seventeen of them."""
    assert read_price_file(LITELLM).models["long-digits"].rates["input"] == Decimal("0.12345678901234567890")


def test_what_a_list_does_not_say_is_left_out_with_the_reason() -> None:
    """Other units, other products, prose and nonsense: nothing is guessed, and one bad entry spoils no other."""
    skipped = read_price_file(LITELLM).skipped
    assert set(skipped) == {"picture", "seconds", "prose", "owing", "boundless", "listed"}
    assert "image_generation" in skipped["picture"]
    assert "output" in skipped["seconds"]
    assert all("input_cost_per_token" in skipped[name] for name in ("prose", "owing"))


RATIOS: dict[str, Any] = {
    "ModelRatio": {"one": 1, "gpt-4o-mini": 0.075, "cached": 1.5, "both": 9, "unknown-output": 1, "gpt-*": 1},
    "CompletionRatio": {"one": 1, "gpt-4o-mini": 4, "cached": 5, "both": 9, "gpt-*": 1},
    "CacheRatio": {"cached": 0.1},
    "CreateCacheRatio": {"cached": 1.25},
    "AudioRatio": {"cached": 20},
    "AudioCompletionRatio": {"cached": 2},
    "ImageRatio": {"cached": 3},
    "ModelPrice": {"both": 0.04, "drawing": 0.1},
    "GroupRatio": {"default": 1, "vip": 0.8, "svip": "free"},
}
CACHED = _usd(
    input="3",
    output="15",
    cached_input="0.3",
    cache_write="3.75",
    cache_write_1h="6",
    audio_input="60",
    audio_output="120",
    image_input="9",
)
SNAKE = {
    "ModelRatio": "model_ratio",
    "CompletionRatio": "completion_ratio",
    "CacheRatio": "cache_ratio",
    "CreateCacheRatio": "create_cache_ratio",
    "AudioRatio": "audio_ratio",
    "AudioCompletionRatio": "audio_completion_ratio",
    "ImageRatio": "image_ratio",
    "ModelPrice": "model_price",
}


def _pricing() -> list[dict[str, Any]]:
    """The rows that new-api's `/api/pricing` has for the same."""
    names = {name for option in SNAKE for name in RATIOS[option]}
    rows = []
    for name in sorted(names):
        row = {SNAKE[option]: RATIOS[option][name] for option in SNAKE if name in RATIOS[option]}
        by_request = name in RATIOS["ModelPrice"]
        rows.append({"model_name": name, "quota_type": int(by_request), "model_ratio": 0, "model_price": 0, **row})
    return rows


FORMS: dict[str, Any] = {
    "options": RATIOS,
    "options as texts": {name: json.dumps(value) for name, value in RATIOS.items()},
    "answer of /api/option": {
        "success": True,
        "data": [{"key": name, "value": json.dumps(value)} for name, value in {**RATIOS, "Notice": "Hello"}.items()],
    },
    "list of options": [{"key": name, "value": json.dumps(value)} for name, value in RATIOS.items()],
    "answer of /api/ratio_config": {
        "success": True,
        "data": {short: RATIOS[name] for name, short in SNAKE.items()},
        "group_ratio": RATIOS["GroupRatio"],
    },
    "answer of /api/pricing": {"success": True, "data": _pricing(), "group_ratio": RATIOS["GroupRatio"]},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_ratios_are_read_in_every_form(form: Any) -> None:
    """A ratio of 1 is 2 USD per million; all others multiply it; a price a request takes its place."""
    listed = read_price_file(json.dumps(form))
    rates = {name: price.rates for name, price in listed.models.items()}
    nothing = _usd(input="0", output="0")
    assert rates == {
        "one": _usd(input="2", output="2"),
        "gpt-4o-mini": _usd(input="0.15", output="0.6"),
        "cached": CACHED,
        "both": nothing,
        "drawing": nothing,
    }
    requests = {name: price.request for name, price in listed.models.items() if price.request}
    assert requests == _usd(both="0.04", drawing="0.1")
    assert listed.groups == _usd(default="1", vip="0.8")


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_ratios_that_are_not_all_there_are_left_out(form: Any) -> None:
    """What an answer costs is in the peers' code where their options don't say it; a pattern is no model."""
    skipped = read_price_file(json.dumps(form)).skipped
    assert set(skipped) == {"unknown-output", "gpt-*"}
    assert "/api/pricing" in skipped["unknown-output"]


def test_a_model_billed_by_an_expression_is_left_out() -> None:
    rows = [
        {"model_name": "m", "quota_type": 0, "model_ratio": 1, "completion_ratio": 1, "billing_mode": "tiered_expr"}
    ]
    assert read_price_file(json.dumps({"data": rows})).skipped == {"m": "is billed by an expression"}
    modes = {"model_ratio": {"m": 1}, "completion_ratio": {"m": 1}, "billing_mode": {"m": "tiered_expr"}}
    assert read_price_file(json.dumps({"data": modes})).models == {}


JUNK = ["", "{", "[]", "{}", "7", '"prices"', "[1]", '{"data": null}', '{"m": NaN}', "[" * 100_000]


@pytest.mark.parametrize("text", [*JUNK, '{"ModelRatio": 7}', '{"ModelRatio": "{"}'], ids=lambda text: text[:20])
def test_what_is_no_price_list_is_refused(text: str) -> None:
    """Whole, with a sentence, and never with a traceback."""
    with pytest.raises(InvalidField) as refusal:
        read_price_file(text)
    assert (refusal.value.param or "").startswith("file")
