"""What became of the books with each kind of fault that takes writes from Redis. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from benchmarks.chaos.judge import is_double, is_lost, paid_in_full
from benchmarks.chaos.match import Case, is_rebuilding, overlapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.chaos.errand import Struck
    from benchmarks.chaos.money_in import Verified


class KindResult(msgspec.Struct):
    """Of one kind: how often it was carried out; of the requests that were under way during one of them, how many were
    served without a receipt or answered without their full charge (`lost`), and how many have two receipts (`twice`);
    and the greatest drift that the ledger's first verdict after a repair told."""

    kind: str
    done: int = 0
    lost: int = 0
    twice: int = 0
    drift_nano: int = 0


def results_by_kind(cases: Iterable[Case], struck: Sequence[Struck], verified: Sequence[Verified]) -> list[KindResult]:
    """A line a kind, in the order of their first fault. `verified` is in order of time and ends with the last verdict
    of the run."""
    results: dict[str, KindResult] = {}
    for fault in struck:
        if fault.loses_writes:
            result = results.setdefault(fault.kind, KindResult(fault.kind))
            result.done += fault.did
            result.drift_nano = max(result.drift_nano, _drift_after(fault, verified))
    for case in cases:
        for kind in {fault.kind for fault in overlapping(case, struck) if fault.loses_writes}:
            results[kind].lost += is_lost(case) or (case.sent.outcome == "answered" and not paid_in_full(case))
            results[kind].twice += is_double(case)
    return list(results.values())


def _drift_after(fault: Struck, verified: Sequence[Verified]) -> int:
    """What the first verdict says that was not made while Redis was being rebuilt after it, or else the last one."""
    for verdict in verified:
        if verdict.at_ms > fault.ended_ms and not is_rebuilding([fault], verdict.at_ms, verdict.at_ms):
            return verdict.drift_nano
    return verified[-1].drift_nano if verified else 0
