"""The relay: an order and a plan in, a whole answer or a stream that has begun out."""

import asyncio
from collections.abc import Sequence

from app.proxy.records import Delivered, Order, Outcome, Pick, Plan, Try
from app.proxy.relay.attempt import PlainAttempt, Request, StreamAttempt
from app.proxy.relay.dialects.openai_answer import PlainAnswer
from app.proxy.relay.line import Lines
from app.proxy.relay.providers import PROVIDERS
from app.proxy.relay.search import Search
from app.proxy.relay.stream import LiveStream
from app.proxy.relay.upstream import Transport
from app.proxy.relay.verdict import tokens_taken

__all__ = ["Relay"]


class Relay:
    """`transport` reaches real vendors, `sandbox` the built-in one."""

    def __init__(self, transport: Transport, sandbox: Transport) -> None:
        self._lines = Lines(transport, sandbox)
        self._leftovers: set[asyncio.Task[None]] = set()

    async def fetch(
        self, order: Order, plan: Plan, tries: Sequence[Try] = (), not_after: float | None = None
    ) -> tuple[Delivered, PlainAnswer]:
        """A whole answer, and what it came to. `tries` were made for this request before; no pick is begun, nor an
        answer awaited, after `not_after` (the loop's time). Raises RelayFailed."""
        search = Search(order, plan, self._begin_plain, self._leftovers, tries, not_after)
        attempt, answer = await search.run()
        tokens = tokens_taken(answer.usage, order.input_bound, len(answer.output))
        plan.ended(attempt.pick, Outcome(http_status=200, tokens=tokens))
        delivered = Delivered(
            ending="finished",
            http_status=200,
            channel=attempt.pick.channel,
            tries=tuple(search.tries),
            usage=answer.usage,
            is_usage_final=answer.sent is not None and answer.sent.has_output,
            finish_reason=answer.finish_reason,
            output=answer.output,
            service_tier=answer.service_tier,
        )
        return delivered, answer

    async def open(
        self, order: Order, plan: Plan, tries: Sequence[Try] = (), not_after: float | None = None
    ) -> LiveStream:
        """A stream whose first content has come; it ends its pick when it ends. Raises RelayFailed."""
        search = Search(order, plan, self._begin_stream, self._leftovers, tries, not_after)
        attempt, stream = await search.run()
        pick = attempt.pick  # the attempt itself, with the body that was sent, is not kept as long as the stream
        stream.take_over(search.tries, lambda outcome: plan.ended(pick, outcome))
        return stream

    async def close(self) -> None:
        while self._leftovers:
            await asyncio.wait(self._leftovers)
        await self._lines.close()

    def _begin_plain(self, order: Order, pick: Pick, deadline_at: float | None) -> PlainAttempt:
        return PlainAttempt(order, pick, self._request(order, pick), deadline_at)

    def _begin_stream(self, order: Order, pick: Pick, deadline_at: float | None) -> StreamAttempt:
        return StreamAttempt(order, pick, self._request(order, pick), deadline_at)

    def _request(self, order: Order, pick: Pick) -> Request:
        transport, call = self._lines.call(order, pick)
        return Request(transport, call, PROVIDERS[pick.channel.provider].usage_rules)
