"""What a request comes to: the vendor's count, else an honest estimate; nothing where nobody served it."""

from typing import Any

from app.base.receipt import Usage
from app.catalog.pricing import Prices
from app.proxy.records import Delivered
from app.proxy.settlement.bill import Bill, make_bill
from tests.proxy.makers import make_channel, order

PRICES = Prices(input=1_000_000, output=10_000_000, cached_input=0, request=5)
CHANNEL = make_channel(costs={"vendor-small": Prices(input=500_000, output=2_000_000)})


def _delivered(**fields: Any) -> Delivered:
    values: dict[str, Any] = {
        "status": "ok",
        "http_status": 200,
        "channel": CHANNEL,
        "attempts": (),
        "usage": Usage(input_tokens=10, output_tokens=3, cached_input_tokens=4),
        "finish_reason": "stop",
    }
    return Delivered(**values | fields)


async def test_the_vendors_usage_at_the_sale_price_and_at_cost() -> None:
    """The customer pays our prices; the channel costs its own, under the name of its upstream model."""
    bill = await make_bill(order(), _delivered(), PRICES)
    assert bill == Bill(Usage(input_tokens=10, output_tokens=3, cached_input_tokens=4), "upstream", 6 + 30 + 5, 5 + 6)


async def test_a_request_that_nobody_served_is_free() -> None:
    """Not even the price of a request is due."""
    bill = await make_bill(order(), _delivered(channel=None, usage=None, status="failed"), PRICES)
    assert bill == Bill(Usage(), "none", 0, 0)


async def test_an_explicit_zero_is_not_estimated() -> None:
    """A vendor that says zero means zero: only the price of a request is due."""
    bill = await make_bill(order(), _delivered(usage=Usage(), output="many words"), PRICES)
    assert (bill.source, bill.amount_nano) == ("upstream", 5)


async def test_without_usage_it_is_counted_here() -> None:
    """Prompt and output, by an offline vocabulary; the receipt says so."""
    asked = order(messages=[{"role": "user", "content": "Count to three, please."}])
    bill = await make_bill(asked, _delivered(usage=None, output="one two three"), PRICES)
    assert bill.source == "estimated"
    assert bill.usage.output_tokens == 3
    assert 6 <= bill.usage.input_tokens <= 12
    assert bill.amount_nano == bill.usage.input_tokens + 30 + 5


async def test_an_estimate_stays_within_what_was_held() -> None:
    """Many tiny messages: the allowance for each is no reason to pass the bound of the prompt."""
    asked = order(messages=[{"role": "user", "content": "a"}] * 50)
    bill = await make_bill(asked, _delivered(usage=None), PRICES)
    assert bill.usage.input_tokens <= asked.input_bound


async def test_special_tokens_in_a_text_are_plain_text() -> None:
    """A customer who writes <|endoftext|> breaks nothing."""
    asked = order(messages=[{"role": "user", "content": "<|endoftext|>"}])
    bill = await make_bill(asked, _delivered(usage=None, output="<|im_start|>"), PRICES)
    assert bill.usage.output_tokens > 1


async def test_a_channel_without_costs_costs_nothing() -> None:
    bill = await make_bill(order(), _delivered(channel=make_channel()), PRICES)
    assert (bill.amount_nano, bill.cost_nano) == (41, 0)
