"""The back office of a test: a migrated database and an empty Redis, joined as they are in production."""

import asyncio
from itertools import count
from typing import Any

import msgspec
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import now_ms
from app.base.ids import new_id
from app.base.receipt import Attempt, Draft, Receipt, Usage
from app.books import Books, make_bookkeeper
from app.catalog.customers import create_account
from app.catalog.offers import put_model
from app.catalog.pricing import Prices, amount_nano
from app.ledger.bookkeeper import Bookkeeper
from app.ledger.items import StreamedReceipt
from app.ledger.journal import Credit, add_credit, lots_of, open_wallet, read_wallet
from app.ledger.lots import read_lots
from app.ledger.stream import ReceiptStreams
from app.ledger.tables import entries, postings, receipts
from app.ledger.verify import Verdict
from app.quota.gate import Admitted, Gate
from app.quota.rules import NO_RULES

__all__ = ["PRICES", "Office", "drop_guard"]

PRICES = Prices(input=2_000_000, output=10_000_000, cached_input=500_000, request=3)
RICH_PRICES = Prices(
    input=1_000_000,
    output=1_000_000,
    audio_input=3_300_000,
    service_tiers={"priority": 2_000_000},
    fields={"web_search_options": 25},
)
_MODEL = {"context_length": None, "max_output_tokens": None, "description": "", "fallbacks": []}


async def drop_guard(db: AsyncConnection) -> None:
    """Lets rows that are only ever added be changed: until the commit on PostgreSQL, for good on SQLite."""
    if db.dialect.name == "postgresql":
        await db.execute(text("SET LOCAL session_replication_role = replica"))
        return
    for name in (await db.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger'"))).all():
        await db.execute(text(f"DROP TRIGGER {name}"))


class Office:
    """Opens accounts, serves requests to the end of their settlement, keeps the books, and asks what they say."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.database = books.database
        self.wallets = books.wallets
        self.gate = Gate(books.wire, lease_ms=60_000)
        self.streams = ReceiptStreams(books.wire, books.shards)
        self.price_version = self.rich_version = ""
        self._requests = count(1)

    async def open(self) -> None:
        await self.books.open()
        async with self.database.write() as db:
            model, _ = await put_model(db, "small", _MODEL, PRICES)
            rich, _ = await put_model(db, "rich", _MODEL, RICH_PRICES)
        assert model.price_version
        assert rich.price_version
        self.price_version, self.rich_version = model.price_version, rich.price_version

    async def account(self, credit_nano: int = 0) -> str:
        async with self.database.write() as db:
            account = await create_account(db, "acme")
            await open_wallet(db, account.id)
        if credit_nano:
            await self.credit(account.id, credit_nano)
            await self.books.apply_credits(account.id)
        return account.id

    async def credit(self, account_id: str, nano: int, key: str | None = None, **terms: Any) -> Credit:
        """Into the journal alone: applying it to Redis is another step."""
        async with self.database.write() as db:
            return await add_credit(db, account_id, nano, "", key, **terms)

    async def give(self, account_id: str, nano: int, expires_in_ms: int | None = None, promotional: bool = True) -> str:
        """A lot, in the journal and in Redis: its id."""
        expires_at_ms = None if expires_in_ms is None else now_ms() + expires_in_ms
        credit = await self.credit(account_id, nano, promotional=promotional, expires_at_ms=expires_at_ms)
        await self.books.apply_credits(account_id)
        return credit.entry_id

    def receipt(self, account_id: str, usage: Usage, **fields: Any) -> Receipt:
        """Of a request that a channel served, at the prices of `small`."""
        values: dict[str, Any] = {
            "request_id": f"req_{next(self._requests):06}",
            "created_at_ms": 1_700_000_000_000,
            "account_id": account_id,
            "key_id": "key_1",
            "dialect": "openai_chat",
            "model": "small",
            "stream": False,
            "status": "ok",
            "http_status": 200,
            "price_version": self.price_version,
            "amount_nano": amount_nano(PRICES, usage),
            "channel_id": "chn_1",
            "usage": usage,
            "usage_source": "upstream",
        }
        return Receipt(**values | fields)

    def streamed(
        self,
        account_id: str,
        input_tokens: int,
        unpaid_nano: int = 0,
        parts: dict[str, int] | None = {},  # noqa: B006 (nobody changes it)
        at_ms: int = 0,
        **fields: Any,
    ) -> StreamedReceipt:
        receipt = self.receipt(account_id, Usage(input_tokens=input_tokens), **fields)
        return StreamedReceipt(receipt, unpaid_nano, parts, at_ms)

    async def begin(self, account_id: str, hold_nano: int, request_id: str | None = None) -> tuple[str, bytes]:
        """Admits a request: its id, and the generation of the wallet that holds for it."""
        request_id = request_id or new_id("req")
        draft = Draft(
            created_at_ms=0, dialect="openai_chat", model="small", stream=False, price_version=self.price_version
        )
        slots = self.wallets.slots(account_id, "key_1")
        answer = await self.gate.admit(slots, NO_RULES, request_id, hold_nano, 0, msgspec.json.encode(draft))
        assert isinstance(answer, Admitted), answer
        return request_id, answer.generation

    async def serve(self, account_id: str, input_tokens: int, **fields: Any) -> Receipt:
        """One whole request, admitted and settled: its receipt is in the stream."""
        receipt = self.receipt(account_id, **{"usage": Usage(input_tokens=input_tokens)} | fields)
        _, generation = await self.begin(account_id, 0, receipt.request_id)
        slots = self.wallets.slots(account_id, "key_1")
        encoded = msgspec.json.encode(receipt)
        await self.gate.settle(slots, receipt.request_id, receipt.amount_nano, input_tokens, encoded, generation)
        return receipt

    async def serve_rich(self, account_id: str) -> Receipt:
        """A request with audio in it, which a first channel failed at some cost before a second one served it."""
        usage = Usage(input_tokens=20, audio_input_tokens=10)
        attempts = (
            Attempt(channel_id="chn_0", http_status=500, error="broken", duration_ms=1, cost_nano=5),
            Attempt(
                channel_id="chn_1",
                http_status=200,
                error=None,
                duration_ms=1,
                cost_nano=amount_nano(RICH_PRICES, usage),
                cost_version=self.rich_version,
            ),
        )
        cost = sum(attempt.cost_nano for attempt in attempts)
        amount = amount_nano(RICH_PRICES, usage)
        terms = {"price_version": self.rich_version, "amount_nano": amount, "upstream_cost_nano": cost}
        return await self.serve(account_id, 20, usage=usage, attempts=attempts, **terms)

    async def keep_books(self) -> int:
        """What a bookkeeper does from its start to the moment when nothing is left to post: how many it posted."""
        stopping = asyncio.Event()
        stopping.set()
        bookkeeper = self.bookkeeper()
        await bookkeeper.run(stopping)
        return bookkeeper.posted

    def bookkeeper(self) -> Bookkeeper:
        return make_bookkeeper(self.books)

    async def pending(self) -> int:
        """Entries that were taken and not acknowledged, of all streams."""
        pending = 0
        for number in range(self.books.shards):
            pending += (await self.books.wire.call("XPENDING", f"{{s{number}}}:receipts", "books"))[0]
        return pending

    async def journal_balance(self, account_id: str) -> int:
        async with self.database.read() as db:
            return int((await read_wallet(db, account_id)).balance_nano)

    async def redis_balance(self, account_id: str) -> int:
        wallet = await self.wallets.read(account_id)
        assert wallet is not None
        return wallet.balance_nano

    async def lots(self, account_id: str) -> dict[str, int]:
        """What the journal has left of an account's lots."""
        async with self.database.read() as db:
            return {lot.id: lot.remaining_nano for lot in (await lots_of(db, [account_id])).get(account_id, ())}

    async def redis_lots(self, account_id: str) -> dict[str, int]:
        """The same in Redis, in spending order."""
        wallet = await self.wallets.read(account_id)
        assert wallet is not None
        return {lot.id: lot.remaining_nano for lot in read_lots(wallet.lots)}

    async def sums(self) -> dict[str, int]:
        """What the journal says of each of its ledger accounts, but for those that come to nothing."""
        total = func.sum(postings.c.amount_nano)
        async with self.database.read() as db:
            rows = await db.execute(select(postings.c.ledger_account, total).group_by(postings.c.ledger_account))
            return {name: int(nano) for name, nano in rows if nano}

    async def receipt_count(self) -> int:
        async with self.database.read() as db:
            return await db.scalar(select(func.count()).select_from(receipts)) or 0

    async def memos(self, account_id: str, kind: str) -> list[str]:
        """What the journal's entries of a kind say."""
        columns = entries.c
        query = select(columns.memo).where(columns.account_id == account_id, columns.kind == kind).order_by(columns.id)
        async with self.database.read() as db:
            return list(await db.scalars(query))

    async def tamper(self, statement: str, **values: Any) -> None:
        """What no part of the house does: changes rows behind its back."""
        async with self.database.write() as db:
            await drop_guard(db)
            result = await db.execute(text(statement), values)
            assert result.rowcount > 0, "nothing was tampered with"

    async def verify(self) -> Verdict:
        return await self.books.verify()
