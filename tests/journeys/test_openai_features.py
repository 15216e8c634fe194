"""Tools, pictures and schemas pass through the gateway as client and vendor wrote them."""

from decimal import Decimal
from typing import Any

from tests.answers import Answer, ToolCall
from tests.behaviours import answers
from tests.operator_api import charge
from tests.shop import MESSAGES, Shop

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALLS = Answer(
    pieces=(),
    prompt_tokens=60,
    completion_tokens=31,
    tool_calls=(
        ToolCall("get_weather", ('{"ci', 'ty": "Zü', 'rich"}')),
        ToolCall("get_weather", ('{"city"', ': "東京"}')),
    ),
)


def test_tool_calls_come_back_with_their_arguments(shop: Shop) -> None:
    """Tools go to the vendor untouched, and its calls come back as they were, arguments as a string."""
    vendor = shop.vendor(answers(CALLS))
    model = shop.model(vendor)
    customer = shop.customer()

    raw = customer.openai().chat.completions.with_raw_response.create(
        model=model, messages=MESSAGES, tools=[TOOL], tool_choice="auto", parallel_tool_calls=True
    )
    choice = raw.parse().choices[0]

    assert choice.finish_reason == "tool_calls"
    assert [call.function.arguments for call in choice.message.tool_calls] == [
        call.arguments for call in CALLS.tool_calls
    ]
    sent = vendor.requests[0].json
    assert (sent["tools"], sent["tool_choice"], sent["parallel_tool_calls"]) == ([TOOL], "auto", True)
    receipt = shop.assert_paid_once(customer, raw.headers["x-request-id"])
    assert receipt["finish_reason"] == "tool_calls"


def test_streamed_tool_calls_keep_their_index_and_their_pieces(shop: Shop) -> None:
    """Deltas arrive in pieces, told apart by index; the finish comes only after the last of them."""
    model = shop.model(shop.vendor(answers(CALLS)))
    customer = shop.customer()
    request = {"model": model, "messages": MESSAGES, "tools": [TOOL]}

    raw = customer.openai().chat.completions.with_raw_response.create(**request, stream=True)
    deltas = [chunk.choices[0] for chunk in raw.parse()]
    with customer.openai().chat.completions.stream(**request) as stream:
        gathered = stream.get_final_completion().choices[0]

    pieces: dict[int, list[str]] = {}
    for choice in deltas:
        for call in choice.delta.tool_calls or []:
            pieces.setdefault(call.index, []).append(call.function.arguments)
    assert pieces == {i: ["", *call.pieces] for i, call in enumerate(CALLS.tool_calls)}
    assert [choice.finish_reason for choice in deltas] == [None] * (len(deltas) - 1) + ["tool_calls"]
    assert [call.function.arguments for call in gathered.message.tool_calls] == [
        call.arguments for call in CALLS.tool_calls
    ]
    receipt = shop.operator.wait_receipt(raw.headers["x-request-id"])
    assert (receipt["finish_reason"], receipt["usage"]["output_tokens"]) == ("tool_calls", 31)
    assert Decimal(receipt["amount"]) == charge({"input": "2.50", "output": "10.00"}, receipt["usage"])


def test_a_tool_conversation_goes_on(shop: Shop) -> None:
    """The assistant's call and the tool's result travel to the vendor as the client wrote them."""
    vendor = shop.vendor()
    model = shop.model(vendor)
    call = {"id": "call_0", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_0", "content": "12 °C, rain"},
    ]

    shop.customer().openai().chat.completions.create(model=model, messages=messages, tools=[TOOL])

    assert vendor.requests[0].json["messages"] == messages


def test_vision_parts_reach_the_vendor_untouched(shop: Shop) -> None:
    """Text and image parts, by URL and inline, with their detail, are the vendor's to read."""
    vendor = shop.vendor()
    model = shop.model(vendor)
    customer = shop.customer()
    inline = "data:image/png;base64," + "iVBORw0KGgo" * 2000
    parts = [
        {"type": "text", "text": "这张图片里有什么"},
        {"type": "image_url", "image_url": {"url": "https://example.com/image.jpg", "detail": "high"}},
        {"type": "image_url", "image_url": {"url": inline}},
    ]
    messages = [{"role": "user", "content": parts}]

    raw = customer.openai().chat.completions.with_raw_response.create(model=model, messages=messages, max_tokens=300)

    assert vendor.requests[0].json["messages"] == messages
    assert vendor.requests[0].json["max_completion_tokens"] == 300, "OpenAI reads the bound there"
    shop.assert_paid_once(customer, raw.headers["x-request-id"])


def test_a_json_schema_reaches_the_vendor_and_its_json_comes_back(shop: Shop) -> None:
    """`response_format` with a schema is passed on as it is; the answer parses."""
    vendor = shop.vendor(answers(Answer(pieces=('{"city":', ' "Zürich"}'))))
    model = shop.model(vendor)
    customer = shop.customer()
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    response_format: Any = {
        "type": "json_schema",
        "json_schema": {"name": "place", "strict": True, "schema": schema},
    }

    raw = customer.openai().chat.completions.with_raw_response.create(
        model=model, messages=MESSAGES, response_format=response_format
    )

    assert raw.parse().choices[0].message.content == '{"city": "Zürich"}'
    assert vendor.requests[0].json["response_format"] == response_format
    shop.assert_paid_once(customer, raw.headers["x-request-id"])
