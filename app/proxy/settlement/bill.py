"""What a request comes to: for the customer at the sale price, for the reseller at each channel's cost. Pure, but for
the count of tokens where the vendor sent no usage."""

import logging

import msgspec

from app.base.receipt import Attempt, Policy, Usage, UsageSource
from app.base.tokens import TOKENS_PER_TEXT, count_tokens
from app.catalog.pricing import Cost, Sale, amount_nano
from app.catalog.records import Channel
from app.proxy.records import Delivered, Order, Try
from app.proxy.settlement.policies import Policies

__all__ = ["Bill", "make_bill"]

log = logging.getLogger("tollgate.settlement")

_BYTES_A_TOKEN = 4  # of English; only where the tokenizer fails
_PROMPT_UNKNOWN = 1  # tokens: up to here, a prompt that is not final is none


class Bill(msgspec.Struct, frozen=True):
    """`usage` is what the customer is charged for, `cost_nano` the sum of all attempts' costs."""

    usage: Usage
    source: UsageSource
    policy: Policy
    amount_nano: int
    cost_nano: int
    attempts: tuple[Attempt, ...]


async def make_bill(order: Order, delivered: Delivered, sale: Sale, policies: Policies) -> Bill:
    """A request that no channel answered is free, whatever its attempts cost; so are all attempts but the last."""
    policy = policies.of(delivered.ending, has_usage=delivered.usage is not None)
    if delivered.channel is None:
        attempts = _attempts(delivered.tries, None)
        return Bill(Usage(), "none", "free", 0, _cost(attempts), attempts)
    taken: Usage | None = delivered.usage
    source: UsageSource = "upstream"
    if taken is None:
        taken, source = await _estimate(order, delivered.output), "estimated"
    elif not delivered.is_usage_final:
        taken, source = await _at_least_the_text(order, delivered.output, taken)
    charged = taken
    if policy == "delivered" and delivered.delivered_letters is not None:
        charged, source = await _reached(taken, delivered), "estimated"
    attempts = _attempts(delivered.tries, taken, shown=charged)
    amount = 0 if policy == "free" else amount_nano(sale.prices, charged, sale.multiplier)
    return Bill(charged, source, policy, amount, _cost(attempts), attempts)


async def _estimate(order: Order, output: str) -> Usage:
    prompt = await _count(order.prompt) + TOKENS_PER_TEXT * len(order.prompt)
    return Usage(input_tokens=min(prompt, order.input_bound), output_tokens=await _count((output,)))


async def _at_least_the_text(order: Order, output: str, said: Usage) -> tuple[Usage, UsageSource]:
    """A count that is not the vendor's last word, or what the text comes to where that is more. Vendors that do not
    know a prompt yet say 0 or 1."""
    counted = await _estimate(order, output)
    input_tokens = said.input_tokens
    if input_tokens <= _PROMPT_UNKNOWN:
        input_tokens = max(input_tokens, counted.input_tokens)
    output_tokens = max(said.output_tokens, counted.output_tokens)
    if (input_tokens, output_tokens) == (said.input_tokens, said.output_tokens):
        return said, "upstream"
    return msgspec.structs.replace(said, input_tokens=input_tokens, output_tokens=output_tokens), "estimated"


async def _reached(taken: Usage, delivered: Delivered) -> Usage:
    """The part of `taken` that the customer was sent: the whole prompt, and so much of the answer's text."""
    output = min(taken.output_tokens, await _count((delivered.output[: delivered.delivered_letters],)))
    return msgspec.structs.replace(
        taken,
        output_tokens=output,
        reasoning_tokens=min(taken.reasoning_tokens, output),
        audio_output_tokens=min(taken.audio_output_tokens, output),
        image_output_tokens=min(taken.image_output_tokens, output),
    )


async def _count(texts: tuple[str, ...]) -> int:
    try:
        return await count_tokens(texts)
    except Exception:  # a hold must end whatever a text does to the tokenizer
        log.exception("tokens could not be counted: their number is taken from the bytes")
        return sum(-(-len(text.encode(errors="replace")) // _BYTES_A_TOKEN) for text in texts)


def _attempts(tries: tuple[Try, ...], taken: Usage | None, shown: Usage | None = None) -> tuple[Attempt, ...]:
    """`taken` is the last one's usage, where that one served; told again only where the customer is shown another."""
    last = len(tries) - 1
    return tuple(
        _attempt(each, taken, taken != shown)
        if index == last and taken is not None
        else _attempt(each, each.usage, each.usage is not None)
        for index, each in enumerate(tries)
    )


def _attempt(made: Try, usage: Usage | None, is_told: bool) -> Attempt:
    cost = _cost_of(made.channel, made.model)
    cost_nano = 0 if usage is None or cost is None else amount_nano(cost.prices, usage)
    return Attempt(
        channel_id=made.channel.id,
        http_status=made.http_status,
        error=made.error,
        duration_ms=made.duration_ms,
        cost_nano=cost_nano,
        cost_version=None if cost is None or usage is None else cost.version,
        usage=usage if is_told else None,
    )


def _cost_of(channel: Channel, model: str) -> Cost | None:
    return channel.costs.get(channel.models.get(model, ""))


def _cost(attempts: tuple[Attempt, ...]) -> int:
    return sum(attempt.cost_nano for attempt in attempts)
