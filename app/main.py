"""`create_app`: builds and joins both planes. Nobody imports this but the processes that serve."""

from collections.abc import Awaitable
from typing import Any

from litestar import Litestar, Request, Router, get
from litestar.datastructures import State
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.handlers import ASGIRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.response import Response
from litestar.types import Receive, Scope, Send
from redis.exceptions import RedisError

from app.base.errors import ServiceUnavailable
from app.books import Books
from app.console.accounts import AccountsController
from app.console.apply import ApplyController
from app.console.books import BooksController
from app.console.channels import ChannelsController
from app.console.corrections import CorrectionsController
from app.console.events import ChannelEventsController
from app.console.guesses import OperatorGuesses
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
from app.key_desk import KeyDesk
from app.proxy.cors import serve_origins
from app.proxy.counter import Counter
from app.proxy.door import hot_paths, make_door
from app.proxy.issuing import Issuing
from app.proxy.journey import Journey
from app.proxy.own_key import OwnKey
from app.proxy.relay.probe import probe_channel
from app.proxy.relay.providers import PROVIDERS
from app.proxy.unknown_paths import is_for_customers, show_unknown
from app.quota.use import UseCounters
from app.till import Till
from app.worker import Worker

__all__ = ["App", "create_app"]


class App:
    """The ASGI application of one worker: Litestar, but for the hot path.

    A chat request goes to its handler straight: Litestar's routing, its exception middleware and its copy of the scope
    took a tenth of a request's CPU, and the handler answers its errors itself.
    """

    def __init__(
        self, litestar: Litestar, hot: dict[str, ASGIRouteHandler], journey: Journey, origins: frozenset[str]
    ) -> None:
        self.litestar = litestar
        self._origins = origins
        self._hot = {path: handler.fn for path, handler in hot.items()}
        self.interrupt = journey.interrupt

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        handle = self._hot.get(scope["path"]) if scope["type"] == ScopeType.HTTP else None
        app = self.litestar if handle is None else handle
        if self._origins and scope["type"] == ScopeType.HTTP and is_for_customers(scope["path"]):
            return serve_origins(app, self._origins, scope, receive, send)
        return app(scope, receive, send)


def create_app(books: Books) -> App:
    """The application of one worker. `books` must be open, in the loop that will serve."""
    worker = Worker(books)
    till = Till(books)
    office = Office(
        database=books.database,
        sealer=books.sealer,
        wallets=books.wallets,
        admin_digest=books.admin_digest,
        guesses=OperatorGuesses(),
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
        exception_handlers={Exception: _show_error},
        lifespan=[worker.working],
        logging_config=None,  # the process has one already
        openapi_config=OpenAPIConfig(title="Tollgate operator API", version="1"),
        request_max_body_size=books.settings.max_body_bytes,
    )
    return App(litestar, hot_paths(doors), worker.journey, books.settings.allowed_origins)


def _show_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """In the words of who called."""
    return (show_unknown if is_for_customers(request.url.path) else show_problem)(request, error)


def _health(worker: Worker) -> list[Any]:
    @get("/health/live")
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    @get("/health/ready")
    async def ready() -> Response[dict[str, Any]]:
        try:
            await worker.books.database.ping()
        except ServiceUnavailable:
            return Response({"status": "unavailable", "reason": "the database can't be reached"}, status_code=503)
        try:
            await worker.books.wire.ping()
        except (ServiceUnavailable, RedisError):
            return Response({"status": "unavailable", "reason": "Redis can't be reached"}, status_code=503)
        warnings = [finding.text for finding in worker.books.redis_findings]
        return Response({"status": "ok", **({"warnings": warnings} if warnings else {})})

    return [live, ready]
