"""Holds three independent counts against each other: the load's, the upstream's, and the gateway's receipts
and money.

Every check is an equality of integers; a run is good when all differences are 0. Nothing is corrected or
ignored here.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import httpx
import msgspec

from benchmarks.money import CREDIT_USD, charge_nano, nano
from benchmarks.upstream import COMPLETION_TOKENS, PROMPT_TOKENS, Count

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.exchange import Figures
    from benchmarks.operator_api import Customer, Operator, Receipt

CATCH_UP_S = 60.0
POLL_S = 0.5
READ_AGAIN_MAX = 3


class Check(msgspec.Struct, frozen=True):
    """Two numbers that must be equal."""

    what: str
    expected: int
    found: int

    @property
    def difference(self) -> int:
        """0 when all is well."""
        return self.found - self.expected


class Books(msgspec.Struct, kw_only=True):
    """The sums over all receipts of the customer. `misrated`: the amount is not the usage x the prices."""

    receipts: int = 0
    streams: int = 0
    ok: int = 0
    measured: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    amount_nano: int = 0
    misrated: int = 0
    repeated: int = 0


def upstream_count(port: int) -> Count:
    """What the upstream says it served."""
    answer = httpx.get(f"http://127.0.0.1:{port}/count", timeout=5.0, trust_env=False)
    return msgspec.json.decode(answer.raise_for_status().content, type=Count)


def wait_for_ledger(operator: Operator, customer: Customer) -> float:
    """Until the ledger proves itself, nothing is held and nothing moves any more; the seconds it took.

    After `CATCH_UP_S` it stops waiting: the checks then show what is missing.
    """
    started = time.monotonic()
    last: object = None
    while (waited_s := time.monotonic() - started) < CATCH_UP_S:
        verdict, wallet = operator.verdict(), operator.wallet_nano(customer)
        now = (verdict.checked, wallet)
        if verdict.ok and wallet[1] == 0 and now == last:
            return waited_s
        last = now
        time.sleep(POLL_S)
    return waited_s


def add_up(receipts: Iterable[Receipt]) -> Books:
    """Read all receipts once."""
    books = Books()
    seen: set[str] = set()
    for receipt in receipts:
        usage = receipt.usage
        amount_nano = nano(receipt.amount)
        books.receipts += 1
        books.streams += receipt.stream
        books.ok += receipt.status == "ok"
        books.measured += receipt.usage_source == "upstream"
        books.input_tokens += usage.input_tokens
        books.output_tokens += usage.output_tokens
        books.amount_nano += amount_nano
        books.misrated += amount_nano != charge_nano(usage.input_tokens, usage.output_tokens)
        seen.add(receipt.request_id)
    books.repeated = books.receipts - len(seen)
    return books


def read_books(operator: Operator, customer: Customer, expected: int) -> Books:
    """The receipts, read again while some are missing: the ledger may be behind what it verified."""
    for _ in range(READ_AGAIN_MAX):
        books = add_up(operator.receipts(customer))
        if books.receipts == expected:
            break
        time.sleep(2.0)
    return books


def load_checks(loads: list[Figures], served: Count) -> list[Check]:
    """What the load saw of the gateway, against what the upstream served."""
    statuses: Counter[str] = Counter()
    errors = sum(sum(figures.errors.values()) for figures in loads)
    for figures in loads:
        statuses.update(figures.statuses)
    streams = [figures.stream for figures in loads if figures.stream]
    return [
        Check("answers other than 200", 0, statuses.total() - statuses["200"]),
        Check("failed or unfinished requests", 0, errors),
        Check("requests: upstream served, customer got", served.requests, statuses["200"]),
        Check("streams: upstream served, customer got", served.streams, sum(s.streams for s in streams)),
        Check("frames: upstream sent, customer got", served.frames, sum(s.frames for s in streams)),
        Check("streams without their end", 0, sum(s.incomplete for s in streams)),
        Check("frames lost", 0, sum(s.lost for s in streams)),
        Check("frames doubled", 0, sum(s.duplicated for s in streams)),
        Check("frames out of order", 0, sum(s.out_of_order for s in streams)),
    ]


def book_checks(books: Books, served: Count, wallet_nano: tuple[int, int]) -> list[Check]:
    """The receipts and the wallet, against what the upstream served."""
    streamed = served.completion_tokens - (served.requests - served.streams) * COMPLETION_TOKENS
    frames_each = streamed // served.streams if served.streams else 0
    due_nano = (served.requests - served.streams) * charge_nano(PROMPT_TOKENS, COMPLETION_TOKENS)
    due_nano += served.streams * charge_nano(PROMPT_TOKENS, frames_each)
    charged_nano = nano(CREDIT_USD) - wallet_nano[0]
    return [
        Check("requests: upstream served, receipts", served.requests, books.receipts),
        Check("streams: upstream served, receipts", served.streams, books.streams),
        Check("requests with two receipts", 0, books.repeated),
        Check("receipts with status ok", books.receipts, books.ok),
        Check("receipts with the upstream's own usage", books.receipts, books.measured),
        Check("prompt tokens: upstream served, receipts", served.prompt_tokens, books.input_tokens),
        Check("completion tokens: upstream served, receipts", served.completion_tokens, books.output_tokens),
        Check("receipts whose amount is not usage x price", 0, books.misrated),
        Check("nano-USD: due for what was served, receipts", due_nano, books.amount_nano),
        Check("nano-USD: receipts, taken from the wallet", books.amount_nano, charged_nano),
        Check("nano-USD still held", 0, wallet_nano[1]),
    ]


def reconcile(operator: Operator, customer: Customer, served: Count, loads: list[Figures]) -> list[Check]:
    """All checks, once the ledger has been waited for."""
    books = read_books(operator, customer, served.requests)
    verdict = operator.verdict()
    return [
        *load_checks(loads, served),
        *book_checks(books, served, operator.wallet_nano(customer)),
        Check("ledger verifies (1: yes)", 1, int(verdict.ok)),
        Check("ledger drift in nano-USD", 0, verdict.drift_nano),
    ]
