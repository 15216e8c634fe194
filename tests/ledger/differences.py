"""What Redis, the streams and the journal say, held against the model: wallets and their lots, holds, receipts, and
every ledger account, to the nano."""

import json

from sqlalchemy import func, select

from app.ledger.journal import lots_of, read_wallet
from app.ledger.lots import show_lots, spending_order
from app.ledger.tables import entries, postings, receipts
from app.quota.wallets import Wallet
from tests.ledger.model import Account, Books, Entry
from tests.ledger.office import Office

__all__ = ["Differences"]

_MOVEMENTS = ("lapse", "adjustment")


class Differences:
    def __init__(self, office: Office, books: Books) -> None:
        self.office = office
        self.books = books
        self.database = office.database
        self.quota = office.wallets
        self.call = office.books.wire.call

    async def check_redis(self) -> None:
        """Every wallet, every hold, and every entry of the streams."""
        for number, stream in enumerate(self.books.streams):
            accounts = [account for account in self.books.accounts.values() if account.shard == number]
            look = await self.quota.look(number, [account.id for account in accounts])
            while len(stream) > len(look.entries):  # what is acknowledged may be dropped from the front
                assert stream.pop(0).is_acknowledged
            for seen, entry in zip(look.entries, stream, strict=True):
                _check_entry(seen.fields, entry)
            for account in accounts:
                self._check_wallet(account, look.wallets[account.id])
            held = {each.decode() for each in await self.call("HKEYS", f"{{s{number}}}:holds")}
            requests = [each for each in self.books.requests if each.account.shard == number]
            assert held == {request.id for request in requests if request.hold is not None}
            assert await self.call("ZCARD", f"{{s{number}}}:leases") == len(held)

    def _check_wallet(self, account: Account, seen: Wallet | None) -> None:
        live = account.live
        if live is None or seen is None:
            assert (live, seen) == (None, None)
            return
        lots = " ".join(lot.text for lot in live.lots)
        assert seen == Wallet(live.balance, account.held, live.number, live.floor, lots)
        assert account.held == sum(request.hold or 0 for request in self.books.requests if request.account is account)
        assert account.available >= 0 or account.may_be_below

    async def check_journal(self) -> None:
        async with self.database.read() as db:
            lots = await lots_of(db, list(self.books.accounts))
            for account in self.books.accounts.values():
                row = await read_wallet(db, account.id)
                assert (row.balance_nano, row.floor_nano) == (account.journal.balance, account.floor)
                assert (row.credit_number, row.applied_number) == (len(account.credits), account.applied)
                ordered = spending_order(lots.get(account.id, ()))
                assert show_lots(ordered) == " ".join(lot.text for lot in account.journal.lots)

    async def check_books(self) -> None:
        """Every receipt once, every ledger account, and what the books say of themselves."""
        columns = receipts.c
        async with self.database.read() as db:
            rows = await db.execute(
                select(columns.request_id, columns.status, columns.amount_nano, columns.unpaid_nano)
            )
            seen = sorted(tuple(row) for row in rows)
            sums = await db.execute(
                select(postings.c.ledger_account, func.sum(postings.c.amount_nano)).group_by(postings.c.ledger_account)
            )
            totals = {name: int(total) for name, total in sums if total}
            moved = set(await db.scalars(select(entries.c.id).where(entries.c.kind.in_(_MOVEMENTS))))
        posted = self.books.posted.items()
        assert seen == sorted((i, e.kind, e.amount, e.unpaid) for i, e in posted if e.kind not in _MOVEMENTS)
        given = {c.id for a in self.books.accounts.values() for c in a.credits if c.kind == "adjustment"}
        assert moved == {i for i, e in posted if e.kind in _MOVEMENTS} | given
        assert totals == {name: total for name, total in self.books.totals.items() if total}
        await self.check_verdict()

    async def check_verdict(self) -> None:
        verdict = await self.office.verify()
        assert verdict.ok and verdict.drift_nano == 0, verdict.problems


def _check_entry(fields: dict[bytes, bytes], entry: Entry) -> None:
    said = json.loads(fields.get(b"r") or fields[b"m"])
    is_receipt = b"r" in fields
    if entry.id is None:
        entry.id = said["id"]
    assert entry.id == said["request_id" if is_receipt else "id"]
    assert entry.kind == said["status" if is_receipt else "kind"]
    assert entry.amount == (said.get("amount_nano", 0) if is_receipt else int(fields[b"a"]))
    assert entry.unpaid == int(fields.get(b"u", 0))
    if entry.kind == "lapse":
        assert entry.parts == {said["lot"]: entry.amount}
    else:
        parts = "?" if entry.parts is None else " ".join(f"{lot}:{nano}" for lot, nano in entry.parts.items())
        assert fields.get(b"l", b"").decode() == parts
