"""One attempt: a pick is asked once, and answers, or fails in a way that says what it means.

A stream is an answer from its first content on. Until then another pick can still be asked; after it, never.
"""

import asyncio
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import msgspec

from app.base.clock import monotonic_ms, now_ms
from app.base.errors import VendorRefused
from app.catalog.records import Channel
from app.proxy.records import Order, Pick, Usage
from app.proxy.relay.bounds import ANSWER_TOO_LARGE, has_too_many_parts
from app.proxy.relay.channel_faults import channel_fault
from app.proxy.relay.dialects.openai_answer import BrokenAnswer, PlainAnswer, read_plain
from app.proxy.relay.dialects.openai_usage import UsageRules
from app.proxy.relay.sse import EventTooLarge
from app.proxy.relay.stream import LiveStream, read_whole
from app.proxy.relay.upstream import Call, Opened, Transport, UpstreamFault
from app.proxy.relay.verdict import is_answer, is_overflow, is_refusal, read_refusal, retry_after_ms

__all__ = ["DEADLINE", "Attempt", "AttemptFailed", "PlainAttempt", "Request", "StreamAttempt", "has_passed"]

DEADLINE = "deadline"
_FIRST_TOKEN_S = 60.0
_TIMERS_EARLY_S = 0.002  # the loop's, at most: they count whole milliseconds

T = TypeVar("T")


class AttemptFailed(Exception):
    """`error` is for the receipt. `refusal` is what the customer is told where the vendor found fault with the request
    itself, `is_overflow` that the fault was its length. `is_unfit`: the fault was the channel's, see `Outcome`."""

    def __init__(
        self,
        error: str,
        *,
        retry_after_ms: int | None = None,
        refusal: VendorRefused | None = None,
        is_overflow: bool = False,
        is_unfit: bool = False,
    ) -> None:
        super().__init__(error)
        self.error = error
        self.retry_after_ms = retry_after_ms
        self.refusal = refusal
        self.is_overflow = is_overflow
        self.is_unfit = is_unfit


class Request(msgspec.Struct, frozen=True):
    """What one pick is sent, and by which transport. `usage_rules` are the vendor's, see `read_usage`."""

    transport: Transport
    call: Call
    usage_rules: UsageRules


class Attempt(ABC, Generic[T]):
    """`deadline_at` is in the loop's time. `http_status` and `usage` are what the vendor has said so far, answered or
    not."""

    def __init__(self, order: Order, pick: Pick, request: Request, deadline_at: float | None) -> None:
        self.pick = pick
        self.http_status: int | None = None
        self._order = order
        self._request = request
        self._deadline_at = deadline_at
        self._started_ms = monotonic_ms()

    @property
    def duration_ms(self) -> int:
        return monotonic_ms() - self._started_ms

    @property
    @abstractmethod
    def usage(self) -> Usage | None: ...

    @abstractmethod
    async def run(self) -> T:
        """Once. Raises AttemptFailed."""

    async def discard(self, answer: T) -> None:
        """The answer is not wanted any more."""

    def _status_failure(self, status: int, body: bytes, wait: str | None, wait_ms: str | None) -> AttemptFailed:
        """A status that is no answer's. `body` is needed only where it refuses the request."""
        if not is_refusal(status):
            return AttemptFailed("status", retry_after_ms=retry_after_ms(wait, wait_ms, now_ms()))
        refusal = read_refusal(status, body, self.pick.channel, self._order.model)
        if is_overflow(status, body):
            return AttemptFailed("prompt too long", refusal=refusal, is_overflow=True)
        if (fault := channel_fault(status, body)) is not None:
            return AttemptFailed(fault, is_unfit=True)
        return AttemptFailed("refused", refusal=refusal)


class PlainAttempt(Attempt[PlainAnswer]):
    _usage: Usage | None = None

    @property
    def usage(self) -> Usage | None:
        return self._usage

    async def run(self) -> PlainAnswer:
        request = self._request
        try:
            if self._deadline_at is None:
                plain = await request.transport.fetch(request.call)
            else:
                async with asyncio.timeout_at(self._deadline_at):
                    plain = await request.transport.fetch(request.call)
        except UpstreamFault as fault:
            raise AttemptFailed(fault.kind) from None
        except TimeoutError:
            raise AttemptFailed(DEADLINE) from None
        self.http_status = plain.status
        if not is_answer(plain.status):
            raise self._status_failure(plain.status, plain.body, plain.retry_after, plain.retry_after_ms)
        if has_too_many_parts(plain.body):
            raise AttemptFailed(ANSWER_TOO_LARGE)
        try:
            answer = read_plain(
                plain.body, self._order.model, request.usage_rules, may_be_empty=self._order.may_be_empty
            )
        except BrokenAnswer as broken:
            self._usage = broken.usage
            raise AttemptFailed(str(broken)) from None
        self._usage = answer.usage
        return answer


class StreamAttempt(Attempt[LiveStream]):
    _stream: LiveStream | None = None

    @property
    def usage(self) -> Usage | None:
        return None if self._stream is None else self._stream.reader.usage

    async def run(self) -> LiveStream:
        request, channel = self._request, self.pick.channel
        opened: Opened | None = None
        try:
            async with asyncio.timeout_at(self._content_by()):
                opened = await request.transport.open(request.call)
                self.http_status = opened.status
                if not is_answer(opened.status):
                    body = await self._refusal(opened) if is_refusal(opened.status) else b""
                    raise self._status_failure(opened.status, body, opened.retry_after, opened.retry_after_ms)
                stream = LiveStream(self._order, channel, opened, request.usage_rules)
                self._stream = stream
                await stream.await_content()
            opened = None  # the stream owns it now
            return stream
        except UpstreamFault as fault:
            raise AttemptFailed(fault.kind) from None
        except EventTooLarge:
            raise AttemptFailed("event too large") from None
        except BrokenAnswer as broken:
            raise AttemptFailed(str(broken)) from None
        except TimeoutError:
            raise AttemptFailed(DEADLINE if has_passed(self._deadline_at) else "first_token_timeout") from None
        finally:
            if opened is not None:
                await opened.close()

    async def _refusal(self, opened: Opened) -> bytes:
        """Its body. Raises UpstreamFault; the status of one that does not come whole says nothing about the request."""
        try:
            return await read_whole(opened)
        except UpstreamFault:
            self.http_status = None
            raise

    async def discard(self, answer: LiveStream) -> None:
        await answer.close()

    def _content_by(self) -> float:
        first_token_at = asyncio.get_running_loop().time() + _first_token_s(self.pick.channel)
        return first_token_at if self._deadline_at is None else min(first_token_at, self._deadline_at)


def has_passed(at: float | None) -> bool:
    """Whether a deadline in the loop's time is over: also where its own timer was a little early."""
    return at is not None and asyncio.get_running_loop().time() >= at - _TIMERS_EARLY_S


def _first_token_s(channel: Channel) -> float:
    timeouts = channel.timeouts
    first = _FIRST_TOKEN_S if timeouts.first_token_ms is None else timeouts.first_token_ms / 1000
    return min(first, timeouts.total_ms / 1000)
