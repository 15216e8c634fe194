"""Counters that Redis lacks are brought from the books: exact, whatever is posted, streamed or running meanwhile."""

import asyncio
import random
from typing import Any

import msgspec
from sqlalchemy import insert

from app.base.clock import now_ms
from app.base.ids import new_id
from app.base.limits import NO_LIMITS, Budget, Limits, Window
from app.base.receipt import Receipt, Usage
from app.catalog.tables import accounts, keys
from app.counters import Counters
from app.ledger.usage import Scope, Used, used_in_books
from app.quota.gate import Admitted, Refused
from app.quota.rules import Subject, compile_rules
from app.quota.use import UseCounters
from tests.ledger.office import Office

HOUR_MS = 3_600_000
WINDOWS: tuple[Window, ...] = ("hour", "day", "week", "month", "lifetime")


def at(ms: int, number: int) -> str:
    return f"req_{ms:012x}{number:016x}"


async def serve(office: Office, account_id: str, ms_ago: int, number: int, **fields: Any) -> Receipt:
    """A request that came so long ago."""
    came_ms = now_ms() - ms_ago
    return await office.serve(account_id, number, request_id=at(came_ms, number), created_at_ms=came_ms, **fields)


async def add_member(office: Office, account_id: str, parent_id: str, wallet: str) -> str:
    """An account below another, with one key: the key's id."""
    key_id = f"key_{account_id}"
    values = {"rpm": 0, "tpm": 0, "concurrency": 0, "enabled": True, "created_at_ms": 0}
    async with office.database.write() as db:
        await db.execute(
            insert(accounts).values(id=account_id, name="m", created_at_ms=0, parent_id=parent_id, wallet=wallet)
        )
        await db.execute(insert(keys).values(id=key_id, account_id=account_id, name="k", **values))
    return key_id


async def counters_of(office: Office, account_id: str, subject: Subject) -> dict[str, int]:
    """Brought, and looked at."""
    await Counters(office.books).bring(account_id, compile_rules([subject], now_ms()))
    number = office.wallets.slots(account_id).shard.number
    use = await UseCounters(office.books.wire).look(number, subject)
    return {name: value for name, value in use.fields.items() if name[-1] not in "+@"}


async def test_counters_are_what_the_books_and_the_stream_say(office: Office) -> None:
    """By window, key, member and model: some requests are posted, some are not yet."""
    account_id = await office.account(10**9)
    shared = await add_member(office, "acc_shared", account_id, "shared")
    below = await add_member(office, "acc_below", "acc_shared", "shared")
    apart = await add_member(office, "acc_apart", account_id, "own")
    ages = (0, 2 * HOUR_MS, 20 * HOUR_MS, 30 * HOUR_MS, 9 * 24 * HOUR_MS, 50 * 24 * HOUR_MS, 400 * 24 * HOUR_MS)
    served = []
    for posts in (True, False):
        for age in ages:
            for key_id in ("key_1", shared, below, apart):
                model, asked = ("small", None) if len(served) % 3 else ("rich", "small")
                fields = {"key_id": key_id, "model": model, "requested_model": asked}
                served.append(await serve(office, account_id, age, len(served) + 1, **fields))
        if posts:
            assert await office.keep_books() == len(served)
    budgets = tuple(Budget(unit, 10**12, window) for unit in ("usd", "tokens", "requests") for window in WINDOWS)
    limits = Limits(rpd=10**6, tpd=10**9)

    def expected(subject: Subject, counted: list[Receipt]) -> dict[str, int]:
        figures = {}
        for counter in (each for counters in compile_rules([subject], now_ms()).counters for each in counters):
            start_ms = max(start for start in (0, *counter.starts) if start <= now_ms())
            within = [receipt for receipt in counted if receipt.created_at_ms >= start_ms]
            figures[counter.name] = {
                "usd": sum(receipt.amount_nano for receipt in within),
                "tokens": sum(receipt.usage.input_tokens for receipt in within),
                "requests": len(within),
            }[counter.unit]
        return figures

    for subject, counted in (
        (Subject("key", "key_1", limits, budgets), {"key_1"}),
        (Subject("account", "acc_shared", NO_LIMITS, budgets, "Pacific/Chatham"), {shared, below}),
        (Subject("account", account_id, limits, budgets, "America/St_Johns"), {"key_1", shared, below, apart}),
    ):
        found = await counters_of(office, account_id, subject)
        assert found == expected(subject, [receipt for receipt in served if receipt.key_id in counted])
    of_model = Subject("model", account_id, limits, model="small")
    assert await counters_of(office, account_id, of_model) == expected(of_model, served)
    other = Subject("model", account_id, limits, model="rich")
    assert await counters_of(office, account_id, other) == {"rpd": 0, "tpd": 0}


async def test_nothing_is_lost_or_counted_twice_while_counters_come_and_go(office: Office) -> None:
    """Requests run, receipts are posted, and Redis loses the counter again and again."""
    account_id = await office.account(10**9)
    counters = Counters(office.books)
    subject = Subject("account", account_id, NO_LIMITS, (Budget("requests", 10**6, "lifetime"),))
    rules = compile_rules([subject], now_ms())
    slots = office.wallets.slots(account_id, "key_1")
    use = f"{{s{slots.shard.number}}}:use:{account_id}"
    made = 0

    async def client(rng: random.Random) -> None:
        nonlocal made
        for _ in range(12):
            request_id = new_id("req")
            answer = await office.gate.admit(slots, rules, request_id, 5, 5, b"{}")
            while answer == Refused("unknown"):
                await counters.bring(account_id, rules)
                answer = await office.gate.admit(slots, rules, request_id, 5, 5, b"{}")
            assert isinstance(answer, Admitted)
            await asyncio.sleep(rng.random() / 100)
            receipt = office.receipt(account_id, Usage(input_tokens=1), request_id=request_id, created_at_ms=now_ms())
            encoded = msgspec.json.encode(receipt)
            await office.gate.settle(slots, request_id, 5, 1, encoded, answer.generation, rules.trace)
            made += 1
            if rng.random() < 0.2:
                await office.books.wire.call("DEL", use)
            if rng.random() < 0.05:
                await office.keep_books()

    await asyncio.gather(*(client(random.Random(seed)) for seed in range(8)))

    await counters.bring(account_id, rules)
    used, held = await office.books.wire.call("HMGET", use, "requests.lifetime", "requests.lifetime+")
    assert (int(used), int(held)) == (made, 0)


async def test_the_books_are_read_by_days_and_receipts_alike(office: Office) -> None:
    """Wherever a window begins, to the millisecond."""
    account_id = await office.account(10**9)
    day_ms = 24 * HOUR_MS
    midnight_ms = now_ms() // day_ms * day_ms
    moments = [midnight_ms + offset for offset in (-2 * day_ms, -day_ms - 1, -day_ms, -day_ms + 1, -1, 0, 1)]
    for number, ms in enumerate(moments, 1):
        await office.serve(account_id, number, request_id=at(ms, number), created_at_ms=ms)
    await office.keep_books()
    async with office.database.read() as db:
        for start_ms in (moment + step for moment in moments for step in (-1, 0, 1)):
            used = await used_in_books(db, Scope(account_id), start_ms)
            assert used.requests == sum(ms >= start_ms for ms in moments)
        assert await used_in_books(db, Scope(account_id, frozenset()), 0) == Used()
