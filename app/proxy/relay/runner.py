"""The relay: an order and a plan in, a whole answer or a stream that has begun out."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from app.proxy.records import Delivered, Order, Outcome, Pick, Plan, Try
from app.proxy.relay.attempt import PlainAttempt, Request, StreamAttempt
from app.proxy.relay.dialects.openai_chat import write_request
from app.proxy.relay.providers import PROVIDERS, Provider, endpoint
from app.proxy.relay.search import Search
from app.proxy.relay.stream import LiveStream
from app.proxy.relay.upstream import Call, Transport
from app.proxy.relay.verdict import tokens_taken

__all__ = ["Relay"]


class Relay:
    """`transport` reaches real vendors, `sandbox` the built-in one."""

    def __init__(self, transport: Transport, sandbox: Transport) -> None:
        self._transport = transport
        self._sandbox = sandbox
        self._lines: dict[tuple[str, str], _Line] = {}
        self._leftovers: set[asyncio.Task[None]] = set()

    async def fetch(
        self, order: Order, plan: Plan, tries: Sequence[Try] = (), not_after: float | None = None
    ) -> tuple[Delivered, bytes]:
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
            finish_reason=answer.finish_reason,
            output=answer.output,
        )
        return delivered, answer.body

    async def open(
        self, order: Order, plan: Plan, tries: Sequence[Try] = (), not_after: float | None = None
    ) -> LiveStream:
        """A stream whose first content has come; it ends its pick when it ends. Raises RelayFailed."""
        search = Search(order, plan, self._begin_stream, self._leftovers, tries, not_after)
        attempt, stream = await search.run()
        stream.take_over(search.tries, lambda outcome: plan.ended(attempt.pick, outcome))
        return stream

    async def close(self) -> None:
        while self._leftovers:
            await asyncio.wait(self._leftovers)
        await self._transport.close()

    def _begin_plain(self, order: Order, pick: Pick, deadline_at: float | None) -> PlainAttempt:
        return PlainAttempt(order, pick, self._request(order, pick), deadline_at)

    def _begin_stream(self, order: Order, pick: Pick, deadline_at: float | None) -> StreamAttempt:
        return StreamAttempt(order, pick, self._request(order, pick), deadline_at)

    def _request(self, order: Order, pick: Pick) -> Request:
        line = self._line(pick)
        channel, provider = line.pick.channel, line.provider
        body = write_request(
            order,
            channel.models[order.model],
            usage_in_streams=provider.usage_in_streams,
            requires_max_tokens=provider.requires_max_tokens,
            limit_field=provider.limit_field,
        )
        transport = self._sandbox if provider.is_sandbox else self._transport
        return Request(transport, Call(line.url, line.headers, body, channel.timeouts), provider.hides_output)

    def _line(self, pick: Pick) -> "_Line":
        at = pick.channel.id, pick.credential.id
        line = self._lines.get(at)
        if line is None or line.pick.channel is not pick.channel:  # new, or changed by an operator
            line = self._lines[at] = _line(pick)
        return line


class _Line(msgspec.Struct, frozen=True):
    """What every call over a channel with one credential has in common."""

    pick: Pick
    provider: Provider
    url: str
    headers: Mapping[str, str]


def _line(pick: Pick) -> _Line:
    provider = PROVIDERS[pick.channel.provider]
    headers = {"content-type": "application/json"}
    if pick.credential.secret is not None:
        headers[provider.auth_header] = provider.auth_prefix + pick.credential.secret.reveal()
    return _Line(pick, provider, endpoint(pick.channel.base_url), headers)
