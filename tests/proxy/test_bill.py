"""What a request comes to: the vendor's count, else an honest estimate; nothing where nobody served it."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from app.base.receipt import Ending, Extras, Policy, Usage
from app.catalog.pricing import Cost, Prices, Sale
from app.proxy.records import Delivered, MediaPart, Order, Try
from app.proxy.settlement.bill import Bill, make_bill
from app.proxy.settlement.estimate import media_tokens
from app.proxy.settlement.policies import Policies, status_of
from tests.proxy.makers import make_channel, order

SALE = Sale("prc_1", Prices(input=1_000_000, output=10_000_000, cached_input=0, request=5))
COST = Cost("prc_2", Prices(input=500_000, output=2_000_000))
CHANNEL = make_channel(costs={"vendor-small": COST})
OTHER = make_channel("chn_2", costs={"vendor-small": COST})
USAGE = Usage(input_tokens=10, output_tokens=3, cached_input_tokens=4)


def served_by(channel: Any = CHANNEL, **fields: Any) -> Try:
    return Try(channel=channel, model="small", **{"http_status": 200, "error": None, "duration_ms": 7} | fields)


def _delivered(**fields: Any) -> Delivered:
    values: dict[str, Any] = {
        "ending": "finished",
        "http_status": 200,
        "channel": CHANNEL,
        "tries": (served_by(),),
        "usage": USAGE,
        "finish_reason": "stop",
    }
    return Delivered(**values | fields)


async def _bill(asked: Order | None = None, policies: Policies | None = None, bound: int = 4096, **fields: Any) -> Bill:
    return await make_bill(asked or order(), _delivered(**fields), SALE, policies or Policies(), bound)


async def test_the_vendors_usage_at_the_sale_price_and_at_cost() -> None:
    """The customer pays our prices; the channel costs its own, under the name of its upstream model."""
    bill = await _bill()
    assert (bill.usage, bill.source, bill.policy) == (USAGE, "upstream", "full")
    assert (bill.amount_nano, bill.cost_nano) == (6 + 30 + 5, 5 + 6)
    (attempt,) = bill.attempts
    assert (attempt.cost_nano, attempt.cost_version, attempt.usage) == (11, "prc_2", None)


async def test_no_usage_is_charged_beyond_the_bound() -> None:
    """900,000,000 tokens for ten: ten are charged, and the receipt's usage says so; what the vendor says stands on the
    attempt and is what it costs."""
    absurd = Usage(input_tokens=10, output_tokens=900_000_000, reasoning_tokens=450_000_000)
    bill = await _bill(order(max_tokens=10), bound=10, usage=absurd)
    assert bill.usage == Usage(input_tokens=10, output_tokens=10, reasoning_tokens=5)
    assert (bill.amount_nano, bill.source) == (10 + 100 + 5, "upstream")
    assert bill.excess == "900000000 output tokens where at most 10 were possible"
    (attempt,) = bill.attempts
    assert (attempt.usage, attempt.cost_nano) == (absurd, 5 + 900_000_000 * 2)


async def test_a_prompt_is_charged_up_to_its_bound() -> None:
    """Its classes keep their shares of it."""
    asked = order()
    whole = asked.input_bound * 4
    usage = Usage(
        input_tokens=whole,
        output_tokens=3,
        cached_input_tokens=whole // 2,
        cache_write_tokens=whole // 4,
        cache_write_1h_tokens=whole // 4,
    )
    bill = await _bill(asked, usage=usage)
    bound = asked.input_bound
    assert bill.usage == Usage(
        input_tokens=bound,
        output_tokens=3,
        cached_input_tokens=bound // 2,
        cache_write_tokens=bound // 4,
        cache_write_1h_tokens=bound // 4,
    )
    assert bill.excess == f"{whole} input tokens where at most {bound} were possible"


async def test_text_beyond_the_limit_is_not_charged() -> None:
    """Forty thousand tokens for ten, and no usage: ten tokens' worth."""
    bill = await _bill(order(max_tokens=10), bound=10, usage=None, output="word " * 40_000)
    assert (bill.usage.output_tokens, bill.source) == (10, "estimated")
    assert bill.amount_nano == bill.usage.input_tokens + 100 + 5
    assert bill.excess is not None
    assert bill.excess.endswith("output tokens where at most 10 were possible")


async def test_an_answer_that_was_ended_at_its_limit_is_charged_as_it_was_delivered() -> None:
    """One event may have had more in it than the limit allows: nothing was sent then."""
    bill = await _bill(order(max_tokens=10), bound=10, usage=None, output="word " * 400, delivered_letters=0)
    assert (bill.usage.output_tokens, bill.policy) == (0, "full")


@pytest.mark.parametrize("ending", ["finished", "out_of_credit", "client_gone", "cut"])
async def test_whatever_goes_beyond_the_bound_is_told(ending: Any) -> None:
    """Every answer has a bound that its vendor was told, or that its model declares: by the vendor's own count or ours,
    beyond is beyond."""
    assert (await _bill(bound=10, ending=ending, usage=None, output="word " * 100)).excess is not None
    assert (await _bill(bound=10, ending=ending, usage=Usage(input_tokens=10, output_tokens=11))).excess is not None
    assert (await _bill(bound=10, ending=ending, usage=Usage(input_tokens=10, output_tokens=10))).excess is None


EXTRA_SALE = Sale(
    "prc_1",
    Prices(input=1_000_000, output=10_000_000, service_tiers={"priority": 2_000_000}, fields={"plugins": 1_000}),
)


@pytest.mark.parametrize(
    ("asked", "served", "charged", "amount"),
    [
        ({}, "default", None, 40),
        ({}, "unheard-of", "unheard-of", 40),
        ({}, "priority", None, 40),
        ({"service_tier": "priority"}, "priority", "priority", 80),
        ({"service_tier": "priority"}, None, None, 40),
        ({"service_tier": "priority", "fields": ("plugins",)}, "priority", "priority", 1_080),
        ({"fields": ("plugins",)}, None, None, 1_040),
    ],
)
async def test_the_tier_that_was_served_is_charged(
    asked: dict[str, Any], served: str | None, charged: str | None, amount: int
) -> None:
    """Unless nobody asked for it; what the vendor takes for it stands on the attempt then."""
    asking = msgspec.structs.replace(order(), extras=Extras(**asked))
    cost = Cost("prc_2", Prices(input=500_000, output=2_000_000, service_tiers={"priority": 3_000_000}))
    channel = make_channel(costs={"vendor-small": cost}, priced_fields={"service_tier": "pass", "plugins": "pass"})
    delivered = _delivered(channel=channel, tries=(served_by(channel),), service_tier=served)
    bill = await make_bill(asking, delivered, EXTRA_SALE, Policies(), 4096)
    assert (bill.extras.service_tier, bill.extras.fields) == (charged, asked.get("fields", ()))
    assert bill.amount_nano == amount
    assert bill.cost_nano == (33 if served == "priority" else 11)
    is_beyond = served == "priority" and not asked
    assert (bill.attempts[0].extras is not None) == (bill.excess is not None) == is_beyond


async def test_what_a_channel_drops_is_not_charged() -> None:
    """The vendor never saw it."""
    asking = msgspec.structs.replace(order(), extras=Extras(service_tier="priority", fields=("plugins",)))
    bill = await make_bill(asking, _delivered(service_tier="priority"), EXTRA_SALE, Policies(), 4096)
    assert (bill.amount_nano, bill.extras.fields, bill.extras.service_tier) == (40, (), None)


async def test_pictures_count_where_the_vendor_sends_no_usage() -> None:
    """1,105 tokens each."""
    asked = _with_media([MediaPart("image", "messages[0].content[0]")] * 2, 2 * 48_169)
    bill = await _bill(asked, usage=None, output="A cat.")
    assert 2 * 1_105 <= bill.usage.input_tokens < 2 * 1_105 + 50


async def test_who_leaves_early_pays_the_most_for_pictures() -> None:
    """Nobody knows what the vendor took: who leaves chooses when, and could have stayed."""
    asked = _with_media([MediaPart("image", "messages[0].content[0]")] * 2, 2 * 48_169)
    left = await _bill(asked, ending="client_gone", usage=None, output="A cat.")
    early = await _bill(asked, ending="client_gone", usage=Usage(input_tokens=2), is_usage_final=False, output="A cat.")
    assert left.usage == early.usage
    assert 2 * 48_169 <= left.usage.input_tokens < 2 * 48_169 + 50


def _with_media(parts: Sequence[MediaPart], held: int) -> Order:
    asked = order()
    return msgspec.structs.replace(asked, media=tuple(parts), media_tokens=held, input_bound=asked.input_bound + held)


@pytest.mark.parametrize(
    ("parts", "held", "tokens"),
    [
        ([], 0, 0),
        ([MediaPart("image", "a")], 48_169, 1_105),
        ([MediaPart("image", "a"), MediaPart("image", "b", detail="low")], 1_190, 1_190),
        ([MediaPart("audio", "a", 10_241)], 10_241, 11),
        ([MediaPart("audio", "a")], 3_000, 3_000),
        ([MediaPart("image", "a"), MediaPart("file", "b", 500)], 4_000, 4_000),
    ],
)
def test_what_media_usually_take(parts: list[MediaPart], held: int, tokens: int) -> None:
    """Never more than was held; what nobody can guess takes that."""
    assert media_tokens(_with_media(parts, held)) == tokens


async def test_a_book_multiplies_the_sale_and_not_the_cost() -> None:
    """41 nano x 1.5 is 61.5, rounded half up once; what the vendor takes is what it takes."""
    bill = await make_bill(order(), _delivered(), Sale("prc_1", SALE.prices, 1_500_000), Policies(), 4096)
    assert (bill.amount_nano, bill.cost_nano) == (62, 11)


async def test_a_request_that_nobody_served_is_free() -> None:
    """Not even the price of a request is due."""
    bill = await _bill(channel=None, usage=None, ending="failed", tries=(served_by(error="empty answer"),))
    assert (bill.usage, bill.source, bill.policy, bill.amount_nano, bill.cost_nano) == (Usage(), "none", "free", 0, 0)


async def test_attempts_that_failed_cost_the_reseller_alone() -> None:
    """A vendor that charged for nothing is on the receipt with its cost; the customer pays the one that served."""
    empty = served_by(OTHER, error="empty answer", usage=Usage(input_tokens=10, output_tokens=0))
    bill = await _bill(tries=(empty, served_by()))
    assert bill.amount_nano == 41
    assert [(each.channel_id, each.cost_nano, each.usage) for each in bill.attempts] == [
        ("chn_2", 5, Usage(input_tokens=10)),
        ("chn_1", 11, None),
    ]
    assert bill.cost_nano == 16


async def test_all_failed_may_still_have_cost_something() -> None:
    bill = await _bill(
        channel=None,
        ending="failed",
        usage=None,
        tries=(served_by(error="empty answer", usage=USAGE), served_by(OTHER, error="timeout")),
    )
    assert (bill.amount_nano, bill.cost_nano) == (0, 11)
    assert [each.cost_nano for each in bill.attempts] == [11, 0]


async def test_an_explicit_zero_is_not_estimated() -> None:
    """A vendor that says zero means zero: only the price of a request is due."""
    bill = await _bill(usage=Usage(), output="many words")
    assert (bill.source, bill.amount_nano) == ("upstream", 5)


async def test_without_usage_it_is_counted_here() -> None:
    """Prompt and output, by an offline vocabulary; the receipt says so."""
    asked = order(messages=[{"role": "user", "content": "Count to three, please."}])
    bill = await _bill(asked, usage=None, output="one two three")
    assert bill.source == "estimated"
    assert bill.usage.output_tokens == 3
    assert 6 <= bill.usage.input_tokens <= 12
    assert bill.amount_nano == bill.usage.input_tokens + 30 + 5


async def test_an_estimate_stays_within_what_was_held() -> None:
    """Many tiny messages: the allowance for each is no reason to pass the bound of the prompt."""
    asked = order(messages=[{"role": "user", "content": "a"}] * 50)
    bill = await _bill(asked, usage=None)
    assert bill.usage.input_tokens <= asked.input_bound


async def test_special_tokens_in_a_text_are_plain_text() -> None:
    """A customer who writes <|endoftext|> breaks nothing."""
    asked = order(messages=[{"role": "user", "content": "<|endoftext|>"}])
    bill = await _bill(asked, usage=None, output="<|im_start|>")
    assert bill.usage.output_tokens > 1


EARLY_ENDINGS: list[Ending] = ["cut", "client_gone", "interrupted", "out_of_credit", "finished"]


@pytest.mark.parametrize("ending", EARLY_ENDINGS)
@pytest.mark.parametrize("said", [0, 1, 2, 7])
async def test_a_usage_on_the_way_is_not_the_last_word(ending: Ending, said: int) -> None:
    """A vendor that says next to nothing until its stream ends: the text is charged, prompt and answer, and so is its
    cost."""
    words = "one two three" + " four" * 27
    asked = order(messages=[{"role": "user", "content": "count on " * 20}])
    early = Usage(input_tokens=said, output_tokens=said)
    bill = await _bill(asked, ending=ending, usage=early, is_usage_final=False, output=words)
    assert (bill.source, bill.usage.output_tokens) == ("estimated", 30)
    assert bill.usage.input_tokens > 40
    assert bill.amount_nano == bill.usage.input_tokens + 300 + 5
    assert bill.cost_nano == -(-bill.usage.input_tokens // 2) + 60


async def test_a_usage_on_the_way_that_says_more_than_the_text_stands() -> None:
    """Few letters may be many tokens, and reasoning is not in the text at all."""
    early = Usage(input_tokens=10, output_tokens=30, reasoning_tokens=20)
    bill = await _bill(ending="cut", usage=early, is_usage_final=False, output="one two three")
    assert (bill.source, bill.usage) == ("upstream", early)


async def test_a_missing_completion_keeps_the_vendors_prompt() -> None:
    """The answer is counted here, and the receipt says so."""
    bill = await _bill(
        usage=Usage(input_tokens=10, cached_input_tokens=4), is_usage_final=False, output="one two three"
    )
    assert (bill.source, bill.usage) == (
        "estimated",
        Usage(input_tokens=10, output_tokens=3, cached_input_tokens=4),
    )


async def test_a_channel_without_costs_costs_nothing() -> None:
    bare = make_channel()
    bill = await _bill(channel=bare, tries=(served_by(bare),))
    assert (bill.amount_nano, bill.cost_nano) == (41, 0)


ENDINGS: list[tuple[Ending, str]] = [
    ("cut", "cut"),
    ("client_gone", "client_gone"),
    ("interrupted", "interrupted"),
    ("out_of_credit", "out_of_credit"),
]


@pytest.mark.parametrize(("ending", "setting"), ENDINGS)
@pytest.mark.parametrize(
    ("policy", "output_tokens", "amount"),
    [("full", 30, 6 + 300 + 5), ("delivered", 2, 6 + 20 + 5), ("free", 30, 0)],
)
async def test_each_ending_is_charged_by_its_policy(
    ending: Ending, setting: str, policy: Policy, output_tokens: int, amount: int
) -> None:
    """In full: what the vendor charges. Delivered: the prompt, and what the customer was sent. Its cost is the same."""
    bill = await _bill(
        policies=Policies(**{setting: policy}),
        ending=ending,
        usage=Usage(input_tokens=10, output_tokens=30, cached_input_tokens=4),
        output="one two" + " three" * 28,
        delivered_letters=len("one two"),
    )
    assert (bill.policy, bill.usage.output_tokens, bill.amount_nano) == (policy, output_tokens, amount)
    assert bill.cost_nano == 5 + 60
    told = bill.attempts[-1].usage
    assert told is None if policy != "delivered" else told is not None and told.output_tokens == 30


async def test_a_complete_answer_without_usage_can_be_free() -> None:
    policies = Policies(no_usage="free")
    assert (await _bill(policies=policies, usage=None, output="one two")).amount_nano == 0
    assert (await _bill(policies=policies)).amount_nano == 41


async def test_delivered_is_all_of_it_where_all_of_it_was_sent() -> None:
    """A stream that was cut had sent all that it read: the vendor's own count stands, where there is one."""
    bill = await _bill(ending="cut", delivered_letters=None)
    assert (bill.policy, bill.source, bill.amount_nano) == ("delivered", "upstream", 41)


def test_every_ending_has_a_status_that_the_contract_knows() -> None:
    endings: tuple[Ending, ...] = Ending.__args__  # type: ignore[attr-defined]
    assert {status_of(ending) for ending in endings} == {"ok", "failed", "cancelled", "expired"}
