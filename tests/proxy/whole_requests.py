"""Whole requests over real parts, for properties of what is charged: the journey, admission, relay, wallet and
settlement, with one channel to a local vendor that answers what a test has it say."""

import asyncio
import json
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

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
from app.proxy.relay.providers import count_like_ours
from app.proxy.relay.sandbox import SandboxTransport
from app.proxy.relay.vendors import VendorTransport
from app.proxy.settlement import Clerk, Leases, Policies, Spool, Unposted
from app.quota.gate import Admitted, Gate, Refused
from app.quota.rules import NO_TRACE, Rules
from app.quota.seats import Seats
from app.quota.slots import Slots
from tests.proxy.makers import ignore_budgets, make_key
from tests.proxy.plans import ListedPlan
from tests.quota.till import LEASE_MS, SHARDS, Till
from tests.upstreams import Behaviour, Exchange

__all__ = ["MODEL", "PRICES", "House", "Json", "Said", "Served", "Vendor"]

Json = dict[str, Any]

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
        await self.send(exchange, int(request.get("n") or 1), stream=bool(request.get("stream")))

    async def send(self, exchange: Exchange, answers: int, *, stream: bool) -> None:
        if not stream:
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
        self.said: Behaviour

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


class Served(msgspec.Struct, frozen=True):
    """What became of a request: its receipt, None where it was refused before it was held; what of it was not paid;
    and what the customer got, or the error that they got instead."""

    receipt: Receipt | None
    unpaid_nano: int
    got: bytes
    error: TollgateError | None


class House:
    """The five steps over real parts, and one channel to the vendor."""

    def __init__(self, wire: Wire, channel: Channel, spool: Path) -> None:
        self.wire = wire
        self.gate = WatchedGate(wire, LEASE_MS)
        self.relay = Relay(VendorTransport(), SandboxTransport())
        self._keys: dict[bytes, Key] = {}
        leases = Leases(self.gate)
        self.offer(MODEL, channel)
        self.journey = Journey(
            keyring=Keyring(self._find_key, SHARDS, Guesses()),
            desk=AdmissionDesk(self.gate, self._nothing, self._nothing, ignore_budgets, count_like_ours),
            crowd=Crowd(Seats(wire), LEASE_MS),
            dispatcher=Planner(),
            relay=self.relay,
            clerk=Clerk(
                self.gate, leases, Spool(spool), Policies(), self._is_posted, SHARDS, ignore_budgets, Unposted()
            ),
            leases=leases,
            gate=self.gate,
            snapshot=lambda: self._snapshot,
            find_receipt=self._nothing,
            format_usd=format_usd,
            read_on_s=1,
        )

    def offer(self, model: Model, channel: Channel) -> None:
        """From now on this model is on sale, and this channel serves it."""
        self._snapshot = build_snapshot([model], [channel])

    async def serve(self, sent: bytes, balance_nano: int) -> Served:
        """Serves a request of a new customer, whose wallet is checked against the receipt: nothing stays held."""
        await self.wire.call("FLUSHALL")
        till = Till(self.wire)
        await till.warm(balance_nano)
        secret = new_key()
        self._keys = {digest(secret): make_key(new_id("key"), account_id=till.account_id)}
        customer, refusal = Customer(), None
        self.gate.held_nano = 0
        try:
            visit = Visit(new_request_id(), secret, "127.0.0.1", "chat", partial(asyncio.sleep, 0, sent))
            await self.journey.chat(visit, customer)
        except TollgateError as error:
            customer.got, refusal = error.message.encode(), error
        wallet = await till.wallet()
        entries = await self.wire.call("XRANGE", till.shard.receipts, "-", "+")
        if not entries:
            assert (wallet.balance_nano, wallet.held_nano) == (balance_nano, 0)
            return Served(None, 0, customer.got, refusal)
        ((_, fields),) = entries
        entry = dict(zip(fields[::2], fields[1::2], strict=True))
        receipt = msgspec.json.decode(entry[b"r"], type=Receipt)
        assert (wallet.balance_nano, wallet.held_nano) == (balance_nano - receipt.amount_nano, 0)
        return Served(receipt, int(entry.get(b"u", 0)), customer.got, refusal)

    async def _find_key(self, secret_digest: bytes) -> Key | None:
        return self._keys.get(secret_digest)

    async def _is_posted(self, request_id: str, account_id: str) -> bool:
        return False

    async def _nothing(self, *_: object) -> None:
        raise AssertionError("nothing is missing")
