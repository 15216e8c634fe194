"""Whatever a hostile or sloppy vendor answers, nobody pays for more than was held: whole requests over a real relay, a
real wallet and a real settlement.

`HOSTILE_EXAMPLES` says how many answers are tried, `HOSTILE_SEED` which (any whole number).
"""

import json
import os
import re
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from app.base.errors import TollgateError
from app.base.guesses import Guesses
from app.base.ids import digest, new_id, new_key, new_request_id
from app.base.money import format_usd
from app.base.receipt import Receipt
from app.base.wire import Wire
from app.catalog.pricing import Prices
from app.catalog.records import Channel, Key, Model
from app.catalog.snapshot import build_snapshot
from app.proxy.access import Keyring
from app.proxy.admission import AdmissionDesk, Crowd
from app.proxy.journey import Headers, Journey, Visit
from app.proxy.records import Order, Plan
from app.proxy.relay import Relay
from app.proxy.relay.providers import count_like_openai
from app.proxy.relay.sandbox import SandboxTransport
from app.proxy.relay.vendors import VendorTransport
from app.proxy.settlement import Clerk, Leases, Policies, Spool, Unposted
from app.quota.gate import Admitted, Gate, Refused
from app.quota.rules import NO_TRACE, Rules
from app.quota.seats import Seats
from app.quota.slots import Slots
from tests.proxy.makers import body, ignore_budgets, make_key
from tests.proxy.plans import ListedPlan, channel_to
from tests.quota.till import LEASE_MS, SHARDS, Till
from tests.upstreams import Exchange, Street

EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "300"))
SEED = os.environ.get("HOSTILE_SEED")
PRICES = Prices(
    input=1_000_000_000,
    output=10_000_000_000,
    cached_input=100_000_000,
    cache_write=1_250_000_000,
    reasoning=12_000_000_000,
    service_tiers={"priority": 2_000_000, "flex": 500_000},
)
MODEL = Model(
    name="small",
    context_length=None,
    max_output_tokens=None,
    description="",
    fallbacks=(),
    prices=PRICES,
    price_version="prc_1",
    created_at_ms=0,
)

Json = dict[str, Any]
_END = re.compile(rb'"finish_reason": ?"')


class Said(msgspec.Struct, frozen=True):
    """An answer: its text in pieces, what stands as `usage` beside them (by the place of a piece, or behind the last),
    and how it ends."""

    pieces: list[str]
    usages: dict[int, Any]
    tiers: dict[int, Any]
    finish: str | None
    ending: Literal["done", "end", "close"]
    in_one_piece: bool

    def whole(self, answers: int) -> Json:
        message = {"role": "assistant", "content": "".join(self.pieces)}
        told: Json = {
            "choices": [{"index": i, "message": message, "finish_reason": self.finish} for i in range(answers)]
        }
        return told | self._beside(max(self.usages, default=0))

    def chunks(self, answers: int) -> list[Json]:
        chunks: list[Json] = []
        for place, piece in enumerate([*self.pieces, None]):
            delta, finish = ({}, self.finish) if piece is None else ({"content": piece}, None)
            choices = [{"index": i, "delta": delta, "finish_reason": finish} for i in range(answers)]
            chunks.append({"choices": choices} | self._beside(place))
        last = len(self.pieces) + 1
        if self._beside(last):
            chunks.append({"choices": []} | self._beside(last))
        return chunks

    def _beside(self, place: int) -> Json:
        usage = {"usage": self.usages[place]} if place in self.usages else {}
        return usage | ({"service_tier": self.tiers[place]} if place in self.tiers else {})

    async def __call__(self, exchange: Exchange) -> None:
        request = exchange.request.json
        answers = request.get("n") or 1
        if not request.get("stream"):
            await exchange.whole(200, json.dumps(self.whole(answers)).encode())
            return
        events = [b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in self.chunks(answers)]
        if self.ending == "done":
            events.append(b"data: [DONE]\n\n")
        await exchange.head(200, content_type="text/event-stream", transfer_encoding="chunked")
        for piece in [b"".join(events)] if self.in_one_piece else events:
            await exchange.chunk(piece)
        if self.ending == "close":
            exchange.close()
        else:
            await exchange.end_chunks()


class Vendor:
    """Says what the example at hand has it say."""

    def __init__(self) -> None:
        self.said: Said

    async def __call__(self, exchange: Exchange) -> None:
        await self.said(exchange)


class WatchedGate(Gate):
    """A gate that knows what it has held for the last request."""

    held_nano = 0

    async def admit(
        self, slots: Slots, rules: Rules, request_id: str, hold_nano: int, hold_tokens: int, draft: bytes
    ) -> Admitted | Refused:
        answer = await super().admit(slots, rules, request_id, hold_nano, hold_tokens, draft)
        self.held_nano = hold_nano if isinstance(answer, Admitted) else 0
        return answer

    async def extend(
        self, slots: Slots, request_id: str, more_nano: int, trace: str = NO_TRACE, draft: bytes = b""
    ) -> bool:
        is_held = await super().extend(slots, request_id, more_nano, trace, draft)
        self.held_nano += more_nano if is_held else 0
        return is_held


class Planner:
    """One channel, always."""

    def plan(
        self,
        caller_account_id: str,
        order: Order,
        model: Model,
        channels: Sequence[Channel],
        excluded: Collection[str] = (),
    ) -> Plan:
        return ListedPlan(*channels)


class Customer:
    """Who takes whatever comes, and stays to the end."""

    gone = False

    def __init__(self) -> None:
        self.got = b""

    def when_gone(self, call: Callable[[], None]) -> None: ...
    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        self.got = body

    async def start(self, headers: Headers) -> None: ...
    async def write(self, data: bytes) -> None:
        self.got += data

    async def finish(self, data: bytes) -> None:
        self.got += data

    def error_event(self, error: TollgateError) -> bytes:
        return b'data: {"error": {}}\n\n'


class House:
    """The five steps over real parts, and one channel to the vendor."""

    def __init__(self, wire: Wire, channel: Channel, spool: Path) -> None:
        self.wire = wire
        self.gate = WatchedGate(wire, LEASE_MS)
        self.relay = Relay(VendorTransport(), SandboxTransport())
        self._keys: dict[bytes, Key] = {}
        leases = Leases(self.gate)
        snapshot = build_snapshot([MODEL], [channel])
        self.journey = Journey(
            keyring=Keyring(self._find_key, SHARDS, Guesses()),
            desk=AdmissionDesk(self.gate, self._nothing, self._nothing, ignore_budgets, count_like_openai),
            crowd=Crowd(Seats(wire), LEASE_MS),
            dispatcher=Planner(),
            relay=self.relay,
            clerk=Clerk(
                self.gate, leases, Spool(spool), Policies(), self._is_posted, SHARDS, ignore_budgets, Unposted()
            ),
            leases=leases,
            gate=self.gate,
            snapshot=lambda: snapshot,
            find_receipt=self._nothing,
            format_usd=format_usd,
        )

    async def serve(self, sent: bytes, balance_nano: int) -> tuple[Receipt, int, bytes]:
        """The receipt of a new customer's request, what of it was not paid, and what the customer was sent."""
        await self.wire.call("FLUSHALL")
        till = Till(self.wire)
        await till.warm(balance_nano)
        secret = new_key()
        self._keys = {digest(secret): make_key(new_id("key"), account_id=till.account_id)}
        customer = Customer()
        try:
            await self.journey.chat(Visit(new_request_id(), secret, "127.0.0.1", "chat", sent), customer)
        except TollgateError as error:
            customer.got = error.message.encode()
        ((_, fields),) = await self.wire.call("XRANGE", till.shard.receipts, "-", "+")
        entry = dict(zip(fields[::2], fields[1::2], strict=True))
        wallet = await till.wallet()
        receipt = msgspec.json.decode(entry[b"r"], type=Receipt)
        assert (wallet.balance_nano, wallet.held_nano) == (balance_nano - receipt.amount_nano, 0)
        return receipt, int(entry.get(b"u", 0)), customer.got

    async def _find_key(self, secret_digest: bytes) -> Key | None:
        return self._keys.get(secret_digest)

    async def _is_posted(self, request_id: str, account_id: str) -> bool:
        return False

    async def _nothing(self, *_: object) -> None:
        raise AssertionError("nothing is missing")


@pytest.fixture
async def house(wire: Wire, street: Street, tmp_path: Path) -> AsyncIterator[tuple[House, Vendor]]:
    says = Vendor()
    vendor = street.open(says)
    house = House(wire, channel_to(vendor, 1), tmp_path)
    yield house, says
    await house.relay.close()
    street.shut(vendor)
    assert not vendor.faults, vendor.faults


_figure = st.sampled_from([0, 1, 5, 10, 11, 90, 5_000, 900_000_000, 10**12]) | st.integers(-5, 10**6)
_any_figure = _figure | st.none() | st.floats() | st.sampled_from([10.0, "10", "many", True, [], {}])
_details = st.dictionaries(
    st.sampled_from(["cached_tokens", "reasoning_tokens", "audio_tokens", "image_tokens", "cache_write_tokens"]),
    _any_figure,
)
_usage = st.dictionaries(
    st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "cache_creation_input_tokens"]), _any_figure
).flatmap(
    lambda figures: st.fixed_dictionaries(
        {name: st.just(figure) for name, figure in figures.items()},
        optional={"prompt_tokens_details": _details | _any_figure, "completion_tokens_details": _details},
    )
)
_sound_usage = st.fixed_dictionaries({"prompt_tokens": _figure, "completion_tokens": _figure})
_any_usage = _usage | _sound_usage | _any_figure
_piece = st.builds(
    lambda text, times: text * times,
    st.sampled_from([" word", " extraordinarily", "1\n", "你好", "🎈", ""]),
    st.integers(1, 12) | st.just(400),
)
_tier = st.sampled_from(["priority", "flex", "default", "auto", "", 7, None])
_said = st.builds(
    Said,
    pieces=st.lists(_piece, max_size=12),
    usages=st.dictionaries(st.integers(0, 13), _any_usage, max_size=3),
    tiers=st.dictionaries(st.integers(0, 13), _tier, max_size=2),
    finish=st.sampled_from(["stop", "length", None]),
    ending=st.sampled_from(["done", "end", "close"]),
    in_one_piece=st.booleans(),
)
_asked = st.fixed_dictionaries(
    {"stream": st.booleans(), "n": st.sampled_from([1, 1, 2])},
    optional={
        "max_tokens": st.sampled_from([1, 10, 100]),
        "stream_options": st.just({"include_usage": True}),
    },
)
_balance = st.sampled_from([10**12, 5_000_000, 3_000_000])  # thousands of USD, or a few hundred tokens


def _seeded(test: Any) -> Any:
    return test if SEED is None else seed(int(SEED))(test)


@pytest.mark.timeout(120 + EXAMPLES // 5)
@_seeded
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(said=_said, asked=_asked, balance=_balance)
async def test_nobody_pays_for_more_than_was_held(
    house: tuple[House, Vendor], said: Said, asked: Json, balance: int
) -> None:
    """Nothing is left unpaid, no charge passes the hold or the limit; a vendor that passed them is on the receipt. A
    stream ends as clients know it."""
    serving, vendor = house
    vendor.said = said
    sent = body(**asked)
    receipt, unpaid_nano, got = await serving.serve(sent, balance)

    assert unpaid_nano == 0
    assert 0 <= receipt.amount_nano <= serving.gate.held_nano
    taken = receipt.attempts[-1].usage or receipt.usage if receipt.attempts else receipt.usage
    assert receipt.usage.input_tokens <= len(sent)
    if "max_tokens" in asked and receipt.channel_id is not None:
        limit = asked["max_tokens"] * asked["n"]
        assert receipt.usage.output_tokens <= limit
        assert receipt.vendor_excess or taken.output_tokens <= limit
    assert receipt.channel_id is None or receipt.vendor_excess or taken.input_tokens <= len(sent)
    if asked["stream"] and receipt.channel_id is not None:
        assert (b"[DONE]" in got) != (b'{"error"' in got)
        ends = len(_END.findall(got))
        assert b'{"error"' in got or ends >= asked["n"] or receipt.ending == "finished"
