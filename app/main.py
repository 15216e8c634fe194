"""`create_app`: builds and joins both planes. Nobody imports this but the processes that serve."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import redis.asyncio as redis
from litestar import Litestar, Router, get
from litestar.datastructures import State
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.handlers import ASGIRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.response import Response
from litestar.types import Receive, Scope, Send
from redis.exceptions import RedisError

from app.base.errors import ServiceUnavailable
from app.base.events import announce, follow
from app.base.guesses import Guesses
from app.base.money import format_usd
from app.base.redis import connect
from app.base.tasks import end_all
from app.books import Books, redis_url
from app.budget_alerts import BudgetAlerts
from app.catalog.snapshot import EMPTY, Snapshot, load_snapshot
from app.console.accounts import AccountsController
from app.console.apply import ApplyController
from app.console.books import BooksController
from app.console.channels import ChannelsController
from app.console.corrections import CorrectionsController
from app.console.events import ChannelEventsController
from app.console.health import HealthController
from app.console.journal import JournalController
from app.console.keys import AccountKeysController, KeysController
from app.console.models import ModelsController
from app.console.office import Office
from app.console.operators import OperatorsController
from app.console.page import console_asset, console_page
from app.console.prices import PriceBooksController, PricesController
from app.console.problems import show_problem
from app.console.remit import given_remit, operator_guard
from app.console.routes import RoutesController
from app.console.statements import ReportsController, StatementsController
from app.console.vouchers import VouchersController
from app.console.webhooks import AlertsController, WebhooksController
from app.counters import Counters
from app.key_desk import KeyDesk
from app.proxy.access import Keyring, LastUse
from app.proxy.admission import AdmissionDesk
from app.proxy.counter import Counter
from app.proxy.dispatch import Dispatcher, Health, News
from app.proxy.door import hot_paths, make_door
from app.proxy.issuing import Issuing
from app.proxy.journey import Journey
from app.proxy.own_key import OwnKey
from app.proxy.relay import Relay
from app.proxy.relay.probe import probe_channel
from app.proxy.relay.providers import PROVIDERS
from app.proxy.relay.sandbox import SandboxTransport
from app.proxy.relay.upstream import VendorTransport
from app.proxy.settlement import Clerk, Leases, Policies, Spool
from app.quota.gate import Gate
from app.quota.seats import Seats
from app.quota.use import UseCounters
from app.settings import Settings
from app.signpost import Signpost
from app.till import Till
from app.warden.house import make_house
from app.warden.warden import Warden

__all__ = ["App", "create_app"]

log = logging.getLogger("tollgate")

_RELOAD_S = 1.0


class _Worker:
    """One worker's rooms, and what it knows of the catalogue."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.snapshot: Snapshot = EMPTY
        self._is_stale = True
        self._reading = asyncio.Lock()
        self.events: redis.Redis = connect(redis_url(books.settings))
        gate = Gate(books.wire, books.settings.lease_seconds * 1000)
        self.last_use = LastUse(books.write_uses)
        self.keyring = Keyring(books.find_key, books.shards, Guesses(), self.last_use.note)
        self.leases = Leases(gate)
        spool = Spool(books.settings.data_dir / "spool")
        self.budget_alerts = BudgetAlerts(books.database)
        mark = self.budget_alerts.mark
        self.bring_counters = Counters(books).bring
        self.clerk = Clerk(gate, self.leases, spool, _policies(books.settings), books.is_posted, books.shards, mark)
        self.relay = Relay(VendorTransport(), SandboxTransport())
        seats = Seats(books.wire)
        self.dispatcher = Dispatcher(Health(), seats)
        self.signpost = Signpost(books.database, books.sealer, self.events, seats)
        self.news = News(self.events, self.dispatcher.health)
        house = make_house(
            lambda: self.snapshot.channels, self.relay, self.dispatcher.health, self.events, self.announce
        )
        self.warden = Warden(books, house)
        self.dispatcher.health.listen(self.warden.recorder.heard)
        self.journey = Journey(
            keyring=self.keyring,
            desk=AdmissionDesk(gate, books.warm_wallet, self.bring_counters, mark),
            dispatcher=self.dispatcher,
            relay=self.relay,
            clerk=self.clerk,
            leases=self.leases,
            gate=gate,
            snapshot=lambda: self.snapshot,
            find_receipt=books.find_receipt,
            format_usd=format_usd,
        )

    async def heard(self, event: str) -> None:
        kind, _, name = event.partition(":")
        if kind == "key":
            self.keyring.forget(name)
        elif kind == "account":
            self.keyring.forget_account(name)
        elif kind == "book":
            self.keyring.forget_book(name)
        elif kind == "catalog":
            await self.reload()

    async def missed(self) -> None:
        self.keyring.forget_all()
        await self.reload()

    async def reload(self) -> None:
        async with self._reading:  # one at a time: the last to be read is the last that stands
            try:
                self.snapshot = await load_snapshot(self.books.database, self.books.sealer)
            except ServiceUnavailable:
                log.warning("the catalogue could not be read: what is known of it stands, and it is tried again")
                self._is_stale = True
            else:
                self._is_stale = False
                self.dispatcher.reconcile(channel for channel in self.snapshot.channels if channel.enabled)

    async def stay_fresh(self) -> None:
        """Reads again what could not be read, until cancelled."""
        while True:
            await asyncio.sleep(_RELOAD_S)
            if self._is_stale:
                await self.reload()

    async def announce(self, event: str) -> None:
        if not await announce(self.events, event):
            await self.heard(event)

    @asynccontextmanager
    async def working(self, _app: Litestar) -> AsyncIterator[None]:
        """Litestar's lifespan: up before the first request, down after the last."""
        while self._is_stale:  # an empty catalogue would tell customers that their models are gone
            await self.reload()
            if self._is_stale:
                await asyncio.sleep(_RELOAD_S)
        tasks = [
            asyncio.create_task(self.stay_fresh(), name="catalogue"),
            asyncio.create_task(follow(self.events, self.heard, self.missed), name="events"),
            asyncio.create_task(self.leases.keep(), name="leases"),
            asyncio.create_task(self.news.keep(), name="news"),
            asyncio.create_task(self.clerk.replay(), name="spool"),
            asyncio.create_task(self.warden.record(), name="channel events"),
            asyncio.create_task(self.warden.watch(), name="warden"),
            asyncio.create_task(self.last_use.keep(), name="last use"),
            asyncio.create_task(self.budget_alerts.keep(), name="budget alerts"),
        ]
        try:
            yield
        finally:
            await self.clerk.drain()
            await end_all(*tasks)
            await self.warden.close()
            await self.last_use.write(everything=True)
            await self.relay.close()
            await self.dispatcher.close()
            await self.events.aclose()
            await self.books.close()


class App:
    """The ASGI application of one worker: Litestar, but for the hot path.

    A chat request goes to its handler straight: Litestar's routing, its exception middleware and its copy of the scope
    took a tenth of a request's CPU, and the handler answers its errors itself.
    """

    def __init__(self, litestar: Litestar, hot: dict[str, ASGIRouteHandler], journey: Journey) -> None:
        self.litestar = litestar
        self._hot = {path: handler.fn for path, handler in hot.items()}
        self.interrupt = journey.interrupt

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        handle = self._hot.get(scope["path"]) if scope["type"] == ScopeType.HTTP else None
        return (self.litestar if handle is None else handle)(scope, receive, send)


def create_app(books: Books) -> App:
    """The application of one worker. `books` must be open, in the loop that will serve."""
    worker = _Worker(books)
    till = Till(books)
    office = Office(
        database=books.database,
        sealer=books.sealer,
        wallets=books.wallets,
        admin_digest=books.admin_digest,
        guesses=Guesses(),
        trusted_proxies=books.settings.trusted_networks,
        default_base_urls={name: provider.base_url for name, provider in PROVIDERS.items()},
        announce=worker.announce,
        apply_credits=books.apply_credits,
        take_back=books.take_back,
        verify=books.verify,
        probe_channel=lambda channel, model: probe_channel(worker.relay, channel, model),
        explain_route=worker.signpost.explain,
        channel_health=worker.warden.look,
        ask_balance=worker.warden.ask_balance,
        unpark=worker.warden.unpark,
    )
    admin = Router(
        "/admin/v1",
        route_handlers=[
            AccountsController,
            AccountKeysController,
            KeysController,
            ApplyController,
            ChannelsController,
            ModelsController,
            PriceBooksController,
            PricesController,
            BooksController,
            *(ChannelEventsController, HealthController, RoutesController, WebhooksController, AlertsController),
            *(CorrectionsController, JournalController, ReportsController, StatementsController, VouchersController),
            OperatorsController,
        ],
        guards=[operator_guard],
        dependencies={
            "office": Provide(lambda: office, sync_to_thread=False),
            "remit": Provide(given_remit, sync_to_thread=False),
        },
    )
    doors = make_door(
        worker.journey,
        Counter(worker.keyring, till.redeem, till),
        Issuing(worker.keyring, KeyDesk(books.database, worker.announce)),
        OwnKey(worker.keyring, UseCounters(books.wire).look, worker.bring_counters),
        books.settings.max_body_bytes,
        books.settings.trusted_networks,
    )
    litestar = Litestar(
        route_handlers=[
            *doors,
            admin,
            console_page,
            console_asset,
            *_health(worker),
        ],
        state=State({"office": office}),
        exception_handlers={Exception: show_problem},
        lifespan=[worker.working],
        logging_config=None,  # the process has one already
        openapi_config=OpenAPIConfig(title="Tollgate operator API", version="1"),
        request_max_body_size=books.settings.max_body_bytes,
    )
    return App(litestar, hot_paths(doors), worker.journey)


def _policies(settings: Settings) -> Policies:
    names = Policies.__struct_fields__
    return msgspec.convert({name: getattr(settings, f"policy_{name}") for name in names}, Policies)


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
            await worker.books.wire.ping()
        except (ServiceUnavailable, RedisError):
            return Response({"status": "unavailable", "reason": "Redis can't be reached"}, status_code=503)
        return Response({"status": "ok"})

    return [live, ready]
