"""The made-up world: four vendors, their bad hours, and the customers of a day. Pure, and the same for a seed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import msgspec

MINUTES = 30
DAY_MS = MINUTES * 60_000
_MEAN_A_SECOND = 10.0
_SWING = 0.7  # of the daily curve: the busiest moment has (1 + this) times the mean
_TURNS_MEAN = 5
_PAUSE_MS = (3_000, 40_000)  # between two turns of a conversation
_FIRST_TOKENS, _TURN_TOKENS = (300, 3_000), (150, 800)
_OUTPUT_TOKENS = (40, 600)
CACHE_MS = 5 * 60_000  # how long a vendor remembers a prompt
_SPREAD = 0.35  # of the logarithm of first-content times


class Trouble(msgspec.Struct, frozen=True):
    """`slower`: times its usual first content; None: it fails every request, after `FAILS_AFTER_MS`."""

    start_ms: int
    end_ms: int
    slower: float | None


FAILS_AFTER_MS = 60


class Vendor(msgspec.Struct, frozen=True, kw_only=True):
    """`first_ms` is the median time to first content with nothing in flight, which grows by a half when `room` are;
    `token_ms` the time of each token after it. Prices are USD per million tokens."""

    name: str
    weight: int
    first_ms: float
    token_ms: float
    room: int
    input: float
    cached_input: float
    output: float
    trouble: Trouble | None = None

    def is_down(self, at_ms: int) -> bool:
        return self._troubled(at_ms) and self.trouble is not None and self.trouble.slower is None

    def expected_ms(self, at_ms: int, in_flight: int) -> float:
        """Mean time to first content; of a lognormal it is more than the median."""
        slower = (self.trouble.slower or 1.0) if self._troubled(at_ms) and self.trouble else 1.0
        return self.first_ms * slower * (1 + in_flight / self.room / 2) * math.exp(_SPREAD**2 / 2)

    def usd(self, request: Request, *, is_cached: bool) -> float:
        cached = request.shared_tokens if is_cached else 0
        tokens_usd = (request.input_tokens - cached) * self.input + cached * self.cached_input
        return (tokens_usd + request.output_tokens * self.output) / 1e6

    def _troubled(self, at_ms: int) -> bool:
        return self.trouble is not None and self.trouble.start_ms <= at_ms < self.trouble.end_ms


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of a conversation; `shared_tokens` of its prompt were in the turn before. `chance` is the luck that all
    vendors would have with it, so that strategies differ by their choices alone."""

    number: int
    at_ms: int
    conversation: int
    input_tokens: int
    shared_tokens: int
    output_tokens: int
    chance: float

    def first_ms(self, vendor: Vendor, in_flight: int) -> int:
        mean = vendor.expected_ms(self.at_ms, in_flight) * math.exp(-(_SPREAD**2) / 2)
        return max(1, round(mean * math.exp(_SPREAD * self.chance)))


VENDORS = (
    Vendor(name="north", weight=4, first_ms=320, token_ms=12, room=60, input=2.50, cached_input=1.25, output=10.0),
    Vendor(
        name="south",
        weight=3,
        first_ms=460,
        token_ms=14,
        room=50,
        input=1.20,
        cached_input=0.30,
        output=5.0,
        trouble=Trouble(8 * 60_000, 11 * 60_000, None),
    ),
    Vendor(
        name="east",
        weight=2,
        first_ms=210,
        token_ms=8,
        room=40,
        input=3.00,
        cached_input=0.75,
        output=12.0,
        trouble=Trouble(17 * 60_000, 21 * 60_000, 6.0),
    ),
    Vendor(name="west", weight=1, first_ms=640, token_ms=18, room=40, input=1.60, cached_input=0.40, output=6.5),
)


def requests(seed: int) -> list[Request]:
    """Those of a day, by time: few in the night, most in the evening."""
    rng = random.Random(seed)
    turns = [turn for start_ms in _starts(rng) for turn in _conversation(rng, start_ms)]
    turns.sort(key=lambda turn: turn.at_ms)
    return [msgspec.structs.replace(turn, number=number) for number, turn in enumerate(turns)]


def _starts(rng: random.Random) -> Iterator[int]:
    """A Poisson process, thinned to the daily curve."""
    busiest = _MEAN_A_SECOND / _TURNS_MEAN * (1 + _SWING)
    at_ms = 0.0
    while (at_ms := at_ms + rng.expovariate(busiest) * 1000) < DAY_MS:
        share = (1 - _SWING * math.cos(2 * math.pi * at_ms / DAY_MS)) / (1 + _SWING)
        if rng.random() < share:
            yield round(at_ms)


def _conversation(rng: random.Random, at_ms: int) -> Iterator[Request]:
    """Turns until it is over; each prompt is all that was said before, and some more."""
    tokens, shared = rng.randint(*_FIRST_TOKENS), 0
    number = rng.getrandbits(48)
    while at_ms < DAY_MS:
        output = rng.randint(*_OUTPUT_TOKENS)
        yield Request(
            number=0,
            at_ms=at_ms,
            conversation=number,
            input_tokens=tokens,
            shared_tokens=shared,
            output_tokens=output,
            chance=rng.gauss(0.0, 1.0),
        )
        if rng.random() < 1 / _TURNS_MEAN:
            return
        shared = tokens
        tokens += output + rng.randint(*_TURN_TOKENS)
        at_ms += rng.randint(*_PAUSE_MS)
