"""One run: a calm stretch, the same load under faults, and what both came to."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec

from benchmarks.chaos.office import Receipt
from benchmarks.faults.judge import (
    Finding,
    Recovery,
    Speeds,
    healthy,
    judge_answers,
    judge_books,
    recoveries,
    speeds,
)
from benchmarks.faults.marks import Sent, Visit
from benchmarks.faults.plan import LEAD_IN_S, Spell, draw, fault_at
from benchmarks.money import CREDIT_USD, nano

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.faults.stage import Stage

BOOKS_MOST_S = 60.0
_SOON_S = 0.3


class Lengths(msgspec.Struct, frozen=True):
    """Seconds: of the calm before, of the spells, and of the load after them."""

    calm_s: float
    spells_s: float
    after_s: float


class Result(msgspec.Struct, kw_only=True):
    spells: tuple[Spell, ...]
    sent: list[Sent]
    visits: list[Visit]
    receipts: list[Receipt]
    findings: list[Finding]
    recovered: list[Recovery]
    calm: Speeds
    healthy: Speeds
    all: Speeds
    channels: dict[str, int]

    def fault_of(self, channel_id: str, at_s: float) -> str:
        return fault_at(self.spells, self.channels[channel_id], at_s)


async def play(on: Stage, rate: float, lengths: Lengths, say: Callable[[str], None]) -> Result:
    spells = draw(on.setting.seed, lengths.spells_s, has_names=on.has_names)
    load = await on.set_up(spells)
    assert on.vendors is not None
    tasks: list[asyncio.Task[None]] = []
    try:
        say(f"{lengths.calm_s:.0f} s without faults")
        calm = await load.run(rate, time.monotonic(), lengths.calm_s)
        started_s = time.monotonic() + _SOON_S
        on.vendors.start(started_s)
        putting_right = asyncio.create_task(on.put_right(spells, started_s))
        tasks += (putting_right, asyncio.create_task(on.watch(started_s)))
        load_s = LEAD_IN_S + lengths.spells_s + lengths.after_s
        say(f"{load_s:.0f} s with {len(spells)} spells")
        sent = await load.run(rate, started_s, load_s)
        await putting_right
    finally:
        load.close()
        for task in tasks:
            task.cancel()
    say("waiting for the books")
    books = await _balanced(on)
    visits = on.vendors.finish()
    receipts = [receipt async for receipt in on.office.receipts(on.account_id)]
    by_id = {receipt.request_id: receipt for receipt in receipts}
    recovered = recoveries(spells, visits, on.standings, load_s)
    return Result(
        spells=spells,
        sent=sent,
        visits=[visit for visit in visits if visit.serial > len(calm)],
        receipts=receipts,
        findings=[
            *judge_answers(sent, visits, by_id),
            _late(recovered),
            Finding("requests that failed without faults", sum(one.outcome != "whole" for one in calm)),
            *judge_books([*calm, *sent], receipts, on.channels),
            *books,
            Finding(
                "nano-USD by which the wallet differs from its receipts",
                abs(await _spent_nano(on) - sum(nano(receipt.amount) for receipt in receipts)),
            ),
        ],
        recovered=recovered,
        calm=speeds(calm),
        healthy=speeds(healthy(sent, visits, by_id)),
        all=speeds(sent),
        channels=on.channels,
    )


def _late(recovered: Sequence[Recovery]) -> Finding:
    late = [
        f"channel {one.spell.channel}, {one.spell.kind}, {one.spell.end_s - one.spell.start_s:.1f} s long, ended at "
        f"{one.spell.end_s:.1f} s: "
        + (f"not within {one.watched_s:.1f} s" if one.after_s is None else f"{one.after_s:.1f} s")
        + f", due {one.due_s:.1f} s"
        for one in recovered
        if one.is_late
    ]
    return Finding("channels that served again later than their half-open time", len(late), 0, late[:12])


async def _balanced(on: Stage) -> list[Finding]:
    """Waits until nothing is held and no receipt comes any more."""
    deadline, last = time.monotonic() + BOOKS_MOST_S, -1
    while True:
        wallet, (verdict, problems) = await on.office.wallet(on.account_id), await on.office.verdict()
        receipts = int(verdict.checked.get("receipts", 0))
        if (verdict.ok and not wallet.held_nano and receipts == last) or time.monotonic() > deadline:
            break
        last = receipts
        await asyncio.sleep(0.5)
    return [
        Finding("problems that the ledger finds in itself", int(not verdict.ok), 0, problems[:8]),
        Finding("nano-USD of drift", abs(verdict.drift_nano)),
        Finding("nano-USD still held", wallet.held_nano),
    ]


async def _spent_nano(on: Stage) -> int:
    return nano(CREDIT_USD) - (await on.office.wallet(on.account_id)).balance_nano
