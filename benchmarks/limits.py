"""Every kind of limit, driven by many clients at once: what was asked, what was admitted, what its definition says.

`python -m benchmarks.limits` starts a gateway of four workers, and lets 500 clients at each kind for `--seconds`: half
of them wait as they are told, half come again after half a second whatever they are told. Exits 1 where more was
admitted than the definition allows, or a count is not exact.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.table import Table

from tests.gateway import Gateway
from tests.operator_api import Operator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROMPT_TOKENS, OUTPUT_TOKENS, OUTPUT_LIMIT = 20, 30, 40
USED_TOKENS = PROMPT_TOKENS + OUTPUT_TOKENS
ESTIMATE_MOST = 400  # what one request here can be held for, in tokens
SERVING_S = 0.05
PRESS_S = 0.5


class Kind(msgspec.Struct, frozen=True):
    """One kind of limit. `ideal` is what it allows in so many seconds, of `unit`; `spare` how much more may be admitted
    because what a request uses is not known before it has run. With `is_count` nothing less will do either."""

    name: str
    unit: str  # requests, tokens or places
    ideal: Callable[[float], float]
    key: dict[str, Any] = {}
    account: dict[str, Any] = {}
    model: dict[str, Any] = {}
    keys: int = 1
    spare: int = 0
    is_count: bool = False


class Outcome(msgspec.Struct):
    kind: Kind
    asked: int = 0
    admitted: int = 0
    tokens: int = 0
    places_most: int = 0
    elapsed_s: float = 0.0
    by_key: Counter[int] = msgspec.field(default_factory=Counter)
    others: Counter[int] = msgspec.field(default_factory=Counter)  # answers that are neither 200 nor 429

    @property
    def counted(self) -> int:
        return {"requests": self.admitted, "tokens": self.tokens, "places": self.places_most}[self.kind.unit]

    @property
    def ideal(self) -> float:
        return self.kind.ideal(self.elapsed_s)

    @property
    def is_right(self) -> bool:
        if self.others or self.counted > self.ideal + self.kind.spare:
            return False
        return not self.kind.is_count or self.counted == self.ideal


def _a_minute(limit: int) -> Callable[[float], float]:
    return lambda elapsed_s: int(limit + limit * elapsed_s / 60)


def _exactly(amount: int) -> Callable[[float], float]:
    return lambda _: amount


def _limits(**limits: int) -> dict[str, Any]:
    return {"limits": limits}


def _budget(unit: str, amount: str | int, window: str) -> dict[str, Any]:
    return {"budgets": [{"unit": unit, "amount": amount, "window": window}]}


def kinds(scale: int) -> tuple[Kind, ...]:
    """All kinds, in the size of so many requests."""
    rate, day, cents = _a_minute(scale), _exactly(scale), f"{scale / 100:.2f}"
    tokens, spare = scale * USED_TOKENS, ESTIMATE_MOST
    places = min(20, scale)
    return (
        Kind("key, requests a minute", "requests", rate, key=_limits(rpm=scale)),
        Kind("account of two keys, requests a minute", "requests", rate, account=_limits(rpm=scale), keys=2),
        Kind("key, tokens a minute", "tokens", _a_minute(tokens), key=_limits(tpm=tokens), spare=spare),
        Kind("model, requests a minute", "requests", rate, model=_limits(rpm=scale), keys=2),
        Kind("key, requests a day", "requests", day, key=_limits(rpd=scale), is_count=True),
        Kind("account, tokens a day", "tokens", _exactly(tokens), account=_limits(tpd=tokens), spare=spare),
        Kind("key, at the same time", "places", _exactly(places), key=_limits(concurrency=places)),
        Kind("account, at the same time", "places", _exactly(places), account=_limits(concurrency=places), keys=2),
        Kind("key, requests a month", "requests", day, key=_budget("requests", scale, "month"), is_count=True),
        Kind("key, tokens a week", "tokens", _exactly(tokens), key=_budget("tokens", tokens, "week"), spare=spare),
        Kind("account, USD a day", "requests", day, account=_budget("usd", cents, "day"), keys=2, is_count=True),
    )


class Upstream:
    """A vendor that takes its time, and knows how many of its requests run at once."""

    def __init__(self) -> None:
        self.running = self.most = 0
        self._server: asyncio.Server | None = None
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": OUTPUT_TOKENS, "total_tokens": USED_TOKENS}
        choice = {"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}
        answer = {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [choice],
            "usage": usage,
        }
        body = json.dumps(answer).encode()
        self._answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
            len(body),
            body,
        )

    async def open(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await _read_message(reader):
                self.running += 1
                self.most = max(self.most, self.running)
                await asyncio.sleep(SERVING_S)
                self.running -= 1  # before the answer leaves: then the gateway may let the next one in
                writer.write(self._answer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the other side is done
        finally:
            writer.close()


async def _read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes] | None:
    """Head and body; None at the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, OSError):
        return None
    return head, await reader.readexactly(int(_header(head, b"content-length") or 0))


def _header(head: bytes, name: bytes) -> bytes | None:
    found = head.lower().find(b"\r\n" + name + b":")
    return None if found < 0 else head[found + len(name) + 3 : head.index(b"\r\n", found + 2)].strip()


class _Client:
    def __init__(self, port: int, key: str, model: str, number: int, outcome: Outcome) -> None:
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": OUTPUT_LIMIT}
        raw = json.dumps(body).encode()
        self._request = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(raw)}\r\n\r\n"
        ).encode() + raw
        self._port = port
        self._number = number
        self._outcome = outcome

    async def run(self, until_s: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while time.monotonic() < until_s:
            writer.write(self._request)
            self._outcome.asked += 1
            message = await _read_message(reader)
            if message is None:
                self._outcome.others[0] += 1
                break
            wait_s = self._note(*message)
            await asyncio.sleep(max(0.0, min(wait_s, until_s - time.monotonic())))
        writer.close()

    def _note(self, head: bytes, body: bytes) -> float:
        """How long to wait (s)."""
        status = int(head[9:12])
        if status == 200:
            self._outcome.admitted += 1
            self._outcome.by_key[self._number % self._outcome.kind.keys] += 1
            self._outcome.tokens += int(json.loads(body)["usage"]["total_tokens"])
            return 0.0
        if status != 429:
            self._outcome.others[status] += 1
            return PRESS_S
        told = _header(head, b"retry-after-ms")
        obeys = self._number % 4 < 2
        return int(told) / 1000 if obeys and told else PRESS_S


async def drive(kind: Kind, gateway: Gateway, clients: int, seconds: float) -> Outcome:
    """All clients at one limit, each on a connection of its own."""
    upstream = Upstream()
    base_url = f"http://127.0.0.1:{await upstream.open()}/v1"
    keys, model = await asyncio.to_thread(_set_up, kind, gateway, base_url)
    outcome = Outcome(kind)
    crowd = [_Client(gateway.port, keys[number % len(keys)], model, number, outcome) for number in range(clients)]
    started = time.monotonic()
    await asyncio.gather(*(client.run(started + seconds) for client in crowd))
    outcome.elapsed_s = time.monotonic() - started
    outcome.places_most = upstream.most
    return outcome


def _set_up(kind: Kind, gateway: Gateway, base_url: str) -> tuple[list[str], str]:
    operator = Operator(gateway.url)
    model = f"model-{secrets.token_hex(4)}"
    operator.put_model(model, prices={"input": "0", "output": "0", "request": "0.01"}, **kind.model)
    channel = {"name": model, "provider": "openai_compatible", "base_url": base_url, "models": {model: "m"}}
    operator.post("/channels", channel)
    account_id = operator.post("/accounts", {"name": kind.name})["id"]
    if kind.account:
        operator.patch(f"/accounts/{account_id}", kind.account)
    operator.credit(account_id, "1000.00", "all")
    keys = [str(operator.new_key(account_id, **kind.key)["key"]) for _ in range(kind.keys)]
    operator.close()
    return keys, model


def table_of(outcomes: Sequence[Outcome], title: str) -> Table:
    table = Table(title=title)
    for column in ("limit", "of", "asked", "admitted", "ideal", "by key", ""):
        table.add_column(column, justify="left" if column in ("limit", "of", "") else "right", no_wrap=True)
    for each in outcomes:
        shares = " ".join(str(each.by_key[number]) for number in range(each.kind.keys)) if each.kind.keys > 1 else ""
        verdict = "" if each.is_right else "WRONG"
        figures = (f"{each.asked:,}", f"{each.counted:,}", f"{each.ideal:,.0f}")
        table.add_row(each.kind.name, each.kind.unit, *figures, shares, verdict)
    return table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each kind")
    parser.add_argument("--workers", type=int, default=4)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tollgate-limits-") as name:
        gateway = Gateway(Path(name), TOLLGATE_WORKERS=str(given.workers), TOLLGATE_LOG_LEVEL="warning")
        gateway.start()
        try:
            outcomes = [asyncio.run(drive(kind, gateway, given.clients, given.seconds)) for kind in kinds(600)]
        finally:
            gateway.stop()
    title = f"{given.clients} clients, {given.workers} workers, {given.seconds:g} s each"
    Console(width=130).print(table_of(outcomes, title))
    return 0 if all(each.is_right for each in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
