"""`python -m benchmarks.posting`: how fast receipts become rows, and how long one waits for it.

Two figures. Throughput: batches of 2,000 made beforehand are posted one after the other. Lag: another process appends
receipts to the shards' streams at a steady rate, a bookkeeper posts them, and each waits from its entry in the stream
to the acknowledgement after its commit. The database has
core 1 to itself; what posts, Redis and the feeder have core 0.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import random
import resource
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec
import redis
import uvloop

from app.base.database import Database
from app.base.ids import new_id, shard_of
from app.base.receipt import Attempt, Receipt, Usage
from app.base.wire import Wire
from app.ledger.bookkeeper import Bookkeeper
from app.ledger.items import StreamedReceipt
from app.ledger.journal import open_wallet
from app.ledger.posting import post
from app.ledger.stream import Entry, ReceiptStreams
from app.quota.wallets import Wallets
from app.schema import migrate
from benchmarks.gateway import postgres
from benchmarks.processes import Tree, inherited_cores
from tests.servers import RedisServer

_SHARDS = 64
_BATCH = 2000
_TICK_S = 0.02


def make_receipt(account_id: str) -> Receipt:
    """One request that a channel served, as the proxy writes it."""
    usage = Usage(input_tokens=1200, output_tokens=350, cached_input_tokens=800)
    cost = random.randrange(1_000, 900_000)
    attempt = Attempt(
        channel_id=f"chn_{random.randrange(4)}",
        http_status=200,
        error=None,
        duration_ms=900,
        cost_nano=cost,
        cost_version="prc_cost",
    )
    return Receipt(
        request_id=new_id("req"),
        created_at_ms=time.time_ns() // 1_000_000,
        account_id=account_id,
        key_id=f"key_{account_id[-4:]}",
        dialect="openai_chat",
        model=f"model-{random.randrange(3)}",
        stream=True,
        status="ok",
        http_status=200,
        price_version="prc_sale",
        amount_nano=cost * 2,
        upstream_cost_nano=cost,
        upstream_model="model",
        channel_id=attempt.channel_id,
        finish_reason="stop",
        usage=usage,
        usage_source="upstream",
        attempts=(attempt,),
        ttft_ms=300,
        duration_ms=900,
    )


def _own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def throughput(database: Database, accounts: list[str], count: int, tree: Tree) -> None:
    items = [StreamedReceipt(make_receipt(random.choice(accounts)), 0) for _ in range(count)]
    await post(database, items[:_BATCH])
    items = items[_BATCH:]
    started, own, servers = time.perf_counter(), _own_cpu_s(), tree.cpu_s()
    for batch in _batched(items):
        await post(database, batch)
    took = time.perf_counter() - started
    server = tree.cpu_s().get("postgres", 0.0) - servers.get("postgres", 0.0)
    own = _own_cpu_s() - own
    print(f"throughput: {len(items) / took:,.0f} receipts/s ({len(accounts)} accounts, batches of {_BATCH})")
    print(f"CPU a receipt: {own / len(items) * 1e6:.0f} us here, {server / len(items) * 1e6:.0f} us in PostgreSQL")


def _batched(items: list[StreamedReceipt]) -> list[list[StreamedReceipt]]:
    return [items[start : start + _BATCH] for start in range(0, len(items), _BATCH)]


class _TimedStreams(ReceiptStreams):
    """Notes how long each entry has waited when it is acknowledged, in ms."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire, _SHARDS)
        self.lags: list[int] = []

    async def acknowledge(self, entries: list[Entry]) -> None:  # type: ignore[override]
        now = time.time_ns() // 1_000_000
        self.lags += [now - int(entry.id.partition(b"-")[0]) for entry in entries]
        await super().acknowledge(entries)


def feed(url: str, accounts: list[str], rate: int, seconds: float) -> None:
    """Appends `rate` receipts a second to the streams; never more to catch up, so that a late feeder offers less."""
    client = redis.Redis.from_url(url)
    encode = msgspec.json.Encoder().encode
    made = [encode(make_receipt(random.choice(accounts))) for _ in range(200)]
    known = [msgspec.json.decode(each)["request_id"].encode() for each in made]
    streams = [f"{{s{shard_of(msgspec.json.decode(each)['account_id'], _SHARDS)}}}:receipts" for each in made]
    started, sent = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < seconds:
        pipe = client.pipeline(transaction=False)
        for _ in range(int(rate * elapsed) - sent):
            pick = sent % len(made)
            pipe.xadd(streams[pick], {"r": made[pick].replace(known[pick], new_id("req").encode())})
            sent += 1
        pipe.execute()
        time.sleep(_TICK_S)


async def lag(database: Database, accounts: list[str], url: str, rate: int, seconds: float) -> None:
    wire = Wire(url)
    await wire.open()
    streams = _TimedStreams(wire)

    async def price(_version: str, _usage: Usage, _multiplier: int) -> int | None:
        return None

    bookkeeper = Bookkeeper(database, streams, Wallets(wire, _SHARDS), price, sweep_every_ms=5_000, lease_ms=60_000)
    stopping = asyncio.Event()
    feeder = multiprocessing.get_context("spawn").Process(target=feed, args=(url, accounts, rate, seconds))
    running = asyncio.create_task(bookkeeper.run(stopping))
    feeder.start()
    began = time.perf_counter()
    own = _own_cpu_s()
    while feeder.is_alive():
        await asyncio.sleep(0.2)
    stopping.set()
    await running
    took = time.perf_counter() - began
    await wire.close()
    lags = sorted(streams.lags)
    points = ", ".join(f"p{point} {lags[int(len(lags) * point / 100)]} ms" for point in (50, 90, 99))
    print(f"lag: {len(lags):,} receipts, {len(lags) / seconds:,.0f}/s offered: {points}, most {lags[-1]} ms")
    print(f"the bookkeeper took {(_own_cpu_s() - own) / took * 100:.0f} % of a core")


async def run(options: argparse.Namespace, url: str, redis_url: str, tree: Tree) -> None:
    database = Database(url)
    await migrate(database)
    accounts = [new_id("acc") for _ in range(options.accounts)]
    async with database.write() as db:
        for account_id in accounts:
            await open_wallet(db, account_id)
    await throughput(database, accounts, options.receipts, tree)
    await lag(database, accounts, redis_url, options.rate, options.seconds)
    await database.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.posting", description=__doc__)
    parser.add_argument("--database", choices=("postgres", "sqlite"), default="postgres")
    parser.add_argument("--receipts", type=int, default=40_000, help="posted for the throughput")
    parser.add_argument("--accounts", type=int, default=1_000)
    parser.add_argument("--rate", type=int, default=5_000, help="offered a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pids = []
        url = f"sqlite+aiosqlite:///{directory / 'posting.db'}"
        if options.database == "postgres":
            url, pid = stack.enter_context(postgres(directory, 1))
            pids = [pid]
        stack.enter_context(inherited_cores({0}))
        server = RedisServer()
        stack.callback(server.stop)
        uvloop.run(run(options, url, server.url, Tree(pids, directory / "postgres")))


if __name__ == "__main__":
    main()
