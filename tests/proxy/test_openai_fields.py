"""Fields beside the messages: those that only look like ours, and those that have a price of their own."""

from typing import Any

import msgspec
import pytest

from app.base.errors import InvalidField
from app.base.priced_fields import LEFT_OUT_FOR, PRICED_FIELDS
from app.base.receipt import NO_EXTRAS, Extras
from app.catalog.records import Channel, FieldRules, Shaping
from app.proxy.extras import (
    dropped_fields,
    passable_extras,
    passed_extras,
    refused_field,
    refusing_channels,
)
from app.proxy.records import Order, Pick
from app.proxy.relay.line import Lines
from app.proxy.relay.providers import PROVIDERS
from app.proxy.relay.sandbox import SandboxTransport
from app.proxy.relay.vendors import VendorTransport
from tests.proxy.makers import make_channel, order

OWN = {"type": "function", "function": {"name": "f"}}
CUSTOM = {"type": "custom", "custom": {"name": "g"}}
SEARCH = {"type": "web_search"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"Model": "dearer"}, "Model"),
        ({"N": 100}, "N"),
        ({"MAX_TOKENS": 5}, "MAX_TOKENS"),
        ({"\u017ftream": True}, "\u017ftream"),
        ({"max_to\u212aens": 5}, "max_to\u212aens"),
        ({"Service_Tier": "priority"}, "Service_Tier"),
        ({"serviceTier": "priority"}, "serviceTier"),
        ({"maxTokens": 90_000}, "maxTokens"),
        ({"best-of": 3}, "best-of"),
        ({"previousResponseId": "resp_1"}, "previousResponseId"),
        ({"Fallbacks": ["dearer"]}, "Fallbacks"),
        ({"PLUGINS": []}, "PLUGINS"),
        ({"stream_options": {"Include_Usage": False}}, "stream_options.Include_Usage"),
        ({"tools": [OWN, {"type": "function", "Type": "web_search"}]}, "tools[1].Type"),
    ],
)
def test_a_field_that_differs_in_case_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    """Go's JSON reader takes it for the real one, which was not what was read and priced here."""
    with pytest.raises(InvalidField) as refusal:
        order(**fields)
    assert refusal.value.param == param


@pytest.mark.parametrize(
    "tool",
    [
        {**OWN, "googleSearch": {}},
        {**OWN, "web_search": {"enable": True}},
        {**OWN, "custom": {"name": "g"}},
        {**CUSTOM, "function": {"name": "f"}},
        {**CUSTOM, "code_interpreter": {}},
    ],
)
def test_a_tool_has_nothing_beside_it_that_a_vendor_could_run(tool: dict[str, Any]) -> None:
    """Some vendors go by the names in a tool, not by its type."""
    (name,) = tool.keys() - {"type", tool["type"]}
    with pytest.raises(InvalidField) as refusal:
        order(tools=[OWN, tool])
    assert refusal.value.param == f"tools[1].{name}"


@pytest.mark.parametrize(
    "tool",
    [
        {**OWN, "cache_control": {"type": "ephemeral"}, "strict": True},
        {**OWN, "googleSearch": None},
        {"type": "function", "name": "f", "description": "Adds", "parameters": {}},
        {"type": "custom", "name": "g", "input_schema": {}},
    ],
)
def test_what_is_text_may_stand_beside_a_tool(tool: dict[str, Any]) -> None:
    asked = order(tools=[tool])
    assert asked.extras is NO_EXTRAS
    assert msgspec.json.decode(asked.body["tools"]) == [tool]


HARMLESS = (
    *("chat_template_kwargs", "thinking", "thinking_budget", "enable_thinking", "reasoning", "reasoning_format"),
    *("top_k", "top_a", "min_p", "min_tokens", "repetition_penalty", "stop_token_ids", "ignore_eos", "guided_json"),
    *("route", "usage", "include_reasoning", "documents", "safe_prompt", "random_seed", "session_id", "cache_prompt"),
    *("user_id", "metadata", "result_format", "grammar", "num_ctx", "return_citations", "functions", "cache_control"),
)


@pytest.mark.parametrize("name", HARMLESS)
def test_fields_that_cost_what_their_bytes_do_are_passed(name: str) -> None:
    asked = order(**{name: {"a": 1}})
    assert asked.extras is NO_EXTRAS
    assert name in written(asked, make_channel())


def test_of_two_keys_the_vendor_gets_the_one_that_was_read() -> None:
    tools = b'[{"type":"web_search","type":"function","function":{"name":"f"}}]'
    options = b'{"include_usage":false,"include_usage":true}'
    asked = order(
        b'{"model":"x","model":"small","messages":[{"role":"user","content":"Hi"}],"tools":%b,"stream_options":%b}'
        % (tools, options)
    )
    assert (asked.model, asked.wants_usage, asked.extras) == ("small", True, NO_EXTRAS)
    assert bytes(asked.body["tools"]) == b'[{"type":"function","function":{"name":"f"}}]'
    assert bytes(asked.body["stream_options"]) == b'{"include_usage":true}'


@pytest.mark.parametrize(
    ("fields", "extras"),
    [
        ({}, NO_EXTRAS),
        ({"service_tier": "priority"}, Extras(service_tier="priority")),
        ({"service_tier": "flex", "store": True}, Extras(service_tier="flex", fields=("store",))),
        ({"web_search_options": {}, "background": True}, Extras(fields=("background", "web_search_options"))),
        ({"tools": [OWN, CUSTOM]}, NO_EXTRAS),
        ({"tools": [OWN, SEARCH]}, Extras(fields=("tools",))),
        ({"tools": []}, NO_EXTRAS),
        ({"tools": None}, NO_EXTRAS),
    ],
)
def test_what_has_a_price_of_its_own_is_told(fields: dict[str, Any], extras: Extras) -> None:
    assert order(**fields).extras == extras


NOTHING = [{name: value} for name in PRICED_FIELDS for value in (None, False) if name not in ("tools", "service_tier")]


@pytest.mark.parametrize("fields", [*NOTHING, *({"service_tier": tier} for tier in ("default", "standard", None))])
def test_what_asks_for_nothing_is_left_out_silently(fields: dict[str, Any]) -> None:
    asked = order(**fields)
    assert asked.extras is NO_EXTRAS
    assert asked.body.keys() == {"model", "messages"}
    assert dropped_fields(asked, make_channel()) == ()


@pytest.mark.parametrize("value", [7, ["priority"], {"tier": "priority"}])
def test_a_service_tier_is_a_text(value: object) -> None:
    with pytest.raises(InvalidField) as refusal:
        order(service_tier=value)
    assert refusal.value.param == "service_tier"


def written(asked: Order, channel: Channel) -> dict[str, Any]:
    call = Lines(VendorTransport(), SandboxTransport()).call(asked, Pick(channel, channel.ways[0]))[1]
    sent: dict[str, Any] = msgspec.json.decode(call.body)
    return sent


def test_a_field_that_its_provider_refuses_is_not_priced() -> None:
    """It is left out for Mistral and Groq, and was charged for where the operator passes it."""
    known = {
        name: tuple(sorted(provider for provider, each in PROVIDERS.items() if name in each.refuses))
        for name in PRICED_FIELDS
    }
    assert {name: providers for name, providers in known.items() if providers} == LEFT_OUT_FOR
    channel = make_channel(provider="mistral", priced_fields={"store": "pass"})
    asked = order(store=True)
    assert passed_extras(asked, channel) == NO_EXTRAS
    assert dropped_fields(asked, channel) == ("store",)


ALL: dict[str, Any] = {name: {"x": 1} for name in PRICED_FIELDS} | {
    "service_tier": "priority",
    "tools": [OWN, SEARCH],
    "tool_choice": "auto",
}


def test_by_default_no_such_field_reaches_a_vendor() -> None:
    """Each is dropped, or the channel is not asked at all."""
    for name, action in PRICED_FIELDS.items():
        asked, channel = order(**{name: ALL[name]}), make_channel()
        if action == "refuse":
            assert refused_field(asked, [channel]) == name
            assert refusing_channels(asked, [channel]) == {"chn_1"}
        else:
            assert refused_field(asked, [channel]) is None
            assert dropped_fields(asked, channel) == (name,)
            assert name not in written(asked, channel)
        assert passed_extras(asked, channel) == NO_EXTRAS


def test_the_operator_decides_what_is_passed() -> None:
    channel = make_channel(priced_fields=dict.fromkeys(PRICED_FIELDS, "pass"))
    asked = order(**ALL)
    assert refused_field(asked, [channel]) is None
    assert passed_extras(asked, channel) == asked.extras
    sent = written(asked, channel)
    assert {name: sent[name] for name in ALL} == ALL


def test_of_dropped_tools_the_customers_own_stay() -> None:
    channel = make_channel(priced_fields={"tools": "drop"})
    sent = written(order(tools=[SEARCH, OWN, CUSTOM], tool_choice="auto"), channel)
    assert (sent["tools"], sent["tool_choice"]) == ([OWN, CUSTOM], "auto")
    sent = written(order(tools=[SEARCH], tool_choice="required", parallel_tool_calls=False), channel)
    assert sent.keys() == {"model", "messages"}


def test_a_rule_is_the_operators_word() -> None:
    """What it sets is sent, and what it drops was not passed on."""
    channel = make_channel(shaping=Shaping(params=FieldRules(set={"service_tier": "flex"})))
    assert written(order(service_tier="priority"), channel)["service_tier"] == "flex"
    channel = make_channel(
        priced_fields={"store": "pass", "plugins": "pass"}, shaping=Shaping(params=FieldRules(drop=("$.store",)))
    )
    asked = order(store=True, plugins=[{"id": "web"}])
    assert "store" not in written(asked, channel)
    assert passed_extras(asked, channel) == Extras(fields=("plugins",))


def test_a_hold_covers_what_one_channel_or_another_passes() -> None:
    asked = order(service_tier="priority", store=True, provider={"only": ["x"]})
    one = make_channel("chn_1", priced_fields={"service_tier": "pass"})
    other = make_channel("chn_2", priced_fields={"store": "pass", "service_tier": "refuse"})
    assert passable_extras(asked, [one, other]) == Extras(service_tier="priority", fields=("store",))
    assert refusing_channels(asked, [one, other]) == {"chn_2"}
    assert refused_field(asked, [one, other]) is None
    assert refused_field(asked, [other]) == "service_tier"
    assert dropped_fields(asked, one) == ("provider", "store")
