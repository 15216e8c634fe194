"""All rules that bound a request, compiled into one argument for admit.lua, and the trace that its hold keeps of them.
Pure.

A subject is what rules are about: a key, an account, or an account's use of one model. What it uses is counted under
its name; see the keys in this room's docstring. The trace names the counters that a request was counted in, so that
settlement, or the sweeper after the death of a worker, corrects these and no others:

    key_1=c,t600,rpd:1000;acc_1=usd.day:5000000000

is a place among the concurrent requests of the key, its 600 tokens a minute, its 1000 requests a day; and the account's
5 USD a day.
"""

from collections.abc import Iterable, Sequence
from typing import Literal
from urllib.parse import quote

import msgspec

from app.base.limits import NO_LIMITS, Budget, Limits, Unit, Window
from app.quota.windows import window_starts, zone_of

__all__ = [
    "NO_RULES",
    "NO_TRACE",
    "WINDOWS_KEPT_S",
    "Counter",
    "Rules",
    "Subject",
    "SubjectKind",
    "compile_rules",
    "traced_subjects",
]

SubjectKind = Literal["key", "account", "model"]

NO_TRACE = "-"
_UNITS: dict[Unit, int] = {"requests": 1, "tokens": 2, "usd": 3}
# Longer than rates take to leak away, what was used beyond them too; counters of windows are read from the books again.
_RATES_KEPT_S = 3_600
WINDOWS_KEPT_S = 40 * 86_400

_encode = msgspec.msgpack.Encoder().encode


class Subject(msgspec.Struct, frozen=True):
    """Whom some rules bound. `id` is the key's or the account's; `model` where they are about its use of that one."""

    kind: SubjectKind
    id: str
    limits: Limits
    budgets: tuple[Budget, ...] = ()
    time_zone: str = "UTC"
    model: str | None = None

    @property
    def name(self) -> str:
        """As Redis counts it: without the signs that a trace is made of."""
        return self.id if self.model is None else f"{self.id}/{quote(self.model)}"

    @property
    def is_bound(self) -> bool:
        return self.limits != NO_LIMITS or bool(self.budgets)


class Counter(msgspec.Struct, frozen=True):
    """What is counted by windows: a limit a day, or a budget. `name` is its field in Redis."""

    name: str
    unit: Unit
    amount: int
    window: Window
    is_budget: bool
    starts: tuple[int, ...]


class Rules(msgspec.Struct, frozen=True):
    """`counters` stand by subject, in the order of `subjects`: first those that the trace has. They are right until
    `until_ms`, when the first of their windows has turned."""

    subjects: tuple[Subject, ...] = ()
    counters: tuple[tuple[Counter, ...], ...] = ()
    packed: bytes = b""
    names: str = NO_TRACE  # a trace that names all subjects, and nothing else
    trace: str = NO_TRACE
    until_ms: int | None = None


NO_RULES = Rules()


def compile_rules(subjects: Iterable[Subject], now_ms: int) -> Rules:
    bound = [subject for subject in subjects if subject.is_bound]
    if not bound:
        return NO_RULES
    bound.sort(key=lambda subject: not _is_settled(subject))
    counters = [_counters(subject, now_ms) for subject in bound]
    traces = [_trace(subject, each) for subject, each in zip(bound, counters, strict=True) if _is_settled(subject)]
    turns = [counter.starts[2] for each in counters for counter in each if len(counter.starts) > 1]
    return Rules(
        tuple(bound),
        tuple(counters),
        _encode([_pack(subject, each) for subject, each in zip(bound, counters, strict=True)]),
        ";".join(subject.name for subject in bound),
        ";".join(traces) or NO_TRACE,
        min(turns, default=None),
    )


def traced_subjects(trace: str) -> list[str]:
    """The names of the subjects of a trace, in its order."""
    return [] if trace == NO_TRACE else [each.partition("=")[0] for each in trace.split(";")]


def _is_settled(subject: Subject) -> bool:
    """Whether the end of a request changes what its rules have counted: requests a minute stay as they are."""
    limits = subject.limits
    return bool(limits.tpm or limits.rpd or limits.tpd or limits.concurrency or subject.budgets)


def _counters(subject: Subject, now_ms: int) -> tuple[Counter, ...]:
    zone, limits = zone_of(subject.time_zone), subject.limits
    today = window_starts("day", zone, now_ms)
    found = []
    if limits.rpd:
        found.append(Counter("rpd", "requests", limits.rpd, "day", False, today))
    if limits.tpd:
        found.append(Counter("tpd", "tokens", limits.tpd, "day", False, today))
    for budget in subject.budgets:
        starts = window_starts(budget.window, zone, now_ms)
        found.append(Counter(f"{budget.unit}.{budget.window}", budget.unit, budget.amount, budget.window, True, starts))
    return tuple(found)


def _pack(subject: Subject, counters: Sequence[Counter]) -> list[object]:
    """The order is admit.lua's."""
    limits = subject.limits
    rates: list[object] = [limits.rpm, limits.tpm, limits.concurrency, WINDOWS_KEPT_S if counters else _RATES_KEPT_S]
    if not counters:
        return rates
    fields = [f"{counter.name}{sign}" for counter in counters for sign in ("", "+", "@")]
    return [
        *rates,
        [[each.name, _UNITS[each.unit], each.amount, each.is_budget, each.starts] for each in counters],
        fields,
    ]


def _trace(subject: Subject, counters: Sequence[Counter]) -> str:
    limits = subject.limits
    items = ["c"] if limits.concurrency else []
    if limits.tpm:
        items.append(f"t{limits.tpm}")
    items += [f"{counter.name}:{counter.amount}" for counter in counters]
    return f"{subject.name}={','.join(items)}"
