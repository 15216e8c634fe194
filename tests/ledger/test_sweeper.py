"""The sweeper ends holds whose worker is gone: only when Redis has answered for one whole lease, and by the policy."""

import asyncio
from typing import Any, Literal

import msgspec
import pytest
from sqlalchemy import select

from app.base.clock import now_ms
from app.base.receipt import NO_EXTRAS, Draft, Extras, Usage
from app.catalog.pricing import amount_nano
from app.ledger.bookkeeper import Bookkeeper
from app.ledger.stream import ReceiptStreams
from app.ledger.sweeper import Sweeper
from app.ledger.tables import receipts
from app.quota.gate import Admitted, Refused
from app.quota.rules import NO_RULES
from tests.ledger.office import PRICES, RICH_PRICES, Office

LEASE_MS = 60_000
_encode = msgspec.json.Encoder().encode


def _sweeper(office: Office, policy: Literal["free", "full"] = "free") -> Sweeper:
    return Sweeper(office.database, office.wallets, office.books.price, LEASE_MS, policy)


async def _abandon(
    office: Office,
    account: str,
    multiplier: int = 1_000_000,
    version: str | None = None,
    extras: Extras = NO_EXTRAS,
) -> str:
    """A request whose worker died: its lease ran out long ago."""
    draft = Draft(
        created_at_ms=1_700_000_000_000,
        dialect="openai_chat",
        model="small",
        stream=True,
        price_version=version or office.price_version,
        multiplier=multiplier,
        input_bound=100,
        output_bound=50,
        extras=extras,
    )
    request_id = f"req_{multiplier:06}"
    slots = office.wallets.slots(account, "key_1")
    answer = await office.gate.admit(slots, NO_RULES, request_id, 4_000, 150, msgspec.json.encode(draft))
    assert isinstance(answer, Admitted), answer
    await office.books.wire.call("ZADD", slots.shard.leases, "XX", 1, request_id)
    return request_id


def _steady(sweeper: Sweeper, start: int, end: int) -> None:
    for now in range(start, end + 1, 5_000):
        sweeper.answered(now)


async def test_nothing_expires_before_redis_answered_for_a_lease(office: Office) -> None:
    """Workers that could not reach it either renew their leases first; a moment earlier is too early."""
    account = await office.account(10_000)
    await _abandon(office, account)
    sweeper = _sweeper(office)
    assert await sweeper.sweep(10**9) == 0, "it has not answered at all"
    _steady(sweeper, 0, 55_000)
    assert await sweeper.sweep(LEASE_MS - 1) == 0
    sweeper.answered(LEASE_MS)
    assert await sweeper.sweep(LEASE_MS) == 1


@pytest.mark.parametrize("broken", [True, False], ids=["an error", "a silence"])
async def test_a_break_begins_the_wait_again(office: Office, broken: bool) -> None:
    """Redis was away, or this process was: nobody knows for how long the workers went without."""
    account = await office.account(10_000)
    await _abandon(office, account)
    sweeper = _sweeper(office)
    _steady(sweeper, 0, 60_000)
    if broken:
        sweeper.broke()
        sweeper.answered(60_500)
    else:
        sweeper.answered(60_000 + LEASE_MS)
    back = 60_500 if broken else 60_000 + LEASE_MS
    assert await sweeper.sweep(back) == 0
    _steady(sweeper, back, back + LEASE_MS)
    assert await sweeper.sweep(back + LEASE_MS) == 1


async def test_a_lease_renewed_in_the_meantime_saves_its_request(office: Office) -> None:
    """That is what the wait is for."""
    account = await office.account(10_000)
    request_id = await _abandon(office, account)
    sweeper = _sweeper(office)
    _steady(sweeper, 0, 30_000)
    assert await office.gate.renew(office.wallets.slots(account).shard, [request_id]) == 1
    _steady(sweeper, 30_000, LEASE_MS)
    assert await sweeper.sweep(LEASE_MS) == 0


async def _row(office: Office, request_id: str) -> Any:
    async with office.database.read() as db:
        return (await db.execute(select(receipts).where(receipts.c.request_id == request_id))).one()


async def _expire(office: Office, policy: Literal["free", "full"]) -> None:
    sweeper = _sweeper(office, policy)
    _steady(sweeper, 0, LEASE_MS)
    assert await sweeper.sweep(LEASE_MS) == 1
    await office.keep_books()


async def test_by_default_an_expired_request_is_free(office: Office) -> None:
    """Nobody knows what was delivered; the receipt says how it ended, and that nothing is charged."""
    account = await office.account(10_000)
    request_id = await _abandon(office, account)
    await _expire(office, "free")
    row = await _row(office, request_id)
    assert (row.status, row.ending, row.policy, row.amount_nano, row.usage_source) == (
        *("expired", "expired", "free"),
        *(0, "none"),
    )
    assert await office.redis_balance(account) == 10_000
    assert (await office.verify()).ok


@pytest.mark.parametrize("multiplier", [1_000_000, 1_250_000])
async def test_an_operator_may_charge_the_worst_case(office: Office, multiplier: int) -> None:
    """What was held: the bounds of the draft at its prices, times the customer's multiplier; the hold is gone after."""
    account = await office.account(10_000)
    request_id = await _abandon(office, account, multiplier)
    await _expire(office, "full")
    worst = amount_nano(PRICES, Usage(input_tokens=100, output_tokens=50), multiplier)
    row = await _row(office, request_id)
    assert (row.ending, row.policy, row.usage_source) == ("expired", "full", "estimated")
    assert (row.input_tokens, row.output_tokens, row.multiplier, row.amount_nano) == (100, 50, multiplier, worst)
    wallet = await office.wallets.read(account)
    assert wallet is not None
    assert (wallet.balance_nano, wallet.held_nano) == (10_000 - worst, 0)
    assert (await office.verify()).ok


async def test_the_worst_case_has_the_tier_and_the_fields_that_were_held(office: Office) -> None:
    """As the draft has them; the receipt says so, and recomputes."""
    account = await office.account(10_000)
    extras = Extras(service_tier="priority", fields=("web_search_options",))
    request_id = await _abandon(office, account, version=office.rich_version, extras=extras)
    await _expire(office, "full")
    row = await _row(office, request_id)
    assert row.extras == {"service_tier": "priority", "fields": ["web_search_options"]}
    usage = Usage(input_tokens=100, output_tokens=50)
    assert row.amount_nano == amount_nano(RICH_PRICES, usage, extras=extras) == 325
    assert (await office.verify()).ok


async def test_prices_that_nobody_knows_charge_nothing(office: Office) -> None:
    """A draft names a version that is not there: the hold ends all the same, and the receipt says that it was free."""
    account = await office.account(10_000)
    request_id = await _abandon(office, account, version="prc_none")
    await _expire(office, "full")
    row = await _row(office, request_id)
    assert (row.policy, row.amount_nano, row.input_tokens) == ("free", 0, 0)
    assert (await office.verify()).ok


async def test_the_bookkeeper_waits_for_a_lease(office: Office) -> None:
    """By its own clock, round by round; then it ends the hold and posts the receipt."""
    account = await office.account(10_000)
    await _abandon(office, account)
    stopping, ticks = asyncio.Event(), iter(range(0, 10**9, 1_000))
    expired_at: list[int] = []

    def clock() -> int:
        now = next(ticks)
        if now > 10 * LEASE_MS or bookkeeper.posted:
            expired_at.append(now)
            stopping.set()
        return now

    bookkeeper = Bookkeeper(
        office.database,
        ReceiptStreams(office.books.wire, office.books.shards),
        office.wallets,
        office.books.price,
        sweep_every_ms=1_000,
        lease_ms=LEASE_MS,
        clock=clock,
    )
    await bookkeeper.run(stopping)
    assert bookkeeper.posted == 1
    assert LEASE_MS <= expired_at[0] < 2 * LEASE_MS


async def test_newcomers_do_not_spend_what_expired_in_the_books(office: Office) -> None:
    """Each pays with plain money, to the end of it; the promotional credit goes whole, and a later payment stays."""
    account = await office.account(1_000)
    await office.give(account, 1_000, expires_in_ms=150)
    await asyncio.sleep(0.2)
    request_id, generation = await office.begin(account, 1_000)
    slots = office.wallets.slots(account, "key_1")
    refused = await office.gate.admit(slots, NO_RULES, "req_newcomer", 1_000, 0, b"{}")
    assert refused == Refused("credit", available_nano=0)
    receipt = office.receipt(account, Usage(input_tokens=498), request_id=request_id, created_at_ms=now_ms())
    settled = await office.gate.settle(slots, request_id, receipt.amount_nano, 1, _encode(receipt), generation)
    assert settled is not None and settled.unpaid_nano == 0
    await office.credit(account, 500)
    await office.books.apply_credits(account)
    assert await _sweeper(office).lapse() == 1
    await office.keep_books()
    left = 1_500 - receipt.amount_nano
    assert await office.redis_balance(account) == await office.journal_balance(account) == left
    assert (await office.verify()).problems == []


@pytest.mark.parametrize("came_before", [True, False])
async def test_a_charge_without_a_wallet_spends_no_lot_that_had_expired(office: Office, came_before: bool) -> None:
    """The ledger says what it came out of, by when the request came."""
    account = await office.account(1_000)
    await office.give(account, 1_000, expires_in_ms=150)
    came_ms = now_ms()
    await asyncio.sleep(0.2)
    request_id, generation = await office.begin(account, 500)
    slots = office.wallets.slots(account, "key_1")
    await office.books.wire.call("DEL", slots.wallet)
    came = {"created_at_ms": came_ms if came_before else now_ms()}
    receipt = office.receipt(account, Usage(input_tokens=100), request_id=request_id, **came)
    await office.gate.settle(slots, request_id, receipt.amount_nano, 1, _encode(receipt), generation)
    await office.keep_books()
    await _sweeper(office).lapse()
    await office.keep_books()
    left = 1_000 if came_before else 1_000 - receipt.amount_nano
    assert await office.redis_balance(account) == await office.journal_balance(account) == left
    assert (await office.verify()).problems == []
