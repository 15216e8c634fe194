"""The channels are tried in turn: each once, until one answers or the request itself is found at fault."""

import asyncio
from collections.abc import Sequence

from app.base.clock import monotonic_ms
from app.base.errors import NoChannel, TollgateError
from app.catalog.records import Channel
from app.proxy.records import Delivered, Order, Pick, Try, Usage
from app.proxy.relay.dialects.openai_answer import BrokenAnswer, read_plain
from app.proxy.relay.line import Lines
from app.proxy.relay.providers import PROVIDERS
from app.proxy.relay.sse import EventTooLarge
from app.proxy.relay.stream import LiveStream, read_whole
from app.proxy.relay.upstream import Opened, Transport, UpstreamFault
from app.proxy.relay.verdict import is_refusal, read_refusal, retry_after_s

__all__ = ["Relay", "RelayFailed"]

_RETRY_AFTER_S = 5
_FIRST_TOKEN_S = 60.0


class RelayFailed(Exception):
    """No channel gave an answer: `error` is for the customer, `tries` for the receipt."""

    def __init__(self, error: TollgateError, tries: Sequence[Try]) -> None:
        super().__init__(error.message)
        self.error = error
        self.tries = tuple(tries)


class _Tries:
    """What was tried so far, and when the vendors said to come back."""

    def __init__(self, model: str) -> None:
        self.made: list[Try] = []
        self._model = model
        self._retry_after_s: int | None = None
        self._started_ms = 0

    def start(self) -> None:
        self._started_ms = monotonic_ms()

    def end(
        self,
        channel: Channel,
        status: int | None,
        error: str | None,
        *,
        retry_after: str | None = None,
        usage: Usage | None = None,
    ) -> None:
        took = monotonic_ms() - self._started_ms
        self.made.append(
            Try(channel=channel, model=self._model, http_status=status, error=error, duration_ms=took, usage=usage)
        )
        wait = retry_after_s(retry_after)
        if wait is not None:
            self._retry_after_s = wait if self._retry_after_s is None else min(wait, self._retry_after_s)

    def exhausted(self) -> RelayFailed:
        return RelayFailed(NoChannel(self._retry_after_s or _RETRY_AFTER_S), self.made)

    def refused(self, status: int, body: bytes, channel: Channel, model: str) -> RelayFailed:
        self.end(channel, status, "refused")
        return RelayFailed(read_refusal(status, body, channel, model), self.made)


class Relay:
    """`transport` reaches real vendors, `sandbox` the built-in one."""

    def __init__(self, transport: Transport, sandbox: Transport) -> None:
        self._lines = Lines(transport, sandbox)

    async def fetch(self, order: Order, channels: Sequence[Channel]) -> tuple[Delivered, bytes]:
        """A whole answer, and what it came to. Raises RelayFailed."""
        tries = _Tries(order.model)
        for channel in channels:
            tries.start()
            transport, call = self._lines.call(order, Pick(channel, channel.ways[0]))
            try:
                plain = await transport.fetch(call)
            except UpstreamFault as fault:
                tries.end(channel, None, fault.kind)
                continue
            if is_refusal(plain.status):
                raise tries.refused(plain.status, plain.body, channel, order.model)
            if plain.status != 200:
                tries.end(channel, plain.status, "status", retry_after=plain.retry_after)
                continue
            try:
                answer = read_plain(plain.body, order.model, hides_output=PROVIDERS[channel.provider].hides_output)
            except BrokenAnswer as broken:
                tries.end(channel, 200, str(broken), usage=broken.usage)
                continue
            tries.end(channel, 200, None)
            delivered = Delivered(
                ending="finished",
                http_status=200,
                channel=channel,
                tries=tuple(tries.made),
                usage=answer.usage,
                finish_reason=answer.finish_reason,
                output=answer.output,
            )
            return delivered, answer.body
        raise tries.exhausted()

    async def open(self, order: Order, channels: Sequence[Channel]) -> LiveStream:
        """A stream whose first content has come. Raises RelayFailed."""
        tries = _Tries(order.model)
        for channel in channels:
            tries.start()
            transport, call = self._lines.call(order, Pick(channel, channel.ways[0]))
            opened: Opened | None = None
            stream: LiveStream | None = None
            try:
                async with asyncio.timeout(_first_token_s(channel)):
                    opened = await transport.open(call)
                    if is_refusal(opened.status):
                        raise tries.refused(opened.status, await read_whole(opened), channel, order.model)
                    if opened.status != 200:
                        tries.end(channel, opened.status, "status", retry_after=opened.retry_after)
                        continue
                    stream = LiveStream(
                        order, channel, opened, tries.made, hides_output=PROVIDERS[channel.provider].hides_output
                    )
                    await stream.await_content()
            except (UpstreamFault, EventTooLarge, TimeoutError) as fault:
                status = None if opened is None else opened.status
                tries.end(channel, status, _kind(fault), usage=_usage_of(stream))
                continue
            except BrokenAnswer as broken:
                tries.end(channel, 200, str(broken), usage=_usage_of(stream))
                continue
            else:
                tries.end(channel, 200, None)
                opened = None  # the stream owns it now
                return stream
            finally:
                if opened is not None:
                    await opened.close()
        raise tries.exhausted()

    async def close(self) -> None:
        await self._lines.close()


def _usage_of(stream: LiveStream | None) -> Usage | None:
    """What a stream that never came to content says that it took."""
    return None if stream is None else stream.reader.usage


def _kind(fault: Exception) -> str:
    if isinstance(fault, UpstreamFault):
        return fault.kind
    return "event too large" if isinstance(fault, EventTooLarge) else "first_token_timeout"


def _first_token_s(channel: Channel) -> float:
    timeouts = channel.timeouts
    first = _FIRST_TOKEN_S if timeouts.first_token_ms is None else timeouts.first_token_ms / 1000
    return min(first, timeouts.total_ms / 1000)
