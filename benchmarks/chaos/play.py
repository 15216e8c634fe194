"""One run: customers and payments on, the faults, the calm after them, and what it all came to."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING

import msgspec

from benchmarks.chaos.by_kind import KindResult, results_by_kind
from benchmarks.chaos.clients import Book, Client
from benchmarks.chaos.errand import Errand, Struck
from benchmarks.chaos.faults import Breaker, now_ms
from benchmarks.chaos.judge import Finding, judge_money, judge_requests
from benchmarks.chaos.match import Case, match
from benchmarks.chaos.money_in import AWAY, Verified, Watch
from benchmarks.chaos.office import Receipt
from benchmarks.chaos.stage import POOR_USD
from benchmarks.chaos.upstream import read_journal
from benchmarks.operator_api import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.chaos.office import Wallet
    from benchmarks.chaos.plan import Fault
    from benchmarks.chaos.stage import Stage

CALM_S = 60.0
_POLL_S = 1.0
_REQUESTS_MAX = 200_000
_TOP_UP_USD = 6


class Result(msgspec.Struct, kw_only=True):
    """What it came to."""

    cases: dict[int, Case]
    struck: list[Struck]
    findings: list[Finding]
    by_kind: list[KindResult]
    receipts: list[Receipt]
    paid_count: int
    paid_calls: int
    watch: Watch
    load_s: float
    calm_s: float


async def play(on: Stage, plan: Sequence[Fault]) -> Result:
    """The whole run. Raises TimeoutError where something does not come back."""
    book, watch, stopping, calm = Book(_REQUESTS_MAX), Watch(), asyncio.Event(), asyncio.Event()
    breaker = Breaker(on.house, on.redis, on.postgres, on.setting.lease_s, on.say)
    clients = [Client(on.house.port, caller, book, random.Random(on.rng.random())) for caller in on.callers]
    started = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch.run(on.office, on.accounts, breaker.struck, calm))
        for client in clients:
            tasks.create_task(client.run(stopping))
        tasks.create_task(on.payer.run(on.poor, _TOP_UP_USD, on.setting.top_up_every_s, stopping))
        await breaker.carry_out(plan)
        await on.house.mend()
        await asyncio.sleep(2.0)
        stopping.set()
        calm.set()
    load_s = time.monotonic() - started
    on.say(f"{len(book.sent)} requests in {load_s:.0f} s; waiting for the books")
    calm_s = await _calm(on)
    last = await _last_round(on, book)
    await _calm(on)
    findings = await _judge(on, book, breaker.struck, watch, last)
    return Result(
        cases=findings[1],
        struck=breaker.struck,
        findings=findings[0],
        by_kind=results_by_kind(findings[1].values(), breaker.struck, watch.verified),
        receipts=findings[2],
        paid_count=on.payer.paid.count,
        paid_calls=on.payer.paid.calls,
        watch=watch,
        load_s=load_s,
        calm_s=calm_s,
    )


async def _calm(on: Stage) -> float:
    """Until nothing is held, the ledger verifies and no receipt comes any more; at most CALM_S. The seconds it took."""
    started, last = time.monotonic(), -1
    while (waited_s := time.monotonic() - started) < CALM_S:
        with contextlib.suppress(*AWAY):
            wallets = await _wallets(on)
            verdict, _ = await on.office.verdict()
            now = int(verdict.checked.get("receipts", 0))
            if verdict.ok and now == last and not any(wallet.held_nano for wallet in wallets.values()):
                return waited_s
            last = now
        await asyncio.sleep(_POLL_S)
    return waited_s


async def _wallets(on: Stage) -> dict[str, Wallet]:
    return {account_id: await on.office.wallet(account_id) for account_id in on.accounts}


async def _last_round(on: Stage, book: Book) -> int:
    """Every key is served again: nobody's limit, credit or connection was lost. How many are not."""
    for account_id in on.poor:
        await on.payer.pay(account_id, POOR_USD)
    wrong = 0
    for caller in on.callers:
        client = Client(on.house.port, caller, book, on.rng)
        sent = await client.ask(Errand(serial=book.serial, stream=False, wait_ms=1))
        client.hang_up()
        wrong += sent.outcome != "answered"
    return wrong


async def _verdict(on: Stage) -> tuple[Verdict, list[str]]:
    """A ledger that can't say anything does not verify."""
    try:
        return await on.office.verdict()
    except AWAY as error:
        return Verdict(ok=False, drift_nano=0), [str(error)]


async def _judge(
    on: Stage, book: Book, struck: list[Struck], watch: Watch, unserved: int
) -> tuple[list[Finding], dict[int, Case], list[Receipt]]:
    receipts = [receipt for account_id in on.accounts async for receipt in on.office.receipts(account_id)]
    wallets = await _wallets(on)
    verdict, problems = await _verdict(on)
    watch.verified.append(Verified(now_ms(), verdict.drift_nano))
    verified = await on.house.verify()
    await on.house.drain()
    left = await on.house.left_behind()
    cases, strays = match(book.sent, read_journal(on.upstream.journal), receipts)
    findings = [
        *judge_requests(cases, strays, struck),
        *judge_money(cases, receipts, wallets, on.payer.paid, watch),
        Finding("ledger verifies (1: yes)", 1, int(verdict.ok), problems[:8]),
        Finding("ledger drift in nano-USD", 0, verdict.drift_nano),
        Finding("exit code of `tollgate verify`", 0, verified),
        Finding("keys that are not served after the faults", 0, unserved),
        Finding("faults that missed their victim", 0, sum(not fault.did for fault in struck)),
        Finding("settlements left in the spool", 0, on.house.spooled()),
        Finding("starts kept out by left-over processes", 0, on.house.kept_out),
        Finding("ends of the gateway that nobody ordered", 0, on.house.unplanned),
        Finding("exits after SIGTERM other than 0", 0, sum(code != 0 for code in on.house.exits)),
        Finding("processes left behind", 0, left),
    ]
    return findings, cases, receipts
