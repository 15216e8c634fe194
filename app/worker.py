"""One worker: its rooms, joined, and what it knows of the catalogue."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import redis.asyncio as redis
from litestar import Litestar

from app.base.crypto import UnsealError
from app.base.errors import ServiceUnavailable
from app.base.events import announce, follow
from app.base.guesses import Guesses
from app.base.money import format_usd
from app.base.redis import connect
from app.base.tasks import begin, end_all
from app.books import Books, redis_url
from app.budget_alerts import BudgetAlerts
from app.catalog.snapshot import EMPTY, Snapshot, load_snapshot
from app.counters import Counters
from app.proxy.access import Keyring, LastUse
from app.proxy.admission import AdmissionDesk, Crowd
from app.proxy.dispatch import Dispatcher, Health, News
from app.proxy.journey import Journey
from app.proxy.relay import Relay
from app.proxy.relay.providers import count_like_ours
from app.proxy.relay.sandbox import SandboxTransport
from app.proxy.relay.vendors import VendorTransport
from app.proxy.settlement import Clerk, Leases, Policies, Recovery, Spool, Unposted
from app.quota.gate import Gate
from app.quota.seats import Seats
from app.settings import Settings
from app.signpost import Signpost
from app.warden.house import make_house
from app.warden.warden import Warden

__all__ = ["Worker"]

log = logging.getLogger("tollgate")

_RELOAD_S = 1.0


class Worker:
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
        unposted = Unposted()
        self.clerk = Clerk(
            gate,
            self.leases,
            spool,
            _policies(books.settings),
            books.is_posted,
            books.shards,
            mark,
            unposted,
            self._tell_excess,
        )
        self.recovery = Recovery(gate, self.clerk, unposted, lambda numbers: books.epochs.look(books.wire, numbers))
        books.epochs.listen(self.recovery.changed)
        self.relay = Relay(VendorTransport(), SandboxTransport())
        seats = Seats(books.wire)
        self.crowd = Crowd(seats, gate.lease_ms)
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
            desk=AdmissionDesk(gate, self.warm_wallet, self.bring_counters, mark, count_like_ours),
            crowd=self.crowd,
            dispatcher=self.dispatcher,
            relay=self.relay,
            clerk=self.clerk,
            leases=self.leases,
            gate=gate,
            snapshot=lambda: self.snapshot,
            find_receipt=books.find_receipt,
            format_usd=format_usd,
            read_on_s=books.settings.read_on_seconds,
        )

    async def warm_wallet(self, account_id: str) -> None:
        """Raises NotFound or ServiceUnavailable."""
        await self.recovery.ready()
        await self.books.warm_wallet(account_id)

    def _tell_excess(self, channel_id: str, model: str, how: str) -> None:
        self.warden.recorder.went_beyond(channel_id, model, how)

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
            except (ServiceUnavailable, UnsealError) as error:
                log.warning("the catalogue is not read: what is known of it stands, and it is tried again: %s", error)
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
            begin("catalogue", self.stay_fresh),
            begin("events", lambda: follow(self.events, self.heard, self.missed)),
            begin("leases", self.leases.keep),
            begin("places", self.crowd.keep),
            begin("news", self.news.keep),
            begin("spool", self.clerk.replay),
            begin("recovery", self.recovery.keep),
            begin("channel events", self.warden.record),
            begin("warden", self.warden.watch),
            begin("last use", self.last_use.keep),
            begin("budget alerts", self.budget_alerts.keep),
        ]
        try:
            yield
        finally:
            await self.clerk.drain()
            await self.recovery.drain()
            await end_all(*tasks)
            await self.warden.close()
            await self.last_use.write(everything=True)
            await self.relay.close()
            await self.dispatcher.close()
            await self.events.aclose()
            await self.books.close()


def _policies(settings: Settings) -> Policies:
    names = Policies.__struct_fields__
    return msgspec.convert({name: getattr(settings, f"policy_{name}") for name in names}, Policies)
