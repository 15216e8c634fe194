"""The judgement: what must be equal or zero after the last fault, and every request that speaks against it. Pure.

What a kill excuses is counted apart and not more than that: a request that its worker took with it has a receipt that
says `expired` and charges nothing, and somebody must have killed a worker, or cut it off from Redis before it was
admitted, while it ran. An answer that its client has in full is never excused. Neither is a receipt that is missing,
whatever Redis lost: workers keep their settlements until they are posted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from benchmarks.chaos.errand import PROMPT_TOKENS
from benchmarks.chaos.match import Case, overlapping
from benchmarks.money import charge_nano, nano

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.chaos.errand import Struck
    from benchmarks.chaos.money_in import Paid, Watch
    from benchmarks.chaos.office import Receipt, Wallet

_EXAMPLES_MAX = 8


class Finding(msgspec.Struct):
    """Two numbers that must be equal, and what speaks against it."""

    what: str
    expected: int = 0
    found: int = 0
    examples: list[str] = []

    @property
    def difference(self) -> int:
        return self.found - self.expected


def _none(what: str, against: Iterable[Case], struck: Sequence[Struck]) -> Finding:
    finding = Finding(what)
    for case in against:
        finding.found += 1
        if len(finding.examples) < _EXAMPLES_MAX:
            faults = ", ".join(f"{f.number} {f.kind} {f.began_ms}-{f.ended_ms}" for f in overlapping(case, struck))
            finding.examples.append(f"{case.told()}; faults: {faults or 'none'}")
    return finding


def due_nano(case: Case) -> int:
    """What the request costs, once the upstream has answered it in full."""
    return charge_nano(PROMPT_TOKENS, case.sent.serial)


def paid_in_full(case: Case) -> bool:
    receipt = case.receipt
    if receipt is None or receipt.usage_source != "upstream" or receipt.usage.output_tokens != case.sent.serial:
        return False
    return nano(receipt.amount) == due_nano(case) and not nano(receipt.unpaid)


def is_excused(case: Case, struck: Sequence[Struck]) -> bool:
    """An expired receipt that a kill explains; or Redis, for one that was never relayed."""
    receipt = case.receipt
    if receipt is None or receipt.status != "expired" or case.sent.outcome == "answered":
        return False
    faults = overlapping(case, struck)
    never_relayed = not case.served.seen
    return any(f.loses or (never_relayed and (f.target == "redis" or f.loses_writes)) for f in faults)


def is_lost(case: Case) -> bool:
    """The upstream saw it, and no receipt says so."""
    return case.served.seen > 0 and case.receipt is None


def is_double(case: Case) -> bool:
    """It has two receipts."""
    return len(case.receipts) > 1


def judge_requests(cases: Mapping[int, Case], strays: Sequence[Receipt], struck: Sequence[Struck]) -> list[Finding]:
    """Requests, answers and receipts against each other."""
    every = list(cases.values())
    of = [case for case in every if case.receipt is not None]

    def none(what: str, against: Iterable[Case]) -> Finding:
        return _none(what, against, struck)

    stray = Finding("receipts of no request", 0, len(strays), [str(receipt) for receipt in strays[:_EXAMPLES_MAX]])
    return [
        none(
            "requests that the upstream saw, without a receipt",
            (c for c in every if is_lost(c)),
        ),
        none("requests with two receipts", (c for c in every if is_double(c))),
        stray,
        none(
            "whole answers that are not charged in full",
            (c for c in every if c.sent.outcome == "answered" and not paid_in_full(c)),
        ),
        none(
            "served in full, without its full charge and without an excuse",
            (
                c
                for c in of
                if c.served.whole
                and c.sent.outcome != "answered"
                and not paid_in_full(c)
                and not is_excused(c, struck)
                and not (c.receipt and c.receipt.status == "expired")
            ),
        ),
        none(
            "expired without a kill to explain it",
            (c for c in of if c.receipt and c.receipt.status == "expired" and not is_excused(c, struck)),
        ),
        none(
            "charged for nothing: refused by the vendor, or expired",
            (
                c
                for c in of
                if c.receipt
                and nano(c.receipt.amount)
                and (c.sent.errand.ending == "refused" or c.receipt.status == "expired")
            ),
        ),
        none("receipts with something unpaid", (c for c in of if c.receipt and nano(c.receipt.unpaid))),
        none(
            "refused for want of credit or by a limit, and served all the same",
            (c for c in every if c.sent.outcome == "refused" and (c.served.seen or c.receipts)),
        ),
        none("relayed more than once", (c for c in every if c.served.seen > 1)),
        none(
            "requests that got an internal error, or no end at all",
            (c for c in every if c.sent.outcome in ("gave up", "open", "failed")),
        ),
        none(
            "whole streams with frames lost, doubled or out of order",
            (c for c in every if c.sent.outcome == "answered" and c.sent.errand.stream and not _is_complete(c)),
        ),
        none(
            "broken streams that ended as if they were whole",
            (c for c in every if c.sent.outcome == "answered" and c.sent.errand.ending != "whole"),
        ),
        none(
            "answers that name another cost than their receipt",
            (c for c in of if c.sent.cost and c.receipt and nano(c.sent.cost) != nano(c.receipt.amount)),
        ),
    ]


def _is_complete(case: Case) -> bool:
    return case.sent.in_order and case.sent.frames == case.sent.errand.frames


def judge_money(
    cases: Mapping[int, Case], receipts: Sequence[Receipt], wallets: Mapping[str, Wallet], paid: Paid, watch: Watch
) -> list[Finding]:
    """What was paid in, charged and is left; and what the watch saw meanwhile."""
    finished = [case for case in cases.values() if case.receipt and case.receipt.usage_source == "upstream"]
    charged = dict.fromkeys(wallets, 0)
    for receipt in receipts:
        charged[receipt.account_id] += nano(receipt.amount) - nano(receipt.unpaid)
    left = {account_id: nano(f"{paid.usd.get(account_id, 0)}.00") - charged[account_id] for account_id in wallets}
    off = Finding("nano-USD by which wallets differ from payments less charges")
    for account_id, wallet in wallets.items():
        off.found += abs(wallet.balance_nano - left[account_id])
        if wallet.balance_nano != left[account_id]:
            off.examples.append(
                f"{account_id}: {wallet.balance_nano} in its wallet, {left[account_id]} by the receipts"
            )
    return [
        Finding(
            "nano-USD: due for finished requests, on their receipts",
            sum(due_nano(case) for case in finished),
            sum(nano(case.receipt.amount) for case in finished if case.receipt),
        ),
        off,
        Finding("repeated payments that were booked again", 0, paid.doubled),
        Finding("nano-USD still held", 0, sum(wallet.held_nano for wallet in wallets.values())),
        Finding("wallets below zero at the end", 0, sum(wallet.balance_nano < 0 for wallet in wallets.values())),
        Finding("wallets seen below zero", 0, watch.below_zero),
        Finding("wallets seen with more held than they have", 0, watch.held_beyond),
        Finding("times the ledger did not verify during the faults", 0, watch.not_ok, watch.problems[:_EXAMPLES_MAX]),
    ]
