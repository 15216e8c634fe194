"""A stream that has begun: bytes in, the customer's events out, and at its end the sum of what was delivered.

It owns the upstream connection. It never becomes another channel's stream, and an upstream that dies becomes an error.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import msgspec

from app.base.clock import now_ms
from app.base.receipt import Ending
from app.catalog.records import Channel
from app.proxy.records import Delivered, Order, Outcome, Try
from app.proxy.relay.answer_splitter import AnswerSplitter
from app.proxy.relay.bounds import (
    ANSWER_TOO_LARGE,
    ERROR_BYTES_MOST,
    HELD_BYTES_MOST,
    STREAM_BYTES_MOST,
    STREAM_LETTERS_MOST,
    has_too_many_parts,
)
from app.proxy.relay.dialects.openai_answer import BrokenAnswer, StreamReader, stands_empty
from app.proxy.relay.dialects.openai_usage import UsageRules
from app.proxy.relay.sse import EventTooLarge
from app.proxy.relay.upstream import Opened, UpstreamFault
from app.proxy.relay.verdict import tokens_taken

__all__ = ["LiveStream", "StreamCut", "read_whole"]

_DONE = b"[DONE]"
_LAST_READ_S = 0.2


class StreamCut(Exception):
    """The upstream died, stalled or broke off after its first content. The text says how, for the receipt."""


async def read_whole(opened: Opened) -> bytes:
    """The body of an error. Raises UpstreamFault, also where it is larger than ERROR_BYTES_MOST."""
    body = bytearray()
    while (chunk := await opened.read()) is not None:
        body += chunk
        if len(body) > ERROR_BYTES_MOST:
            raise UpstreamFault(ANSWER_TOO_LARGE)
    return bytes(body)


class Event(msgspec.Struct, frozen=True, gc=False):
    """One, as the customer sees it; and what had been read with it: characters of text, and output tokens as the vendor
    had counted them."""

    data: bytes
    letters: int
    counted: int | None


class LiveStream:
    """One answer, being streamed. `events` are those that `next` gave last; `stopped` says that delivery ended before
    the answer did, because nothing more of it is paid for."""

    def __init__(self, order: Order, channel: Channel, opened: Opened, usage_rules: UsageRules) -> None:
        self._order = order
        self.channel = channel
        self._opened = opened
        self._tries: tuple[Try, ...] = ()
        self._end_pick: Callable[[Outcome], None] | None = None
        self._splitter = AnswerSplitter()
        self.reader = StreamReader(order.model, order.wants_usage, order.answers, usage_rules)
        self.events: list[Event] = []
        self._held: list[Event] = []
        self._held_bytes = self._came_bytes = 0
        self._sent_letters = 0
        self._sent_frames = 0
        self.stopped = False
        self._delivered_letters: int | None = None
        self._done = False
        self._broken: str | None = None
        self.interrupted = False
        loop = asyncio.get_running_loop()
        self._time = loop.time
        self._total_at = loop.time() + channel.timeouts.total_ms / 1000
        self._idle_s = channel.timeouts.idle_ms / 1000
        self._leave_at: float | None = None
        self._scope: asyncio.Timeout | None = None
        self.bytes_after_leave = 0
        self.ttft_ms: int | None = None

    async def await_content(self) -> None:
        """Holds events back until one is content: up to there, another channel can still be asked.

        Raises UpstreamFault, EventTooLarge or BrokenAnswer; the caller bounds the wait.
        """
        while True:
            chunk = await self._opened.read()
            events, content = self._take(chunk)
            self._held += events
            if content:
                break
            if self._broken is not None:
                raise BrokenAnswer(self._broken)
            self._held_bytes += sum(len(event.data) for event in events)
            if self._held_bytes > HELD_BYTES_MOST:
                raise UpstreamFault(ANSWER_TOO_LARGE)
            if self._done or chunk is None:
                reader = self.reader
                if not stands_empty(reader.usage, reader.finish_reason, may_be_empty=self._order.may_be_empty):
                    raise BrokenAnswer("empty answer")
                break  # the vendor was paid for saying nothing: that is an answer
        self.ttft_ms = now_ms() - self._order.created_at_ms

    def take_over(self, tries: Sequence[Try], end_pick: Callable[[Outcome], None]) -> None:
        """This is the request's answer, and its own try the last of them: `end_pick` is called once when it ends."""
        self._tries = tuple(tries)
        self._end_pick = end_pick

    async def next(self) -> bytes | None:
        """The next events as the customer sees them, None when the answer is complete. Raises StreamCut."""
        if self._held:
            self.events, self._held = self._held, []
            return _joined(self.events)
        while not self._done:
            if self._broken is not None:
                raise StreamCut(self._broken)
            try:
                chunk = await self._read()
                self.events, _ = self._take(chunk)
            except UpstreamFault as fault:
                if self._broken is not None:
                    raise StreamCut(self._broken) from None
                if self.reader.finished:  # only the vendor's usage or its [DONE] is missing
                    return None
                raise StreamCut(fault.kind) from None
            except EventTooLarge:
                raise StreamCut("event too large") from None
            if chunk is None and not self._done:
                if not self.reader.finished:
                    self._broken = "cut off"
                self._done = self.reader.finished
            if self.events:
                return _joined(self.events)
        return None

    def sent(self) -> None:
        """What `next` gave last has been sent."""
        self._sent_letters = self.reader.output_letters
        self._sent_frames = self.reader.frames

    def stop(self, sent_events: int) -> None:
        """Of what `next` gave last so many events have been sent, and nothing follows them."""
        if sent_events:
            last = self.events[sent_events - 1]
            self._sent_letters = last.letters
            self._sent_frames += sent_events
        self.stopped = True
        self.stop_delivery()

    def closing_events(self, created_s: int) -> bytes:
        """What ends an answer that was stopped, as a vendor ends one at its limit of tokens."""
        return self.reader.closing_events(created_s, self._order.request_id, self._sent_frames)

    def leave(self, seconds: float) -> None:
        """The customer has gone: the rest is read for its usage, for so long at most."""
        self.stop_delivery()
        if self._leave_at is None:
            self._leave_at = self._time() + seconds
            self._wake_by(self._leave_at)

    def interrupt(self) -> None:
        """The worker stops: the answer ends here, with an error."""
        self.interrupted = True
        self._broken = "interrupted"
        self._wake_by(self._time())

    def _wake_by(self, at: float) -> None:
        """No read waits longer than until `at`."""
        when = None if self._scope is None else self._scope.when()
        if self._scope is not None and when is not None and when > at:
            with contextlib.suppress(RuntimeError):  # it has just ended
                self._scope.reschedule(at)

    def stop_delivery(self) -> None:
        """Nothing that is read from here on reaches the customer."""
        if self._delivered_letters is None:
            self._delivered_letters = self._sent_letters

    def delivered(self, ending: Ending, error: str | None = None) -> Delivered:
        """What this stream came to. `error` goes onto the try that served it."""
        self._end(error if ending == "cut" else None, is_abandoned=ending not in {"finished", "cut"})
        tries = list(self._tries)
        if error is not None:
            tries[-1] = msgspec.structs.replace(tries[-1], error=error)
        return Delivered(
            ending=ending,
            http_status=200,
            channel=self.channel,
            tries=tuple(tries),
            usage=self.reader.usage,
            is_usage_final=self.reader.is_usage_final,
            finish_reason="length" if self.stopped else self.reader.finish_reason,
            output=self.reader.output,
            delivered_letters=self._delivered_letters,
            ttft_ms=self.ttft_ms,
            service_tier=self.reader.service_tier,
        )

    async def close(self) -> None:
        """Ends the upstream call. Of an answer that is complete only the end of the body is left to read, and read it
        must be: else its connection can't be used again."""
        self._end(None, is_abandoned=True)
        if self._done:
            with contextlib.suppress(UpstreamFault, TimeoutError):
                async with asyncio.timeout(_LAST_READ_S):
                    while await self._opened.read() is not None:
                        pass
        await self._opened.close()

    def _end(self, error: str | None, *, is_abandoned: bool) -> None:
        if self._end_pick is not None:
            usage = self.reader.usage if self.reader.is_usage_final else None
            tokens = tokens_taken(usage, self._order.input_bound, self.reader.output_letters)
            end_pick, self._end_pick = self._end_pick, None
            end_pick(Outcome(http_status=200, error=error, tokens=tokens, is_abandoned=is_abandoned))

    async def _read(self) -> bytes | None:
        deadline = min(self._time() + self._idle_s, self._total_at)
        if self._leave_at is not None:
            deadline = min(deadline, self._leave_at)
        try:
            async with asyncio.timeout_at(deadline) as self._scope:
                chunk = await self._opened.read()
        except TimeoutError:
            raise UpstreamFault("timeout") from None
        if self._leave_at is not None and chunk is not None:
            self.bytes_after_leave += len(chunk)
        return chunk

    def _take(self, chunk: bytes | None) -> tuple[list[Event], bool]:
        """Reads the events of a chunk (None: the stream's end): what to show, and whether content was among it. Raises
        EventTooLarge, and UpstreamFault where the whole of the answer is too large."""
        reader = self.reader
        if chunk is not None:
            self._came_bytes += len(chunk)
            if self._came_bytes > STREAM_BYTES_MOST or reader.output_letters > STREAM_LETTERS_MOST:
                raise UpstreamFault(ANSWER_TOO_LARGE)
        payloads = self._splitter.finish() if chunk is None else self._splitter.feed(chunk)
        shown: list[Event] = []
        content = False
        for payload in payloads:
            if payload == _DONE:
                self._done = True
                self.reader.end()
                break
            if not payload.strip():
                continue
            if has_too_many_parts(payload):
                raise EventTooLarge
            try:
                frame = reader.read(payload)
            except BrokenAnswer as broken:
                if chunk is None and not self._splitter.is_whole:
                    break  # half an event, at the end
                # What came before the fault in the same chunk goes out first.
                self._broken = str(broken)
                break
            if frame.data:
                counted = None if reader.usage is None else reader.usage.output_tokens
                shown.append(Event(frame.data, reader.output_letters, counted))
            content = content or frame.content
        if chunk is None and self._splitter.is_whole and self._broken is None:
            self._done = True
            self.reader.end()
        return shown, content


def _joined(events: list[Event]) -> bytes:
    return events[0].data if len(events) == 1 else b"".join([event.data for event in events])
