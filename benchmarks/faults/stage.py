"""What a run needs, up: the fleet, the gateway in front of it, a customer; ended, by pid, whatever happened."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from benchmarks.chaos.money_in import AWAY
from benchmarks.chaos.office import Office
from benchmarks.faults.certificates import make_certificates
from benchmarks.faults.fleet import Orders
from benchmarks.faults.judge import Standing
from benchmarks.faults.load import Load
from benchmarks.faults.marks import MODEL, Visit
from benchmarks.faults.plan import NAMED_CHANNEL, TLS_CHANNEL, Spell
from benchmarks.faults.resolver import name_of, own_address, wrapping
from benchmarks.gateway import Cores, Gateway
from benchmarks.money import CREDIT_USD, PRICE_INPUT_USD, PRICE_OUTPUT_USD
from benchmarks.processes import inherited_cores

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

HERE = Path(__file__).parents[2]
_UPSTREAM_MODEL = "fleet-upstream"
_START_S = 30.0
_WATCH_EVERY_S = 0.5


class Timeouts(msgspec.Struct, frozen=True):
    """Of every channel, in milliseconds."""

    connect_ms: int = 500
    first_token_ms: int = 1_000
    idle_ms: int = 2_000
    total_ms: int = 15_000


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is made of. `routing` is the model's."""

    seed: int
    workers: int = 2
    timeouts: Timeouts = Timeouts()
    routing: dict[str, object] = {}


class Vendors:
    """The process of the fleet."""

    def __init__(self, directory: Path, spells: Sequence[Spell], core: int, resolver: str | None) -> None:
        self._visits = directory / "visits.json"
        orders = Orders(tuple(spells), str(directory), str(self._visits), resolver)
        with inherited_cores({core}):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.faults.fleet"],
                cwd=HERE,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        self._tell(msgspec.json.encode(orders))
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the fleet did not start")
        self.ports: list[int] = msgspec.json.decode(line)

    def start(self, started_s: float) -> None:
        """The spells count from then, in seconds of CLOCK_MONOTONIC."""
        self._tell(str(started_s).encode())

    def finish(self) -> list[Visit]:
        """End it; every request that it saw since it was made."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(_START_S)
        return msgspec.json.decode(self._visits.read_bytes(), type=list[Visit])

    def end(self) -> None:
        self._process.kill()
        self._process.wait()

    def _tell(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()


class Stage:
    """The parts of a run; `channels` gives each channel's number by its id."""

    def __init__(self, setting: Setting, directory: Path) -> None:
        self.setting, self.directory = setting, directory
        self.cores = Cores.of("one-core")
        address = own_address()
        through = wrapping(directory, address)
        self._resolver = address if through else None
        self.gateway = Gateway(directory, self.cores, workers=setting.workers, through=through)
        self.office = Office(f"http://127.0.0.1:{self.gateway.port}", self.gateway.admin_key)
        self.rng = random.Random(setting.seed)
        self.vendors: Vendors | None = None
        self.channels: dict[str, int] = {}
        self.account_id = ""
        self.standings: list[Standing] = []
        self._authority = make_certificates(directory)

    @property
    def has_names(self) -> bool:
        """A resolver of our own can be slow for the gateway."""
        return self._resolver is not None

    async def set_up(self, spells: Sequence[Spell]) -> Load:
        """The fleet with its spells, a channel to each of it, and a customer's load."""
        await asyncio.to_thread(self.gateway.wait_ready)
        self.vendors = Vendors(self.directory, spells, self.cores.harness, self._resolver)
        for number, port in enumerate(self.vendors.ports):
            made = await self.office.send("POST", "/channels", self._channel(number, port))
            self.channels[made["id"]] = number
        prices = {"input": PRICE_INPUT_USD, "output": PRICE_OUTPUT_USD}
        model = {"context_length": 8_192, "max_output_tokens": 1_024, "prices": prices}
        await self.office.send(
            "PUT", f"/models/{MODEL}", model | ({"routing": self.setting.routing} if self.setting.routing else {})
        )
        self.account_id = await self.office.new_account("fleet")
        await self.office.credit(self.account_id, CREDIT_USD, "fleet")
        _, key = await self.office.new_key(self.account_id, "fleet", {})
        return Load(self.gateway.port, key, self.rng)

    def _channel(self, number: int, port: int) -> dict[str, object]:
        host = name_of(number) if number == NAMED_CHANNEL and self.has_names else "127.0.0.1"
        scheme = "https" if number == TLS_CHANNEL else "http"
        channel: dict[str, object] = {
            "name": f"fleet {number}",
            "provider": "openai",
            "base_url": f"{scheme}://{host}:{port}/v1",
            "credentials": [f"not-a-secret-{number}"],
            "models": {MODEL: _UPSTREAM_MODEL},
            "timeouts": msgspec.to_builtins(self.setting.timeouts),
        }
        if number == TLS_CHANNEL:
            channel["shaping"] = {"tls": {"ca_pem": self._authority}}
        return channel

    async def put_right(self, spells: Sequence[Spell], started_s: float) -> None:
        """The operator, who renews a refused credential as soon as its vendor takes it again."""
        ids = {number: channel_id for channel_id, number in self.channels.items()}
        for spell in sorted(spells, key=lambda spell: spell.end_s):
            if spell.kind == "401":
                await asyncio.sleep(max(0.0, started_s + spell.end_s - time.monotonic()))
                body = {"credentials": [f"not-a-secret-{spell.channel}-{spell.end_s}"]}
                await self.office.send("PATCH", f"/channels/{ids[spell.channel]}", body)

    async def watch(self, started_s: float) -> None:
        """Until cancelled: what the gateway says of its channels, into `standings`."""
        while True:
            await asyncio.sleep(_WATCH_EVERY_S)
            began_s = time.monotonic() - started_s
            try:
                page = await self.office.send("GET", "/health/channels")
            except AWAY:  # on a busy machine an answer may be late; the next one says the same
                continue
            to_load_s = time.monotonic() - started_s - time.time()
            for shown in page["items"]:
                untils = [until for way in shown["credentials"] for until in (way["until"], *way["cooling"].values())]
                for until in filter(None, untils):
                    until_s = datetime.fromisoformat(until).timestamp() + to_load_s
                    if shown["channel_id"] in self.channels:
                        self.standings.append(Standing(self.channels[shown["channel_id"]], began_s, until_s))

    def end(self) -> None:
        if self.vendors is not None:
            self.vendors.end()
        self.gateway.stop()


@contextlib.asynccontextmanager
async def stage(setting: Setting, directory: Path) -> AsyncIterator[Stage]:
    """All of it ended, whatever happened."""
    made = Stage(setting, directory)
    try:
        yield made
    finally:
        await made.office.close()
        await asyncio.to_thread(made.end)
