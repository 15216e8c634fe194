"""The five steps, in order; whatever happens on the way, the hold is ended."""

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from app.base.clock import monotonic_ms, now_ms
from app.base.errors import InternalError, NotFound, ServiceUnavailable, TollgateError
from app.base.ids import made_at_ms
from app.base.receipt import NO_EXTRAS
from app.base.scopes import Scope
from app.catalog.records import Channel, Model
from app.catalog.snapshot import Snapshot
from app.proxy.access import Keyring
from app.proxy.admission import AdmissionDesk, Crowd, bounded, limit_headers
from app.proxy.chain import Chain, Planner, check_taken, find_offer
from app.proxy.extras import dropped_fields
from app.proxy.records import Caller, Delivered, Offer, Order, Try, Usage
from app.proxy.relay import LiveStream, Relay, RelayFailed, StreamCut
from app.proxy.relay.dialects.openai_answer import shown_body
from app.proxy.relay.dialects.openai_chat import read_order
from app.proxy.settlement import Clerk, Leases, Meter, Trip
from app.quota.gate import Gate

__all__ = ["FindReceipt", "Journey", "Reply", "Visit"]

Headers = list[tuple[bytes, bytes]]

# A customer who has gone: the vendor still charges, so the rest is read for its usage, within this bound.
_GONE_BYTES = 16 * 1024 * 1024

_DONE = b"data: [DONE]\n\n"
_EVENT_STREAM: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
_JSON: Headers = [(b"content-type", b"application/json")]


async def _nothing() -> bytes:
    return b""


class Visit(msgspec.Struct, frozen=True):
    """A request at the door of a scope. `key` is empty where none was sent. `read` waits for the body, once: whoever
    has no key is turned away before. It raises InvalidField or TooLarge."""

    request_id: str
    key: str
    address: str
    scope: Scope
    read: Callable[[], Awaitable[bytes]] = _nothing


class Reply(Protocol):
    """The way back to the customer, as the door gives it."""

    @property
    def gone(self) -> bool:
        """The customer has hung up."""

    def when_gone(self, call: Callable[[], None]) -> None: ...
    async def answer(self, status: int, headers: Headers, body: bytes) -> None: ...
    async def start(self, headers: Headers) -> None: ...
    async def write(self, data: bytes) -> None: ...
    async def finish(self, data: bytes) -> None: ...
    def error_event(self, error: TollgateError) -> bytes: ...


class FindReceipt(Protocol):
    async def __call__(self, request_id: str, account_id: str, /) -> dict[str, object] | None: ...


class Journey:
    def __init__(
        self,
        *,
        keyring: Keyring,
        desk: AdmissionDesk,
        crowd: Crowd,
        dispatcher: Planner,
        relay: Relay,
        clerk: Clerk,
        leases: Leases,
        gate: Gate,
        snapshot: Callable[[], Snapshot],
        find_receipt: FindReceipt,
        format_usd: Callable[[int], str],
        read_on_s: int,
    ) -> None:
        """`read_on_s`: for so long an answer that its customer left is read for its usage."""
        self._keyring = keyring
        self._desk = desk
        self._crowd = crowd
        self._relay = relay
        self._clerk = clerk
        self._leases = leases
        self._gate = gate
        self._snapshot = snapshot
        self._chain = Chain(dispatcher, gate, snapshot)
        self._find_receipt = find_receipt
        self._format_usd = format_usd
        self._read_on_s = read_on_s
        self._streams: set[LiveStream] = set()

    async def chat(self, visit: Visit, reply: Reply) -> None:
        """`POST /v1/chat/completions`. Raises TollgateError while nothing has been answered."""
        started_ms = monotonic_ms()
        caller = await self._enter(visit)
        body = await visit.read()
        order = read_order(body, visit.request_id, made_at_ms(visit.request_id) or now_ms())
        offer = self._offer(caller, order.model)
        for index, name in enumerate(order.also):
            find_offer(self._snapshot(), caller, name, f"models[{index}]")
        check_taken(self._snapshot(), caller, order, offer)
        order = bounded(order, offer)
        if not offer.model.total_limits:
            await self._travel(caller, order, offer, started_ms, reply)
            return
        async with self._crowd.place(order, offer.model) as place:
            usage = await self._travel(caller, order, offer, started_ms, reply)
            place.tokens = usage.input_tokens + usage.output_tokens

    def interrupt(self) -> None:
        """The time to drain is over: streams that still run end with an error event, and are settled."""
        for stream in self._streams:
            stream.interrupt()

    async def list_models(self, visit: Visit) -> list[Model]:
        """What the key may use, by name."""
        caller = await self._enter(visit)
        snapshot = self._snapshot()
        return [
            model
            for name, model in sorted(snapshot.models.items())
            if (caller.models is None or name in caller.models) and snapshot.sale(name, caller.book) is not None
        ]

    async def find_model(self, visit: Visit, name: str) -> Model:
        caller = await self._enter(visit)
        return self._offer(caller, name).model

    async def find_receipt(self, visit: Visit, request_id: str) -> dict[str, object]:
        """A receipt of the caller's own account, as JSON."""
        caller = await self._enter(visit)
        receipt = await self._find_receipt(request_id, caller.own_id)
        if receipt is None:
            raise NotFound(f"There is no receipt `{request_id}`; one appears a moment after its request has ended.")
        return receipt

    async def _enter(self, visit: Visit) -> Caller:
        return await self._keyring.enter(visit.key, visit.address, visit.scope)

    def _offer(self, caller: Caller, name: str) -> Offer:
        return find_offer(self._snapshot(), caller, name)

    async def _travel(self, caller: Caller, order: Order, offer: Offer, started_ms: int, reply: Reply) -> Usage:
        """From the admission on; what was used."""
        try:
            order, hold = await self._desk.admit(caller, order, offer)
        except ServiceUnavailable:
            await self._clerk.forgo(order.request_id)
            raise
        self._leases.begin(order.request_id, caller.slots.shard)
        trip = Trip(caller, order, offer.sale, hold, started_ms)
        return await (self._stream if order.stream else self._plain)(trip, offer, reply)

    async def _plain(self, trip: Trip, offer: Offer, reply: Reply) -> Usage:
        try:
            trip, (delivered, answer) = await self._chain.serve(trip, offer, self._relay.fetch)
        except BaseException as error:
            raise await self._end_without_answer(trip, error) from None
        bill = await self._clerk.settle(trip, delivered)
        cost = self._format_usd(bill.amount_nano).encode()
        headers = [*_JSON, (b"x-tollgate-cost", cost), *_dropped(trip.order, delivered.channel)]
        await reply.answer(200, headers + limit_headers(trip.hold), shown_body(answer, bill.usage))
        return bill.usage

    async def _stream(self, trip: Trip, offer: Offer, reply: Reply) -> Usage:
        try:
            trip, stream = await self._chain.serve(trip, offer, self._relay.open)
        except BaseException as error:
            raise await self._end_without_answer(trip, error) from None
        self._streams.add(stream)
        try:
            return await self._deliver(trip, stream, reply)
        finally:
            self._streams.discard(stream)
            await stream.close()

    async def _deliver(self, trip: Trip, stream: LiveStream, reply: Reply) -> Usage:
        """A stream that has begun, to its end: settled before its last bytes leave."""
        meter = Meter(self._gate, trip)
        try:
            await reply.start([*_EVENT_STREAM, *_dropped(trip.order, stream.channel), *limit_headers(trip.hold)])
            reply.when_gone(lambda: stream.leave(self._read_on_s))
            delivered, fault = await _pump(stream, reply, meter)
            if fault is not None:  # said at once: what was delivered may have to be counted
                await reply.write(reply.error_event(fault))
            if not stream.stopped:
                await _hold_rest(stream, meter)
        except BaseException:  # drained away, or a fault of ours: what came is on the books all the same
            await self._clerk.settle_surely(meter.trip, stream.delivered("interrupted", error="interrupted"))
            raise
        bill = await self._clerk.settle(meter.trip, delivered)
        if fault is not None:
            await reply.finish(b"")
            return bill.usage
        created_s = trip.order.created_at_ms // 1000
        tail = stream.reader.usage_event(bill.usage, created_s, trip.order.request_id) + _DONE
        if stream.stopped:
            tail = stream.closing_events(created_s) + tail
        await reply.finish(tail)
        return bill.usage

    async def _end_without_answer(self, trip: Trip, error: BaseException) -> BaseException:
        """Nothing reached the customer: the hold is released, and the receipt says what was tried."""
        tries: tuple[Try, ...] = ()
        shown: BaseException = error
        status = InternalError.status
        if isinstance(error, RelayFailed):
            tries, shown, status = error.tries, error.error, error.error.status
            error.error.headers += tuple(limit_headers(trip.hold))
        nothing = Delivered(
            ending="failed",
            http_status=status,
            channel=None,
            tries=tries,
            usage=None,
            finish_reason=None,
        )
        await self._clerk.settle_surely(trip, nothing)
        return shown


def _dropped(order: Order, channel: Channel | None) -> Headers:
    """Names the fields that the channel which serves has left out."""
    if channel is None or order.extras is NO_EXTRAS:
        return []
    names = dropped_fields(order, channel)
    return [(b"x-tollgate-dropped", ", ".join(names).encode())] if names else []


async def _pump(stream: LiveStream, reply: Reply, meter: Meter) -> tuple[Delivered, TollgateError | None]:
    """Every event to the customer as it comes, while the hold pays for it; how it ended."""
    reader = stream.reader
    try:
        while (data := await stream.next()) is not None:
            if reply.gone:
                if stream.bytes_after_leave > _GONE_BYTES:
                    raise StreamCut("customer gone")
                continue
            counted = None if reader.usage is None else reader.usage.output_tokens
            if not meter.covers(reader.output_bytes, counted) and not await meter.extend(
                reader.output_bytes, counted, lambda: reader.output
            ):
                return await _stop(stream, reply, meter), None
            await reply.write(data)
            stream.sent()
    except StreamCut as cut:
        if reply.gone:
            return stream.delivered("client_gone", error="customer gone"), None
        error = InternalError("The upstream broke off in the middle of its answer.")
        error.code = "upstream_interrupted"
        return stream.delivered("interrupted" if stream.interrupted else "cut", error=str(cut)), error
    return stream.delivered("client_gone" if reply.gone else "finished"), None


async def _hold_rest(stream: LiveStream, meter: Meter) -> None:
    """What a customer who has gone is not sent any more costs them all the same."""
    reader = stream.reader
    counted = None if reader.usage is None else reader.usage.output_tokens
    await meter.hold_rest(reader.output_bytes, counted, lambda: reader.output)


async def _stop(stream: LiveStream, reply: Reply, meter: Meter) -> Delivered:
    """The answer ends here. Of the events that were read last, those that the hold pays for go out."""
    paid = await meter.reach(stream.events, stream.reader.output)
    if paid:
        await reply.write(b"".join([event.data for event in stream.events[:paid]]))
    stream.stop(paid)
    return stream.delivered("finished" if meter.beyond_limit else "out_of_credit")
