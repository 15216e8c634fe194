"""The back rooms, joined: what the bookkeeper, verify and the workers share. No web framework, no transport."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from app.alerts.outbox import raise_alert
from app.base.clock import monotonic_ms, now_ms
from app.base.cluster import Address
from app.base.database import Database
from app.base.ids import digest, made_at_ms, shard_of
from app.base.receipt import NO_EXTRAS, Extras, Usage
from app.base.redis import embedded_url
from app.base.redis_checks import Finding, check_redis, confirming, read_facts, strictest
from app.base.wire import Connected, Wire
from app.catalog.installation import read_installation
from app.catalog.keys import key_of_secret, write_uses
from app.catalog.pricing import Prices, amount_nano
from app.catalog.records import Key
from app.catalog.versions import prices_of
from app.ledger.bookkeeper import Bookkeeper
from app.ledger.debits import Taken, abandon_old_debits, take_back
from app.ledger.expected import streamed_items
from app.ledger.items import StreamedReceipt
from app.ledger.posting import posted_among
from app.ledger.rebuild import apply_credits, rebuild_wallet
from app.ledger.repair import Repair, repair_wallets, wallet_ids
from app.ledger.reports import find_receipt
from app.ledger.stream import ReceiptStreams
from app.ledger.verify import Verdict, verify
from app.quota.epochs import LOCAL_SETTLING_MS, Epochs
from app.quota.wallets import Wallets
from app.settings import Settings

__all__ = ["Books", "make_bookkeeper", "open_books", "redis_url"]


def redis_url(settings: Settings) -> str:
    return settings.redis_url or embedded_url(settings.data_dir)


log = logging.getLogger("tollgate.redis")

_DAY_MS = 86_400_000
_POSTED_WITHIN_MS = 2_000
_LOOK_EVERY_S = 0.1
_DEBIT_ANSWERED_WITHIN_MS = 3_600_000


class Books:
    """The back rooms, joined: what the bookkeeper, verify and the workers have in common."""

    def __init__(self, settings: Settings, installation: dict[str, str], epochs: Epochs | None = None) -> None:
        self.settings = settings
        self.shards = int(installation["shards"])
        self.epochs = epochs or _epochs(settings, self.shards)
        self.admin_digest = digest(settings.admin_key) if settings.admin_key else bytes.fromhex(installation["admin"])
        self.database = Database(settings.database_url)
        self.wire = Wire(redis_url(settings), greet=self._greet)
        self._findings: dict[Address, tuple[Finding, ...]] = {}
        self._told_of_redis = ""
        self._abandon_at_ms = 0
        self.wallets = Wallets(self.wire, self.shards, self.epochs)
        self.sealer = settings.sealer()
        self._prices: dict[str, Prices] = {}

    async def open(self) -> None:
        await self.wire.open()

    async def _greet(self, server: Connected) -> None:
        """Every connection to Redis: what does not fit is said, and who it is decides whether its data can be used."""
        facts = await read_facts(server)
        wanted = (self.settings.redis_wait_replicas, self.settings.redis_wait_disk)
        # A server of a cluster that can't wait for its disk makes nobody wait less: its own writes fail.
        self.wire.confirm_with = strictest(self.wire.confirm_with, confirming(facts, *wanted))
        findings = check_redis(facts, *wanted)
        for finding in findings:
            if finding not in self.redis_findings:
                log.warning("%s", finding.text)
        self._findings[server.address] = findings
        await self.epochs.vouch(server)

    @property
    def redis_findings(self) -> tuple[Finding, ...]:
        """What does not fit about the servers that are known now."""
        known = self.wire.addresses
        found = [finding for address, own in self._findings.items() if address in known for finding in own]
        return tuple(dict.fromkeys(found))

    async def close(self) -> None:
        await self.wire.close()
        await self.database.close()

    async def warm_wallet(self, account_id: str) -> None:
        await rebuild_wallet(self.database, self.wallets, account_id)

    async def apply_credits(self, account_id: str) -> None:
        await apply_credits(self.database, self.wallets, account_id)

    async def take_back(
        self,
        account_id: str,
        amount_nano: int,
        memo: str,
        idempotency_key: str | None,
        *,
        corrects: str | None = None,
    ) -> Taken:
        """Raises InvalidField where the wallet does not have it free; see app.ledger.debits."""
        return await take_back(
            self.database, self.wallets, account_id, amount_nano, memo, idempotency_key, corrects=corrects
        )

    async def abandon_old_debits(self) -> int:
        """See app.ledger.debits."""
        return await abandon_old_debits(self.database, self.wallets, now_ms() - _DEBIT_ANSWERED_WITHIN_MS)

    async def do_chores(self) -> None:
        """What the bookkeeper does beside its own. Raises ServiceUnavailable."""
        await self.tell_of_redis()
        if monotonic_ms() >= self._abandon_at_ms:
            self._abandon_at_ms = monotonic_ms() + _DEBIT_ANSWERED_WITHIN_MS
            await self.abandon_old_debits()

    async def verify(self) -> Verdict:
        return await verify(self.database, self.wallets, self.price)

    async def repair(self, why: str, *, is_trial: bool) -> list[Repair]:
        """Puts every wallet in Redis right that differs from the books; with `is_trial` it only says which."""
        async with self.database.read() as db:
            account_ids = await wallet_ids(db)
        return await repair_wallets(self.database, self.wallets, account_ids, why, is_trial=is_trial)

    async def tell(self, kind: str, subject: str, details: dict[str, Any], once: str) -> None:
        """Whoever runs the gateway hears of it, once. Raises ServiceUnavailable."""
        async with self.database.write() as db:
            await raise_alert(db, kind, subject, details, once=once)

    async def tell_of_redis(self) -> None:
        """What does not fit about this Redis, once a day. Raises ServiceUnavailable."""
        if self.redis_findings:
            codes = ",".join(sorted(finding.code for finding in self.redis_findings))
            texts = [finding.text for finding in self.redis_findings]
            once = f"redis:{now_ms() // _DAY_MS}:{codes}"
            if once != self._told_of_redis:
                await self.tell("redis.unfit", "redis", {"findings": texts}, once)
                self._told_of_redis = once

    async def find_key(self, secret_digest: bytes) -> Key | None:
        async with self.database.read() as db:
            return await key_of_secret(db, secret_digest)

    async def write_uses(self, uses: Sequence[tuple[str, int, str]]) -> None:
        async with self.database.write() as db:
            await write_uses(db, uses)

    async def is_posted(self, request_id: str, account_id: str) -> bool:
        """Whether a request has its receipt, in the database or on its way there in the stream of its account's shard.

        The stream is read before the database: what is not in it was never there, or had been posted before it was
        trimmed, and then the database has it. The other way round, a receipt that is posted and trimmed between the two
        looks would be in neither. The look at the database that goes first only spares the stream, which is long when
        the database is away, and then nothing can be said anyway.
        """
        if await self._is_in_database(request_id):
            return True
        number = shard_of(account_id, self.shards)
        look = await self.wallets.look(number, [], await self.wallets.posted_up_to(number))
        if any(isinstance(item, StreamedReceipt) and item.id == request_id for item in streamed_items(look)):
            return True
        return await self._is_in_database(request_id)

    async def _is_in_database(self, request_id: str) -> bool:
        async with self.database.read() as db:
            return bool(await posted_among(db, [request_id]))

    async def find_receipt(self, request_id: str, account_id: str) -> dict[str, object] | None:
        """A customer asks right behind the answer: a request of the last seconds may be on its way into the books."""
        give_up_ms = monotonic_ms() + (_POSTED_WITHIN_MS if _is_recent(request_id) else 0)
        while True:
            async with self.database.read() as db:
                receipt = await find_receipt(db, request_id, account_id)
            if receipt is not None or monotonic_ms() >= give_up_ms:
                return receipt
            await asyncio.sleep(_LOOK_EVERY_S)

    async def price(self, price_version: str, usage: Usage, multiplier: int, extras: Extras = NO_EXTRAS) -> int | None:
        """What usage and extras cost at a price version, times a multiplier's millionths; None where there is no such
        version."""
        if price_version not in self._prices:
            async with self.database.read() as db:
                self._prices |= await prices_of(db, {price_version})
        prices = self._prices.get(price_version)
        return None if prices is None else amount_nano(prices, usage, multiplier, extras)


def _is_recent(request_id: str) -> bool:
    made_ms = made_at_ms(request_id)
    return made_ms is not None and abs(now_ms() - made_ms) < _POSTED_WITHIN_MS * 5


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
    lease_ms = books.settings.lease_seconds * 1000
    return Bookkeeper(
        books.database,
        ReceiptStreams(books.wire, books.shards),
        books.wallets,
        books.price,
        sweep_every_ms=max(200, min(5_000, lease_ms // 4)),
        lease_ms=lease_ms,
        expired_policy="full" if books.settings.policy_expired == "full" else "free",
        tell=books.tell,
        also=books.do_chores,
    )


def _epochs(settings: Settings, shards: int) -> Epochs:
    return Epochs(shards, LOCAL_SETTLING_MS) if settings.embedded_redis else Epochs(shards)
