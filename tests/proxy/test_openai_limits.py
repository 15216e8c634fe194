"""The bound of an answer reaches every vendor in the field that it reads."""

from typing import Any
from unicodedata import normalize

import msgspec
import pytest

from app.base.priced_fields import LimitField
from app.catalog.records import Channel, FieldRules, Shaping
from app.proxy.records import Order, Pick
from app.proxy.relay.line import Lines
from app.proxy.relay.providers import PROVIDERS
from app.proxy.relay.sandbox import SandboxTransport
from app.proxy.relay.vendors import VendorTransport
from tests.proxy.makers import make_channel, order

NAMES = ("max_tokens", "max_completion_tokens")
OLDER, NEWER, BOTH = ("max_tokens",), ("max_completion_tokens",), NAMES
# As the vendors' references have it; an unknown vendor may read either.
READS = {
    "openai": NEWER,
    "openai_compatible": BOTH,
    "dashscope": BOTH,
    "deepseek": OLDER,
    "gemini": OLDER,
    "groq": NEWER,
    "mistral": OLDER,
    "moonshot": OLDER,
    "openrouter": OLDER,
    "together": OLDER,
    "xai": NEWER,
    "sandbox": OLDER,
}


def sent(asked: Order, channel: Channel) -> dict[str, Any]:
    call = Lines(VendorTransport(), SandboxTransport()).call(asked, Pick(channel, channel.ways[0]))[1]
    written = msgspec.json.decode(call.body)
    return {name: written[name] for name in NAMES if name in written}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("asked", NAMES)
def test_the_bound_goes_where_the_vendor_reads_it(provider: str, asked: str) -> None:
    """A vendor that ignores the customer's name for it would answer as long as it likes."""
    assert sent(order(**{asked: 1}), make_channel(provider=provider)) == dict.fromkeys(READS[provider], 1)


@pytest.mark.parametrize(
    ("limit_field", "names"), [("max_tokens", OLDER), ("max_completion_tokens", NEWER), ("both", BOTH)]
)
def test_an_operator_knows_better(limit_field: LimitField, names: tuple[str, ...]) -> None:
    for provider in ("openai", "mistral"):
        channel = make_channel(provider=provider, limit_field=limit_field)
        assert sent(order(max_tokens=7), channel) == dict.fromkeys(names, 7)


def test_the_smaller_of_two_limits_is_sent() -> None:
    assert sent(order(max_tokens=9, max_completion_tokens=5), make_channel()) == dict.fromkeys(BOTH, 5)


@pytest.mark.parametrize(("imposed", "bound"), [(None, 50), (20, 20)])
def test_what_is_imposed_takes_the_place_of_what_was_asked(imposed: int | None, bound: int) -> None:
    asked = msgspec.structs.replace(order(max_tokens=50), imposed_limit=imposed)
    assert sent(asked, make_channel(provider="openai")) == {"max_completion_tokens": bound}


@pytest.mark.parametrize("field", NAMES)
@pytest.mark.parametrize(
    ("value", "bound"), [(5, 5), (50, 50), (500, 50), (-1, 50), ("many", 50), (None, 50), (True, 50)]
)
def test_a_rule_may_shorten_the_bound_in_either_field(field: str, value: object, bound: int) -> None:
    """It never makes it longer, wherever it is written."""
    channel = make_channel(shaping=Shaping(params=FieldRules(set={field: value})))
    assert sent(order(max_tokens=50), channel) == dict.fromkeys(BOTH, bound)
    assert sent(msgspec.structs.replace(order(), imposed_limit=50), channel) == dict.fromkeys(BOTH, bound)


@pytest.mark.parametrize("field", NAMES)
def test_a_default_is_for_customers_who_named_none(field: str) -> None:
    """It is shorter than what is imposed on them, and does not touch what others asked for."""
    channel = make_channel(provider="openai", shaping=Shaping(params=FieldRules(default={field: 5})))
    assert sent(order(max_tokens=50), channel) == {"max_completion_tokens": 50}
    assert sent(msgspec.structs.replace(order(), imposed_limit=50), channel) == {"max_completion_tokens": 5}


def test_without_a_bound_none_is_sent() -> None:
    assert sent(order(max_tokens=None), make_channel()) == {}


@pytest.mark.parametrize(
    ("budget", "sent_budget"), [(30_000, 9), (30_000.0, 9), (-1, 9), ("30000", 9), (5, 5), (0, 0), (None, None)]
)
def test_what_a_model_may_think_is_no_longer_than_its_answer(budget: Any, sent_budget: int | None) -> None:
    asked = order(max_completion_tokens=9, enable_thinking=True, thinking_budget=budget)
    call = Lines(VendorTransport(), SandboxTransport()).call(
        asked, Pick(channel := make_channel(provider="dashscope"), channel.ways[0])
    )[1]
    assert msgspec.json.decode(call.body)["thinking_budget"] == sent_budget


@pytest.mark.parametrize("character", ["\u0fb9", "\u0958", "\U0001d160", "\u0f43"])
def test_a_prompt_that_grows_when_it_is_composed_is_held_for_as_it_grows(character: str) -> None:
    """Qwen's tokenizer composes first: of three bytes it makes six tokens."""
    text = character * 1000
    asked = order(messages=[{"role": "user", "content": text}])
    assert asked.input_bound >= len(normalize("NFC", text).encode()) > len(text.encode())
    decomposed = normalize("NFD", "é" * 1000)  # which shrinks
    assert order(messages=[{"role": "user", "content": decomposed}]).input_bound < 2 * len(decomposed.encode())
