"""Which receipt is of which request. Pure.

By the request's id where the client saw a head; by the number of output tokens, which no two requests share, where the
receipt has the upstream's usage; else by its key and time. A key has one request under way at a time, but for those
whose client has hung up: a gateway that was down meanwhile may find them at its door behind the one that followed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from benchmarks.chaos.errand import Sent, Served, Struck
from benchmarks.chaos.office import Receipt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

REBUILD_MOST_MS = 10_000  # after a fault that took writes from Redis, until all of them are made good
_SLACK_MS = 1000
_LATE_MS = 60_000  # a request may wait so long at a door that nobody opens
_READS_ON_MS = 12_000  # after its customer has gone, an answer is read to its end, within bounds


class Case(msgspec.Struct):
    """One request with all that is known of it."""

    sent: Sent
    served: Served
    receipts: list[Receipt]

    @property
    def receipt(self) -> Receipt | None:
        return self.receipts[0] if self.receipts else None

    def told(self) -> str:
        """One line for the one who looks into it."""
        sent, kind = self.sent, "stream" if self.sent.errand.stream else "plain"
        receipts = ", ".join(
            f"{r.request_id} {r.status} {r.ending} {r.usage_source} {r.usage.output_tokens} {r.amount}"
            for r in self.receipts
        )
        return (
            f"{sent.serial} {kind} {sent.errand.ending} by {sent.key_id}, {sent.sent_ms}-{sent.ended_ms}: "
            f"{sent.outcome} {sent.status} {sent.code} {sent.request_id} after {sent.frames} of {sent.errand.frames}; "
            f"upstream saw {self.served.seen}, whole {self.served.whole}; receipts: {receipts or 'none'}"
        )


def match(
    sent: Sequence[Sent], served: Mapping[int, Served], receipts: Iterable[Receipt]
) -> tuple[dict[int, Case], list[Receipt]]:
    """A case for each request by serial, and the receipts that are nobody's."""
    cases = {one.serial: Case(one, served.get(one.serial, Served()), []) for one in sent}
    by_id = {one.request_id: one.serial for one in sent if one.request_id}
    by_key: dict[str, list[Case]] = {}
    for case in sorted(cases.values(), key=lambda case: case.sent.sent_ms):
        by_key.setdefault(case.sent.key_id, []).append(case)
    strays, nameless = [], []
    for receipt in receipts:
        serial = by_id.get(receipt.request_id)
        if serial is None and receipt.usage_source == "upstream":
            serial = receipt.usage.output_tokens
        if serial is None:
            nameless.append(receipt)
        elif serial in cases:
            cases[serial].receipts.append(receipt)
        else:
            strays.append(receipt)
    for receipt in sorted(nameless, key=lambda receipt: receipt.created_ms):
        found = _by_time(receipt, by_key.get(receipt.key_id, []))
        if found is None:
            strays.append(receipt)
        else:
            found.receipts.append(receipt)
    return cases, strays


def _by_time(receipt: Receipt, own: Sequence[Case]) -> Case | None:
    """The last request of the key that was sent before, and could be it."""
    for case in reversed(own):
        sent = case.sent
        if sent.sent_ms > receipt.created_ms or sent.errand.stream != receipt.stream:
            continue
        if sent.sent_ms < receipt.created_ms - _LATE_MS:
            return None
        if not sent.request_id and not case.receipts and sent.outcome not in ("refused", "unreachable"):
            return case
    return None


def is_rebuilding(struck: Iterable[Struck], began_ms: int, ended_ms: int) -> bool:
    """Whether Redis lost writes, or had lost them less than `REBUILD_MOST_MS` before, at any time between the two."""
    return any(
        fault.began_ms <= ended_ms and (not fault.ended_ms or fault.ended_ms + REBUILD_MOST_MS >= began_ms)
        for fault in struck
        if fault.loses_writes
    )


def overlapping(case: Case, struck: Iterable[Struck]) -> list[Struck]:
    """The faults that were under way while the request was, in the gateway's eyes."""
    more_ms = _READS_ON_MS if case.sent.outcome == "vanished" else _SLACK_MS
    return [
        fault
        for fault in struck
        if fault.began_ms <= case.sent.ended_ms + more_ms and fault.ended_ms >= case.sent.sent_ms
    ]
