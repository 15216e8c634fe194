"""A load generator: keep-alive connections in a closed loop, a few microseconds of CPU a request, figures as
JSON.

Each connection sends the next request when the last one was answered, until the time or the number of
requests is up; what is in flight then is waited for, so that every request sent is also answered and can be
found in the books. With `--stream` it also reads the numbered, time-stamped frames of `benchmarks.upstream`.

It runs as a process of its own. It refuses every address that is not loopback, and gives up after too many
errors.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import ipaddress
import sys
import time
from array import array
from collections import Counter
from typing import cast

import msgspec
import uvloop

from benchmarks.exchange import DRAIN_S, Figures, Load, percentile_ms
from benchmarks.frames import FrameTally
from benchmarks.responses import MalformedResponseError, ResponseReader

ERRORS_MAX = 1000
_GOLDEN = (5**0.5 - 1) / 2


class Run:
    """The shared state of a run: what is left of time and requests, what was seen, who is still busy."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.payload = load.payload()
        self.latencies_ns = array("q")
        self.statuses: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        self.in_window = 0
        self.tally = FrameTally(load.frames) if load.stream else None
        self.clients: set[Client] = set()
        self.open = load.connections
        self.done = asyncio.Event()
        self._connecting: set[asyncio.Task[None]] = set()
        self._left = load.requests_max
        self.window_ns = time.monotonic_ns() + int(load.ramp_s * 1e9)
        self.deadline_ns = self.window_ns + int(load.duration_s * 1e9)
        self._last_ns = self.deadline_ns

    def goes_on(self, now_ns: int) -> bool:
        """Whether there is time, a request and patience left."""
        return now_ns < self.deadline_ns and self._left > 0 and self.errors.total() < ERRORS_MAX

    def take(self, now_ns: int) -> bool:
        """Take one request from what is left; False when nothing is."""
        if not self.goes_on(now_ns):
            return False
        self._left -= 1
        return True

    def record(self, status: int, started_ns: int, now_ns: int) -> None:
        """One request was answered in full."""
        self.statuses[status] += 1
        self.latencies_ns.append(now_ns - started_ns)
        if self.window_ns <= now_ns < self.deadline_ns:
            self.in_window += 1
            self._last_ns = now_ns

    def window_s(self) -> float:
        """The time that rates are taken over; it ends with the last answer when the requests ran out."""
        return max(1, (self.deadline_ns if self._left else self._last_ns) - self.window_ns) / 1e9

    def reconnect(self) -> None:
        """Open another connection in the place of one that was lost."""
        task = asyncio.get_running_loop().create_task(self.connect())
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def leave(self) -> None:
        """A connection has ended for good."""
        self.open -= 1
        if self.open == 0:
            self.done.set()

    async def connect(self, delay_s: float = 0.0) -> None:
        """Open a connection; it keeps itself busy until the run is over."""
        await asyncio.sleep(delay_s)
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: Client(self), self.load.host, self.load.port)
        except OSError as error:
            self.errors[f"connect: {type(error).__name__}"] += 1
            self.leave()


class Client(asyncio.Protocol):
    """One connection, one request at a time."""

    __slots__ = ("_busy", "_reader", "_run", "_started_ns", "_stream", "_transport")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._reader = ResponseReader()
        self._stream = run.tally.open() if run.tally else None
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._run.clients.add(self)
        self._send(time.monotonic_ns())

    def _send(self, now_ns: int) -> None:
        run = self._run
        if not run.take(now_ns):
            self._transport.close()
            return
        self._busy = True
        self._started_ns = now_ns
        if self._stream:
            self._stream.start(now_ns, run.window_ns, run.deadline_ns)
        self._transport.write(run.payload)

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        now_ns = time.monotonic_ns()
        try:
            whole = reader.feed(data)
        except (MalformedResponseError, ValueError):
            self._fail("malformed response")
            return
        if self._stream and reader.status == 200:
            self._stream.read(reader.body, now_ns)
        if not whole:
            return
        if self._stream and reader.status == 200:
            self._stream.end()
        self._busy = False
        self._run.record(reader.status, self._started_ns, now_ns)
        closing = reader.closing
        reader.reset()
        if closing:
            self._transport.close()
        else:
            self._send(now_ns)

    def _fail(self, reason: str) -> None:
        self._busy = False
        self._run.errors[reason] += 1
        if self._stream and self._reader.status == 200:
            self._stream.end()
        self._transport.abort()

    def give_up(self) -> None:
        """The time to wait for what is in flight has passed."""
        if self._busy:
            self._fail("unfinished")

    def connection_lost(self, exc: Exception | None) -> None:
        run = self._run
        run.clients.discard(self)
        if self._busy:
            self._fail("connection lost")
        if run.goes_on(time.monotonic_ns()):
            run.reconnect()
        else:
            run.leave()


async def generate(load: Load) -> Figures:
    """Run the load to its end. Raises ValueError for an address that is not loopback."""
    if not ipaddress.ip_address(load.host).is_loopback:
        raise ValueError(f"{load.host} is not a loopback address")
    cpu_start_s = time.process_time()
    run = Run(load)
    # Multiples of the golden ratio spread the starts evenly and off the common beat of the frames.
    delays_s = [load.ramp_s * (number * _GOLDEN % 1) for number in range(load.connections)]
    connecting = [asyncio.create_task(run.connect(delay_s)) for delay_s in delays_s]
    try:
        await asyncio.wait_for(run.done.wait(), load.ramp_s + load.duration_s + DRAIN_S)
    except TimeoutError:
        for client in list(run.clients):
            client.give_up()
    await asyncio.gather(*connecting)
    latencies_ns = sorted(run.latencies_ns)
    cpu_s = time.process_time() - cpu_start_s
    return Figures(
        requests=len(latencies_ns),
        requests_per_s=run.in_window / run.window_s(),
        p50_ms=percentile_ms(latencies_ns, 0.50),
        p90_ms=percentile_ms(latencies_ns, 0.90),
        p99_ms=percentile_ms(latencies_ns, 0.99),
        statuses={str(status): count for status, count in sorted(run.statuses.items())},
        errors=dict(run.errors),
        cpu_us_per_request=cpu_s * 1e6 / max(1, len(latencies_ns)),
        stream=run.tally.figures(run.window_s(), percentile_ms) if run.tally else None,
    )


def main() -> None:
    """Read the command line, or with `--spec` a JSON `Load` from standard input; print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--port", type=int)
    parser.add_argument("--path", default="/v1/chat/completions")
    parser.add_argument("--header", action="append", default=[], metavar="NAME:VALUE")
    parser.add_argument("--body", default="", help="sent by POST; without one, GET")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--duration-s", type=float, default=2.0)
    parser.add_argument("--requests-max", type=int, default=200_000)
    parser.add_argument("--ramp-s", type=float, default=0.0, help="spread the first requests over this time")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--frames", type=int, default=30, help="content frames of a whole stream")
    parser.add_argument("--spec", action="store_true", help="read all of this as one JSON object from standard input")
    given = vars(parser.parse_args())
    if given.pop("spec"):
        load = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    elif given["port"] is None:
        parser.error("--port is needed")
    else:
        pairs = [header.partition(":") for header in given.pop("header")]
        load = Load(headers={name.strip(): value.strip() for name, _, value in pairs}, **given)
    gc.disable()  # nothing here makes cycles, and a collection would show up as latency
    print(msgspec.json.encode(uvloop.run(generate(load))).decode())


if __name__ == "__main__":
    main()
