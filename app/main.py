"""Builds and joins everything. Nobody imports this but the command line."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import redis.asyncio as redis
from litestar import Litestar, Router, get
from litestar.datastructures import State
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.response import Response
from redis.exceptions import RedisError

from app.base.crypto import Sealer
from app.base.database import Database
from app.base.errors import ServiceUnavailable
from app.base.events import announce, follow
from app.base.ids import digest
from app.base.money import format_usd
from app.base.receipt import Usage
from app.base.redis import connect, embedded_url
from app.base.wire import Wire
from app.catalog.customers import key_of_secret
from app.catalog.installation import read_installation
from app.catalog.offers import prices_of
from app.catalog.pricing import Prices, amount_nano
from app.catalog.records import Key
from app.catalog.snapshot import EMPTY, Snapshot, load_snapshot
from app.console.accounts import AccountsController, KeysController
from app.console.books import BooksController
from app.console.offers import ChannelsController, ModelsController
from app.console.office import Office, operator_guard
from app.console.problems import show_problem
from app.ledger.bookkeeper import Bookkeeper
from app.ledger.rebuild import apply_credits, rebuild_wallet
from app.ledger.reports import find_receipt
from app.ledger.stream import ReceiptStreams
from app.ledger.verify import Verdict, verify
from app.proxy.access import Keyring
from app.proxy.admission import AdmissionDesk
from app.proxy.door import make_door
from app.proxy.journey import Journey
from app.proxy.relay import Relay
from app.proxy.relay.probe import probe_channel
from app.proxy.relay.providers import PROVIDERS
from app.proxy.relay.sandbox import SandboxTransport
from app.proxy.relay.upstream import VendorTransport
from app.proxy.settlement import Clerk, Leases
from app.quota.gate import Gate
from app.quota.wallets import Wallets
from app.settings import Settings

__all__ = ["Books", "create_app", "make_bookkeeper", "open_books", "redis_url"]

log = logging.getLogger("tollgate")


def redis_url(settings: Settings) -> str:
    return settings.redis_url or embedded_url(settings.data_dir)


class Books:
    """The back rooms, joined: what the bookkeeper, verify and the workers have in common."""

    def __init__(self, settings: Settings, installation: dict[str, str]) -> None:
        self.settings = settings
        self.shards = int(installation["shards"])
        self.admin_digest = digest(settings.admin_key) if settings.admin_key else bytes.fromhex(installation["admin"])
        self.database = Database(settings.database_url)
        self.wire = Wire(redis_url(settings))
        self.wallets = Wallets(self.wire, self.shards)
        self.sealer = Sealer(settings.secret_key)
        self._prices: dict[str, Prices | None] = {}

    async def open(self) -> None:
        await self.wire.open()

    async def close(self) -> None:
        await self.wire.close()
        await self.database.close()

    async def warm_wallet(self, account_id: str) -> None:
        await rebuild_wallet(self.database, self.wallets, account_id)

    async def apply_credits(self, account_id: str) -> None:
        await apply_credits(self.database, self.wallets, account_id)

    async def verify(self) -> Verdict:
        return await verify(self.database, self.wallets, self._recompute)

    async def find_key(self, secret_digest: bytes) -> Key | None:
        async with self.database.read() as db:
            return await key_of_secret(db, secret_digest)

    async def find_receipt(self, request_id: str, account_id: str) -> dict[str, object] | None:
        async with self.database.read() as db:
            return await find_receipt(db, request_id, account_id)

    async def _recompute(
        self,
        price_version: str,
        input_tokens: int,
        output_tokens: int,
        cached_input_tokens: int,
        cache_write_tokens: int,
    ) -> int | None:
        if price_version not in self._prices:
            async with self.database.read() as db:
                self._prices[price_version] = (await prices_of(db, {price_version})).get(price_version)
        prices = self._prices[price_version]
        usage = Usage(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cached_input_tokens=cached_input_tokens,
            cache_write_tokens=cache_write_tokens,
        )
        return None if prices is None else amount_nano(prices, usage)


async def open_books(settings: Settings) -> Books:
    """Raises ServiceUnavailable; LookupError before the first start."""
    database = Database(settings.database_url)
    try:
        async with database.read() as db:
            installation = await read_installation(db)
    finally:
        await database.close()
    if not installation:
        raise LookupError("this database has no Tollgate in it yet: run `tollgate serve` or `tollgate migrate`")
    books = Books(settings, installation)
    await books.open()
    return books


def make_bookkeeper(books: Books) -> Bookkeeper:
    sweep_every_ms = max(200, min(5_000, books.settings.lease_seconds * 1000 // 4))
    streams = ReceiptStreams(books.wire, books.shards)
    return Bookkeeper(books.database, streams, books.wallets, sweep_every_ms)


class _Worker:
    """One worker's rooms, and what it knows of the catalogue."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.snapshot: Snapshot = EMPTY
        self.events: redis.Redis = connect(redis_url(books.settings))
        gate = Gate(books.wire, books.settings.lease_seconds * 1000)
        self.keyring = Keyring(books.find_key, books.shards)
        self.leases = Leases(gate)
        self.clerk = Clerk(gate, self.leases)
        self.relay = Relay(VendorTransport(), SandboxTransport())
        self.journey = Journey(
            keyring=self.keyring,
            desk=AdmissionDesk(gate, books.warm_wallet),
            relay=self.relay,
            clerk=self.clerk,
            leases=self.leases,
            snapshot=lambda: self.snapshot,
            find_receipt=books.find_receipt,
            format_usd=format_usd,
        )

    async def heard(self, event: str) -> None:
        kind, _, name = event.partition(":")
        if kind == "key":
            self.keyring.forget(name)
        elif kind == "catalog":
            await self.reload()

    async def missed(self) -> None:
        self.keyring.forget_all()
        await self.reload()

    async def reload(self) -> None:
        try:
            self.snapshot = await load_snapshot(self.books.database, self.books.sealer)
        except ServiceUnavailable:
            log.warning("the catalogue could not be read again: the last one stands")

    async def announce(self, event: str) -> None:
        await self.heard(event)  # this worker at once: its operator's next request may come to it
        await announce(self.events, event)

    @asynccontextmanager
    async def working(self, _app: Litestar) -> AsyncIterator[None]:
        """Litestar's lifespan: up before the first request, down after the last."""
        await self.reload()
        tasks = [
            asyncio.create_task(follow(self.events, self.heard, self.missed), name="events"),
            asyncio.create_task(self.leases.keep(), name="leases"),
        ]
        try:
            yield
        finally:
            await self.clerk.drain()
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await self.relay.close()
            await self.events.aclose()
            await self.books.close()


def create_app(books: Books) -> Litestar:
    """The ASGI application of one worker. `books` must be open, in the loop that will serve."""
    worker = _Worker(books)
    office = Office(
        database=books.database,
        sealer=books.sealer,
        wallets=books.wallets,
        admin_digest=books.admin_digest,
        default_base_urls={name: provider.base_url for name, provider in PROVIDERS.items()},
        announce=worker.announce,
        apply_credits=books.apply_credits,
        verify=books.verify,
        probe_channel=lambda channel, model: probe_channel(worker.relay, channel, model),
    )
    admin = Router(
        "/admin/v1",
        route_handlers=[AccountsController, KeysController, ChannelsController, ModelsController, BooksController],
        guards=[operator_guard],
        dependencies={"office": Provide(lambda: office, sync_to_thread=False)},
    )
    return Litestar(
        route_handlers=[*make_door(worker.journey, books.settings.max_body_bytes), admin, *_health(worker)],
        state=State({"office": office}),
        exception_handlers={Exception: show_problem},
        lifespan=[worker.working],
        openapi_config=OpenAPIConfig(title="Tollgate operator API", version="1"),
        request_max_body_size=books.settings.max_body_bytes,
    )


def _health(worker: _Worker) -> list[Any]:
    @get("/health/live")
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    @get("/health/ready")
    async def ready() -> Response[dict[str, str]]:
        try:
            await worker.books.database.ping()
        except ServiceUnavailable:
            return Response({"status": "unavailable", "reason": "the database can't be reached"}, status_code=503)
        try:
            await worker.books.wire.call(b"PING")
        except (ServiceUnavailable, RedisError):
            return Response({"status": "unavailable", "reason": "Redis can't be reached"}, status_code=503)
        return Response({"status": "ok"})

    return [live, ready]
