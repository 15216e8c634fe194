"""Price lists of other projects, read into one shape. Pure; numbers are decimals from their text on, never floats.

- LiteLLM's `model_prices_and_context_window.json`: USD a token by class, `_above_200k_tokens` where a long prompt costs
  more, `tiered_pricing` for the same as ranges. Its `sample_spec` and `fallback_generalizations` are no models.
- one-api's and new-api's ratios: an export of their options (`ModelRatio`, `CompletionRatio`, ...: objects, or JSON
  texts of such, by name or as a list of key and value), new-api's `/api/ratio_config`, and its `/api/pricing`. A ratio
  of 1 is 2 USD per million tokens (0.002 USD per 1,000); the others multiply it; `ModelPrice` is USD a request and
  takes the ratio's place. `GroupRatio` is what each group of customers pays of it all.

What can't be told for sure is left out, with the reason: selling below cost would be worse than not selling.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, DecimalException, localcontext
from typing import Any

import msgspec

from app.base.errors import InvalidField

__all__ = ["ListedPrice", "PriceFile", "Rates", "read_price_file"]

Rates = dict[str, Decimal]  # a class of tokens -> USD per million

_MILLION = Decimal(1_000_000)
_USD_A_RATIO = Decimal(2)  # per million tokens
_WRITE_FOR_AN_HOUR = Decimal("1.6")  # of a five minutes' write: new-api has no ratio of its own for it
_DIGITS = 60

# LiteLLM's fields -> our classes.
_LITELLM = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached_input",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "output_cost_per_reasoning_token": "reasoning",
    "input_cost_per_audio_token": "audio_input",
    "output_cost_per_audio_token": "audio_output",
    "input_cost_per_image_token": "image_input",
    "output_cost_per_image_token": "image_output",
}
_ABOVE = re.compile(r"(?P<field>.+?)_above_(?P<thousands>\d{1,6})k_tokens", re.ASCII)
_NO_MODELS = ("sample_spec", "fallback_generalizations")
_MODES = ("chat", "completion", "responses", "embedding")

# new-api's names in `/api/ratio_config` and `/api/pricing` -> those of its options, which are one-api's too.
_OPTIONS = {
    "model_ratio": "ModelRatio",
    "completion_ratio": "CompletionRatio",
    "cache_ratio": "CacheRatio",
    "create_cache_ratio": "CreateCacheRatio",
    "image_ratio": "ImageRatio",
    "audio_ratio": "AudioRatio",
    "audio_completion_ratio": "AudioCompletionRatio",
    "model_price": "ModelPrice",
    "group_ratio": "GroupRatio",
}


class ListedPrice(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of one model. `tiers` rise: above so many tokens of the prompt, these rates."""

    rates: Rates
    tiers: tuple[tuple[int, Rates], ...] = ()
    request: Decimal = Decimal(0)  # USD each
    context_length: int | None = None
    max_output_tokens: int | None = None


class PriceFile(msgspec.Struct, frozen=True, kw_only=True):
    """A price list: by model what it costs, or why that can't be told; and the multipliers of groups of customers."""

    models: dict[str, ListedPrice]
    skipped: dict[str, str]
    groups: dict[str, Decimal]


class _Unclear(Exception):
    """Why a model's price can't be told."""


def read_price_file(text: str) -> PriceFile:
    """Raises InvalidField where it is none of the formats."""
    try:
        # Strings stay as they are; a number keeps every digit it was written with.
        content = json.loads(text, parse_float=Decimal, parse_int=Decimal, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InvalidField("file", f"is not JSON ({error})") from None
    with localcontext() as context:
        context.prec = _DIGITS
        return _read(content)


def _read(content: Any) -> PriceFile:
    groups: dict[str, Any] = {}
    if isinstance(content, dict) and "data" in content:  # an answer of one-api or new-api
        groups = {"GroupRatio": content["group_ratio"]} if "group_ratio" in content else {}
        content = content["data"]
    if isinstance(content, list) and content and all(isinstance(each, dict) for each in content):
        if all("key" in each and "value" in each for each in content):
            return _read_options({**groups, **{str(each["key"]): each["value"] for each in content}})
        if all("model_name" in each for each in content):
            return _read_options({**groups, **_columns(content)}, modes=_column(content, "billing_mode"))
    if isinstance(content, dict):
        named: dict[str, Any] = {_OPTIONS.get(str(name), str(name)): value for name, value in content.items()}
        if any(name in named for name in _OPTIONS.values()):
            return _read_options({**groups, **named}, modes=content.get("billing_mode") or {})
        if any(isinstance(entry, dict) and not _LITELLM.keys().isdisjoint(entry) for entry in content.values()):
            return _read_litellm(content)
    raise InvalidField("file", "is neither LiteLLM's price list nor ratios of one-api or new-api")


def _read_litellm(content: Mapping[str, Any]) -> PriceFile:
    entries = {name: entry for name, entry in content.items() if name not in _NO_MODELS}
    return _collect(entries, lambda name: _litellm_price(entries[name]), {})


def _litellm_price(entry: Any) -> ListedPrice:
    if not isinstance(entry, dict):
        raise _Unclear("is not an object")
    mode = entry.get("mode") or "chat"
    if mode not in _MODES:
        raise _Unclear(f"a model for {mode} is not sold by the token here")
    steps: dict[int, Rates] = {0: _litellm_rates(entry)}
    for name, value in entry.items():
        match = _ABOVE.fullmatch(name)
        if match and match["field"] in _LITELLM and value is not None:
            above = int(match["thousands"]) * 1000
            steps.setdefault(above, {})[_LITELLM[match["field"]]] = _number(value, name) * _MILLION
    for index, each in enumerate(entry.get("tiered_pricing") or ()):
        if not isinstance(each, dict) or not isinstance(each.get("range"), list) or not each["range"]:
            raise _Unclear(f"tiered_pricing[{index}] has no range")
        above = int(_number(each["range"][0], "range"))
        steps[above] = {**steps.get(above, {}), **_litellm_rates(each)}
    base, *tiers = _completed(steps)
    return ListedPrice(
        rates=base[1],
        tiers=tuple(tiers),
        request=_number(entry.get("input_cost_per_request") or Decimal(0), "input_cost_per_request"),
        context_length=_count(entry, "max_input_tokens", "max_tokens"),
        max_output_tokens=_count(entry, "max_output_tokens", "max_tokens"),
    )


def _litellm_rates(entry: Mapping[str, Any]) -> Rates:
    return {
        name: _number(entry[field], field) * _MILLION
        for field, name in _LITELLM.items()
        if entry.get(field) is not None
    }


def _completed(steps: Mapping[int, Rates]) -> list[tuple[int, Rates]]:
    """By height, each with an input and an output rate: those of the step below where it has none of its own."""
    completed: list[tuple[int, Rates]] = []
    for above, rates in sorted(steps.items()):
        below = completed[-1][1] if completed else {}
        whole: Rates = {name: below[name] for name in ("input", "output") if name in below}
        completed.append((above, {**whole, **rates}))
        for name in ("input", "output"):
            if name not in completed[-1][1]:
                raise _Unclear(f"has no price per {name} token")
    return completed


def _read_options(options: Mapping[str, Any], modes: Mapping[str, Any] | None = None) -> PriceFile:
    tables = {name: _table(options.get(name), name) for name in _OPTIONS.values()}
    groups = {
        name: ratio for name, ratio in tables.pop("GroupRatio").items() if isinstance(ratio, Decimal) and ratio >= 0
    }
    names = [*tables["ModelPrice"], *(name for name in tables["ModelRatio"] if name not in tables["ModelPrice"])]

    def price(name: str) -> ListedPrice:
        if (modes or {}).get(name) == "tiered_expr":
            raise _Unclear("is billed by an expression")
        if "*" in name:
            raise _Unclear("is a pattern, not a model")
        return _ratio_price({option: table[name] for option, table in tables.items() if table.get(name) is not None})

    return _collect(names, price, groups)


def _ratio_price(own: Mapping[str, Any]) -> ListedPrice:
    if "ModelPrice" in own:
        nothing = {"input": Decimal(0), "output": Decimal(0)}
        return ListedPrice(rates=nothing, request=_number(own["ModelPrice"], "ModelPrice"))
    if "CompletionRatio" not in own:
        # Both have a table of these in their code, by the model's name, and it changes with their versions.
        raise _Unclear("has no completion ratio: new-api's /api/pricing says it for every model")
    ratios = {name: _number(value, name) for name, value in own.items()}
    whole = ratios["ModelRatio"] * _USD_A_RATIO
    rates = {"input": whole, "output": whole * ratios["CompletionRatio"]}
    if "CacheRatio" in ratios:
        rates["cached_input"] = whole * ratios["CacheRatio"]
    if "CreateCacheRatio" in ratios:
        rates["cache_write"] = whole * ratios["CreateCacheRatio"]
        rates["cache_write_1h"] = rates["cache_write"] * _WRITE_FOR_AN_HOUR
    if "ImageRatio" in ratios:
        rates["image_input"] = whole * ratios["ImageRatio"]
    if "AudioRatio" in ratios:
        rates["audio_input"] = whole * ratios["AudioRatio"]
        rates["audio_output"] = rates["audio_input"] * ratios.get("AudioCompletionRatio", Decimal(1))
    return ListedPrice(rates=rates)


def _table(value: Any, name: str) -> dict[str, Any]:
    """An option is an object by model, or the JSON text of one. Raises InvalidField."""
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}", parse_float=Decimal, parse_int=Decimal, parse_constant=_no_number)
        except (ValueError, RecursionError):
            raise InvalidField(f"file.{name}", "is not JSON") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidField(f"file.{name}", "must be an object of numbers by name")
    return value


def _columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """`/api/pricing`: a row a model -> an object an option. `quota_type` says which of the two prices holds."""
    columns: dict[str, dict[str, Any]] = {option: {} for option in _OPTIONS.values() if option != "GroupRatio"}
    for row in rows:
        by_request = row.get("quota_type") == 1
        for name, option in _OPTIONS.items():
            holds = by_request if name == "model_price" else not by_request
            if option in columns and holds and row.get(name) is not None:
                columns[option][str(row["model_name"])] = row[name]
    return columns


def _column(rows: Iterable[Mapping[str, Any]], name: str) -> dict[str, Any]:
    return {str(row["model_name"]): row.get(name) for row in rows}


def _collect(names: Iterable[str], price: Callable[[str], ListedPrice], groups: dict[str, Decimal]) -> PriceFile:
    models: dict[str, ListedPrice] = {}
    skipped: dict[str, str] = {}
    for name in names:
        try:
            models[name] = price(name)
        except _Unclear as reason:
            skipped[name] = str(reason)
        except (DecimalException, OverflowError):
            skipped[name] = "has a number out of all bounds"
    return PriceFile(models=models, skipped=skipped, groups=groups)


def _number(value: Any, field: str) -> Decimal:
    """Raises _Unclear."""
    if not isinstance(value, Decimal) or value < 0:
        raise _Unclear(f"{field} is not a price")
    return value


def _count(entry: Mapping[str, Any], *fields: str) -> int | None:
    """The first that is a number of tokens."""
    for field in fields:
        value = entry.get(field)
        if isinstance(value, Decimal) and 1 <= value <= 10**9 and value == value.to_integral_value():
            return int(value)
    return None


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")
