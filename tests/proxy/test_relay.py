"""A relay over real connections: what each end of an attempt means for the next, for the plan and for the receipt."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from app.base.clock import now_ms
from app.base.errors import NoChannel, VendorRefused
from app.catalog.records import Timeouts
from app.proxy.records import Delivered, Order, Plan
from app.proxy.relay import Relay, RelayFailed
from app.proxy.relay.dialects.openai_chat import read_order
from app.proxy.relay.sandbox import SandboxTransport
from app.proxy.relay.vendors import VendorTransport
from tests.answers import Answer, Shape
from tests.behaviours import Gate, answers, says
from tests.proxy.makers import body
from tests.proxy.plans import ListedPlan, channel_to
from tests.upstreams import Behaviour, Exchange, Street, Vendor

HEDGE_S = 0.02
LONG_S = 30.0
PATIENCE_S = 10


class Mute:
    """Takes a request, begins a stream but says nothing, and knows when it is hung up on."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.closed = threading.Event()

    async def __call__(self, exchange: Exchange) -> None:
        self.asked.set()
        if exchange.request.json.get("stream"):
            await exchange.head(200, content_type="text/event-stream", transfer_encoding="chunked")
            await exchange.chunk(b": wait\n\n")
        await exchange.reader.read(1)
        self.closed.set()
        exchange.close()


def after(event: threading.Event, behaviour: Behaviour) -> Behaviour:
    """The behaviour, once something has happened elsewhere."""

    async def behave(exchange: Exchange) -> None:
        await asyncio.to_thread(event.wait, PATIENCE_S)
        await behaviour(exchange)

    return behave


async def happened(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, PATIENCE_S)


def saying(word: str) -> Answer:
    return Answer(pieces=(word, " and", " more"), prompt_tokens=20)


FAULT = says(500, {"error": {"message": "no"}})
REFUSAL = says(400, {"error": {"message": "bad picture"}})


class Bench:
    """A relay, vendors for it, and the two ways to ask it."""

    def __init__(self, street: Street) -> None:
        self.relay = Relay(VendorTransport(), SandboxTransport())
        self.vendors: list[Vendor] = []
        self._street = street

    def plan(
        self,
        *behaviours: Behaviour,
        hedge_s: float | None = None,
        deadline_s: float | None = None,
        timeouts: Timeouts | None = None,
    ) -> ListedPlan:
        opened = [self._street.open(behaviour) for behaviour in behaviours]
        self.vendors += opened
        given = {} if timeouts is None else {"timeouts": timeouts}
        channels = [channel_to(vendor, number, **given) for number, vendor in enumerate(opened, 1)]
        deadline_at = None if deadline_s is None else asyncio.get_running_loop().time() + deadline_s
        return ListedPlan(*channels, hedge_s=hedge_s, deadline_at=deadline_at)

    async def ask(self, plan: Plan, stream: bool) -> Delivered:
        """To the answer's end. Raises RelayFailed."""
        order = new_order(stream)
        if not stream:
            return (await self.relay.fetch(order, plan))[0]
        live = await self.relay.open(order, plan)
        try:
            while await live.next() is not None:
                live.sent()
            return live.delivered("finished")
        finally:
            await live.close()

    async def close(self) -> None:
        await self.relay.close()
        for vendor in self.vendors:
            self._street.shut(vendor)
            assert not vendor.faults, vendor.faults


def new_order(stream: bool) -> Order:
    return read_order(body(stream=stream), "req_1", now_ms())


@pytest.fixture
async def bench(street: Street, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.delenv("SSL_CERT_DIR")  # the transport wants some certificates, though nothing here speaks TLS
    bench = Bench(street)
    yield bench
    await bench.close()


pytestmark = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def told(delivered: Delivered) -> list[tuple[str, str | None]]:
    return [(each.channel.id, each.error) for each in delivered.tries]


async def test_the_slow_first_is_overtaken(bench: Bench, stream: bool) -> None:
    """The second is begun when the hedge's time is over; the first is hung up on, and never judged."""
    mute = Mute()
    plan = bench.plan(mute, answers(saying("second")), hedge_s=HEDGE_S)
    delivered = await bench.ask(plan, stream)
    assert delivered.output == "second and more"
    assert told(delivered) == [("chn_1", "hedged"), ("chn_2", None)]
    assert delivered.tries[0].duration_ms >= HEDGE_S * 1000
    assert plan.errors == {"chn_1": "abandoned", "chn_2": None}
    assert plan.came_first == ["chn_2"]
    plan.assert_settled()
    if stream:
        await happened(mute.closed)


async def test_the_slow_first_may_still_win(bench: Bench, stream: bool) -> None:
    """It answers while the second is being asked, which is hung up on."""
    mute = Mute()
    plan = bench.plan(after(mute.asked, answers(saying("first"))), mute, hedge_s=HEDGE_S)
    delivered = await bench.ask(plan, stream)
    assert delivered.output == "first and more"
    assert told(delivered) == [("chn_2", "hedged"), ("chn_1", None)]
    assert plan.errors == {"chn_1": None, "chn_2": "abandoned"}
    plan.assert_settled()
    if stream:
        await happened(mute.closed)


async def test_nobody_is_asked_beside_one_that_is_quick(bench: Bench, stream: bool) -> None:
    plan = bench.plan(answers(saying("first")), answers(), hedge_s=LONG_S)
    assert told(await bench.ask(plan, stream)) == [("chn_1", None)]
    assert not bench.vendors[1].requests
    plan.assert_settled()


async def test_a_failure_does_not_wait_for_the_hedge(bench: Bench, stream: bool) -> None:
    """The next is begun at once, and has the hedge's time to itself."""
    plan = bench.plan(FAULT, answers(saying("second")), Mute(), hedge_s=LONG_S)
    delivered = await bench.ask(plan, stream)
    assert told(delivered) == [("chn_1", "status"), ("chn_2", None)]
    assert plan.errors == {"chn_1": "status", "chn_2": None}


async def test_one_that_fails_beside_the_slow_first_is_replaced(bench: Bench, stream: bool) -> None:
    """Two at most at the same time, and each channel once."""
    mute = Mute()
    plan = bench.plan(mute, FAULT, FAULT, answers(saying("fourth")), hedge_s=HEDGE_S)
    delivered = await bench.ask(plan, stream)
    assert delivered.output == "fourth and more"
    assert told(delivered) == [("chn_2", "status"), ("chn_3", "status"), ("chn_1", "hedged"), ("chn_4", None)]
    assert [len(vendor.requests) for vendor in bench.vendors] == [1, 1, 1, 1]
    plan.assert_settled()


async def test_both_fail_and_the_third_answers(bench: Bench, stream: bool) -> None:
    asked = Mute()

    async def fails_when_the_other_is_asked(exchange: Exchange) -> None:
        await asyncio.to_thread(asked.asked.wait, PATIENCE_S)
        exchange.reset()

    async def fails(exchange: Exchange) -> None:
        asked.asked.set()
        exchange.reset()

    plan = bench.plan(fails_when_the_other_is_asked, fails, answers(saying("third")), hedge_s=HEDGE_S)
    delivered = await bench.ask(plan, stream)
    assert delivered.output == "third and more"
    assert {name for name, error in told(delivered) if error} >= {"chn_2"}
    plan.assert_settled()


async def test_all_fail(bench: Bench, stream: bool) -> None:
    plan = bench.plan(FAULT, FAULT, hedge_s=HEDGE_S)
    plan.retry_after_ms = 6_001
    with pytest.raises(RelayFailed) as failed:
        await bench.ask(plan, stream)
    assert isinstance(failed.value.error, NoChannel)
    assert (b"retry-after", b"7") in failed.value.error.headers
    assert [each.error for each in failed.value.tries] == ["status", "status"]
    plan.assert_settled()


async def test_the_only_one_is_waited_for(bench: Bench, stream: bool) -> None:
    """There is nobody to ask beside it."""
    gate = Gate()
    plan = bench.plan(answers(saying("late"), after=0, then=gate), hedge_s=HEDGE_S)
    asking = asyncio.create_task(bench.ask(plan, stream))
    await asyncio.sleep(HEDGE_S * 3)
    gate.open()
    assert told(await asking) == [("chn_1", None)]


async def test_a_refusal_beside_one_that_still_runs_waits_for_it(bench: Bench, stream: bool) -> None:
    """The one may take what the other refuses; but nobody else is asked."""
    gate = Gate()
    plan = bench.plan(answers(saying("first"), after=0, then=gate), REFUSAL, Mute(), hedge_s=HEDGE_S)
    asking = asyncio.create_task(bench.ask(plan, stream))
    while "chn_2" not in plan.outcomes:
        await asyncio.sleep(0.005)
    await asyncio.sleep(HEDGE_S * 2)
    gate.open()
    delivered = await asking
    assert delivered.output == "first and more"
    assert told(delivered) == [("chn_2", "refused"), ("chn_1", None)]
    assert plan.errors == {"chn_1": None, "chn_2": None}
    assert not bench.vendors[2].requests


async def test_a_refusal_stands_where_the_other_fails(bench: Bench, stream: bool) -> None:
    mute = Mute()
    plan = bench.plan(after(mute.asked, FAULT), set_then(mute.asked, REFUSAL), answers(), hedge_s=HEDGE_S)
    with pytest.raises(RelayFailed) as failed:
        await bench.ask(plan, stream)
    assert isinstance(failed.value.error, VendorRefused)
    assert not bench.vendors[2].requests
    plan.assert_settled()


def set_then(event: threading.Event, behaviour: Behaviour) -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        event.set()
        await behaviour(exchange)

    return behave


@pytest.mark.parametrize("hedge_s", [None, LONG_S, HEDGE_S], ids=["alone", "before_the_hedge", "hedged"])
async def test_one_who_stops_waiting_leaves_nothing_behind(bench: Bench, stream: bool, hedge_s: float | None) -> None:
    """Cancelled while it asks: all that was begun is hung up on, and says nothing about its channel."""
    mutes = [Mute(), Mute()]
    plan = bench.plan(*mutes, hedge_s=hedge_s)
    asking = asyncio.create_task(bench.ask(plan, stream))
    begun = mutes if hedge_s == HEDGE_S else mutes[:1]
    for mute in begun:
        await happened(mute.asked)
    await asyncio.sleep(0.05)  # so that the streams' heads are there
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    for mute in begun if stream else []:
        await happened(mute.closed)
    assert set(plan.errors.values()) == {"abandoned"}
    plan.assert_settled()


async def test_the_deadline_ends_the_search(bench: Bench, stream: bool) -> None:
    """Nobody is asked after it; whoever took most of the time is judged by it."""
    plan = bench.plan(Mute(), answers(), deadline_s=0.1)
    with pytest.raises(RelayFailed) as failed:
        await bench.ask(plan, stream)
    assert isinstance(failed.value.error, NoChannel)
    assert [each.error for each in failed.value.tries] == ["deadline"]
    assert plan.errors == {"chn_1": "deadline"}
    assert not bench.vendors[1].requests


async def test_one_that_was_begun_just_before_the_deadline_is_not_judged(bench: Bench, stream: bool) -> None:
    slow = Timeouts(connect_ms=1000, first_token_ms=300, idle_ms=5000, total_ms=10_000)
    plan = bench.plan(Mute(), Mute(), deadline_s=0.4, timeouts=slow)
    with pytest.raises(RelayFailed) as failed:
        await bench.ask(plan, stream)
    first, second = failed.value.tries
    assert "timeout" in (first.error or "")
    assert second.error == "deadline"
    assert plan.errors["chn_2"] == "abandoned"
    plan.assert_settled()


async def test_the_callers_own_deadline_counts_too(bench: Bench, stream: bool) -> None:
    """The requested model's stands for those that are tried in its place."""
    plan = bench.plan(answers())
    past = asyncio.get_running_loop().time() - 1
    relay = bench.relay
    search: Callable[..., object] = relay.open if stream else relay.fetch
    with pytest.raises(RelayFailed):
        await search(new_order(stream), plan, (), past)  # type: ignore[misc]
    assert not bench.vendors[0].requests


@pytest.mark.parametrize(
    ("headers", "wait_ms"),
    [({"retry_after": "3"}, 3_000), ({"retry_after": "3", "retry_after_ms": "250"}, 250), ({}, None)],
    ids=["seconds", "milliseconds", "nothing"],
)
async def test_the_vendors_word_on_when_to_come_back_reaches_the_plan(
    bench: Bench, stream: bool, headers: dict[str, str], wait_ms: int | None
) -> None:
    plan = bench.plan(says(429, {"error": {"message": "slow down"}}, **headers), answers())
    await bench.ask(plan, stream)
    outcome = plan.outcomes["chn_1"]
    assert (outcome.http_status, outcome.error, outcome.retry_after_ms) == (429, "status", wait_ms)


async def test_the_plan_hears_of_tokens(bench: Bench, stream: bool) -> None:
    """The vendor's own count, or a guess from the texts."""
    plan = bench.plan(answers(saying("hello")))
    await bench.ask(plan, stream)
    assert plan.outcomes["chn_1"].tokens == 23
    silent = Answer(pieces=("x" * 400,), usage_in_body=False)
    plan = bench.plan(answers(silent, Shape(usage="none")))
    await bench.ask(plan, stream)
    assert plan.outcomes["chn_1"].tokens >= 100


async def test_a_prompt_that_is_too_long_is_known_as_such(bench: Bench, stream: bool) -> None:
    """No other channel of the same model is asked."""
    fault = {"error": {"message": "Too long.", "code": "context_length_exceeded"}}
    plan = bench.plan(says(400, fault), answers())
    with pytest.raises(RelayFailed) as failed:
        await bench.ask(plan, stream)
    assert (failed.value.is_overflow, failed.value.is_refused) == (True, True)
    assert [each.error for each in failed.value.tries] == ["prompt too long"]
    assert not bench.vendors[1].requests
    assert plan.errors == {"chn_1": None}


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (says(404, b"<html>Not Found</html>", content_type="text/html"), "no such address"),
        (says(404, {"error": {"message": "The model `m` does not exist"}}), "unknown model"),
        (says(400, {"error": "Incorrect API key provided: xa***."}), "credential refused"),
    ],
)
async def test_a_refusal_of_the_channel_is_not_the_requests(
    bench: Bench, stream: bool, refusal: Behaviour, error: str
) -> None:
    """The next channel is asked, and the plan hears what is wrong with the first."""
    plan = bench.plan(refusal, answers(saying("second")))
    delivered = await bench.ask(plan, stream)
    assert delivered.output == "second and more"
    assert told(delivered) == [("chn_1", error), ("chn_2", None)]
    assert (plan.outcomes["chn_1"].error, plan.outcomes["chn_1"].is_unfit) == (error, True)


async def test_a_vendor_may_say_created(bench: Bench, stream: bool) -> None:
    """201, as some frameworks have it for every POST; a byte order mark comes before the answer."""
    mark = b"\xef\xbb\xbf"
    events = mark + b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    whole = mark + b'{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}'
    plan = bench.plan(says(201, events if stream else whole))
    delivered = await bench.ask(plan, stream)
    assert (delivered.output, delivered.finish_reason, delivered.http_status) == ("Hi", "stop", 200)
    assert plan.errors == {"chn_1": None}
