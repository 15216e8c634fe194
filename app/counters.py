"""Counters of limits a day and of budgets that Redis does not have are brought from the books before anyone is served
by them: after Redis was emptied, for a rule that is new, or where nobody called for long."""

import asyncio
from collections.abc import Iterable
from weakref import WeakValueDictionary

from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import now_ms
from app.base.errors import ServiceUnavailable
from app.base.ids import shard_of
from app.books import Books
from app.catalog.sharing import keys_sharing
from app.ledger.items import Item
from app.ledger.posting import posted_items
from app.ledger.stream import read_entry
from app.ledger.usage import Scope, Used, used_in_books, used_in_stream
from app.quota.rules import Counter, Rules, Subject
from app.quota.use import Seed, UseCounters
from app.quota.wallets import StreamEntry

__all__ = ["Counters"]

_TRIES = 100

_Asked = tuple[Subject, Counter, Scope, int]  # the last is the start of the counter's window (ms)


class Counters:
    def __init__(self, books: Books) -> None:
        self._books = books
        self._use = UseCounters(books.wire)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def bring(self, account_id: str, rules: Rules) -> None:
        """Those of all subjects of the rules, whose wallet is `account_id`'s; one that is there is left alone. Raises
        ServiceUnavailable."""
        lock = self._locks.setdefault(account_id, asyncio.Lock())
        async with lock:  # a thousand first requests don't read the books all at once
            await self._bring(account_id, rules)

    async def _bring(self, account_id: str, rules: Rules) -> None:
        number = shard_of(account_id, self._books.shards)
        now = now_ms()
        known: dict[_Asked, Used] = {}
        posted_up_to = await self._books.wallets.posted_up_to(number)  # so the snapshot has all up to there
        async with self._books.database.read() as db:
            for subject, counters in zip(rules.subjects, rules.counters, strict=True):
                scope = await _scope(db, account_id, subject)
                for counter in counters:
                    start_ms = max(start for start in (0, *counter.starts) if start <= now)
                    known[subject, counter, scope, start_ms] = await used_in_books(db, scope, start_ms)
            # The stream is read after the books: what is posted meanwhile is in it, and not in this snapshot.
            last = await self._use.last_entry(number)
            entries = await self._use.entries_between(number, posted_up_to, last)
            items = _items(entries)
            posted = await posted_items(db, items)
        _add(known, [item for item in items if item.id not in posted])
        for _ in range(_TRIES):
            if await self._use.seed(number, last, _seeds(known)):
                return
            before, last = last, await self._use.last_entry(number)
            _add(known, _items(await self._use.entries_between(number, before, last)))
        raise ServiceUnavailable


async def _scope(db: AsyncConnection, account_id: str, subject: Subject) -> Scope:
    if subject.kind == "key":
        return Scope(account_id, frozenset({subject.id}))
    key_ids = None if subject.id == account_id else await keys_sharing(db, subject.id)
    return Scope(account_id, key_ids, subject.model)


def _items(entries: Iterable[StreamEntry]) -> list[Item]:
    return [item for item in map(read_entry, entries) if item is not None]


def _add(known: dict[_Asked, Used], items: list[Item]) -> None:
    for asked in known:
        _, _, scope, start_ms = asked
        known[asked] += used_in_stream(items, scope, start_ms)


def _seeds(known: dict[_Asked, Used]) -> list[Seed]:
    counters: dict[str, list[tuple[str, int, int]]] = {}
    for (subject, counter, _, start_ms), used in known.items():
        figures = {"requests": used.requests, "tokens": used.tokens, "usd": used.nano}
        counters.setdefault(subject.name, []).append((counter.name, start_ms, figures[counter.unit]))
    return [Seed(name, tuple(each)) for name, each in counters.items()]
