"""The order in which the ways to a model are asked: within a priority, as the model's strategy has it. Pure."""

import math
import random
from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from app.base.receipt import Usage
from app.catalog.pricing import Prices, amount_nano
from app.catalog.records import Channel, Model, Strategy
from app.proxy.dispatch.pace import Pace
from app.proxy.dispatch.way import Way
from app.proxy.records import Order

__all__ = [
    "Candidate",
    "Need",
    "conversation_key",
    "estimate_nano",
    "is_crowded",
    "need_of",
    "rank",
    "shares",
]

_BYTES_A_TOKEN = 4
_OUTPUT_TOKENS = 500
# Of first-content times: those that are so near to the best share the traffic.
_NEAR_RATIO = 1.2
_NEAR_MS = 10
# A conversation moves on from a way with more than so many times its fair share in flight, and some more.
_CROWD_RATIO = 1.25
_CROWD_SLACK = 4
# A prompt's beginning is enough to know a conversation by.
_KEY_LETTERS = 4000


class Need(msgspec.Struct, frozen=True):
    """What a request is expected to take, in tokens."""

    input_tokens: int
    output_tokens: int

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A way, as one model uses it. `weight` is its part of its channel's; `prices` are None where nobody has said what
    it costs."""

    way: Way
    weight: float
    salt: bytes
    pace: Pace
    prices: Prices | None
    shares_channel: bool  # with other credentials

    @property
    def channel(self) -> Channel:
        return self.way.channel


def need_of(order: Order) -> Need:
    """Bytes bound the prompt's tokens; about four make one."""
    return Need(order.input_bound // _BYTES_A_TOKEN, order.answers * (order.output_limit or _OUTPUT_TOKENS))


def conversation_key(account_id: str, conversation: str | None, prompt: Sequence[str]) -> bytes:
    """What the requests of one conversation have in common: what the client named it by, else how it begins."""
    known_by = blake2b(account_id.encode(), digest_size=16)
    for text in prompt[:2] if conversation is None else (conversation,):
        known_by.update(b"\0" + text[:_KEY_LETTERS].encode("utf-8", "surrogatepass"))
    return known_by.digest()


def rank(
    candidates: Sequence[Candidate],
    model: Model,
    need: Need,
    key: bytes | None,
    now_ms: int,
    rng: random.Random,
) -> Sequence[Candidate]:
    """Best first; all are of one priority. With the `key` of a conversation, chance gives way to where it went before.

    What a strategy finds equal is shared by weight: sorting by -log(u)/weight draws without replacement (Efraimidis &
    Spirakis, 2006); with a hash of conversation and way as `u` it is weighted rendezvous hashing.
    """
    if len(candidates) == 1:
        return candidates
    if key is not None:
        draws = [_draw(_hashed(key, each.salt), each.weight) for each in candidates]
    else:
        draws = [_draw(1.0 - rng.random(), weight) for weight in shares(candidates)]
    strategy: Strategy = model.routing.strategy
    groups: list[float]
    match strategy:
        case "weighted":
            groups = _crowds(candidates) if key is not None else [0.0] * len(candidates)
        case "least_busy":
            groups = _crowds(candidates) if key is not None else [_busyness(each) for each in candidates]
        case "latency":
            groups = _delays([(each.pace.expected_ms(now_ms), each.pace.looks > 0) for each in candidates])
        case "cost":
            groups = [estimate_nano(each.prices, need) for each in candidates]
    order = sorted(range(len(candidates)), key=lambda i: (groups[i], draws[i]))
    return [candidates[i] for i in order]


def shares(candidates: Sequence[Candidate]) -> list[float]:
    """Weights, where a channel's part goes to those of its credentials that are here."""
    if not any(each.shares_channel for each in candidates):
        return [each.weight for each in candidates]
    present: dict[str, float] = {}
    for each in candidates:
        present[each.channel.id] = present.get(each.channel.id, 0.0) + each.weight
    return [each.weight * each.channel.weight / present[each.channel.id] if each.weight else 0.0 for each in candidates]


def estimate_nano(prices: Prices | None, need: Need) -> float:
    """What the request would cost there; without prices, more than anywhere else."""
    if prices is None:
        return math.inf
    if prices.tiers:
        return amount_nano(prices, Usage(input_tokens=need.input_tokens, output_tokens=need.output_tokens))
    tokens_nano = need.input_tokens * prices.input + need.output_tokens * prices.output
    return prices.request + tokens_nano / 1_000_000


def is_crowded(candidate: Candidate, in_flight: int, weights: float) -> bool:
    """It has more than its fair share of what is in flight over all that weigh `weights`."""
    fair = (in_flight + 1) * candidate.weight / weights if weights else 0.0
    return candidate.way.load.in_flight > _CROWD_RATIO * fair + _CROWD_SLACK


def _draw(u: float, weight: float) -> float:
    """Smaller comes first: an exponential variate with rate `weight`."""
    return -math.log(u) / weight if weight > 0 else math.inf


def _hashed(key: bytes, salt: bytes) -> float:
    """Over 0 and up to 1; the same in every process."""
    number = int.from_bytes(blake2b(key, key=salt, digest_size=8).digest(), "big")
    return (number + 1) / 2.0**64


def _crowds(candidates: Sequence[Candidate]) -> list[float]:
    in_flight = sum(each.way.load.in_flight for each in candidates)
    weights = sum(each.weight for each in candidates)
    return [1.0 if is_crowded(each, in_flight, weights) else 0.0 for each in candidates]


def _busyness(candidate: Candidate) -> float:
    return (candidate.way.load.in_flight + 1) / candidate.weight if candidate.weight else math.inf


def _delays(figures: Sequence[tuple[float | None, bool]]) -> list[float]:
    """One that nothing is known of comes first, but only for one request at a time."""
    best = min((known for known, _ in figures if known is not None), default=0.0)
    near = best * _NEAR_RATIO + _NEAR_MS
    return [
        (math.inf if is_looked_at else -1.0) if known is None else 0.0 if known <= near else known
        for known, is_looked_at in figures
    ]
