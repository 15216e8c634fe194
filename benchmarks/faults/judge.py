"""What a run comes to: the clients' count, the upstreams' and the gateway's receipts, held against each other. Pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import msgspec

from benchmarks.faults.marks import PIECES, PROMPT_TOKENS
from benchmarks.faults.plan import Spell
from benchmarks.money import charge_nano, nano

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.chaos.office import Receipt
    from benchmarks.faults.marks import Sent, Visit

SUCCESS_LEAST = 0.999
RECOVERY_SLACK_S = 3.0
# A request that met the fault may still end after it, and reopen a breaker.
_LAST_WORD_S = 2.5


class Finding(msgspec.Struct, frozen=True):
    """A count and what it may be at most."""

    what: str
    found: int
    most: int = 0
    examples: list[str] = []

    @property
    def is_wrong(self) -> bool:
        return self.found > self.most


class Standing(msgspec.Struct, frozen=True):
    """What the gateway said at `at_s`: the channel is not asked before `until_s`, both seconds of the load."""

    channel: int
    at_s: float
    until_s: float


class Recovery(msgspec.Struct, frozen=True):
    """How long after a spell its channel served again; None: not before its next spell, or the load's end, `watched_s`
    later. `due_s` is its half-open time, as the gateway had told it, and some slack."""

    spell: Spell
    after_s: float | None
    watched_s: float
    due_s: float

    @property
    def is_late(self) -> bool:
        return (self.watched_s if self.after_s is None else self.after_s) > self.due_s


class Speeds(msgspec.Struct, frozen=True):
    """Milliseconds: to the end of a plain answer, and to the first content of a streamed one."""

    requests: int
    plain_p50: float
    plain_p99: float
    first_p50: float
    first_p99: float


def judge_answers(sent: Sequence[Sent], visits: Sequence[Visit], receipts: Mapping[str, Receipt]) -> list[Finding]:
    """What customers and upstreams saw."""
    failed = [one for one in sent if not is_served(one)]
    spliced = [one for one in sent if one.said.spliced]
    false_ends = [one for one in sent if one.outcome == "whole" and one.said.pieces != PIECES]
    times = Counter((visit.serial, visit.channel) for visit in visits)
    twice = [f"request {serial}, channel {channel}" for (serial, channel), count in times.items() if count > 1]
    tried_twice = [
        one.request_id
        for one in receipts.values()
        if len({attempt.channel_id for attempt in one.attempts}) < len(one.attempts)
    ]
    cut = {visit.serial for visit in visits if visit.fault == "cut"}
    lost = [one for one in failed if not (one.stream and one.said.pieces and one.serial in cut)]
    allowed = math.floor(len(sent) * (1 - SUCCESS_LEAST))
    return [
        Finding(f"requests that failed ({SUCCESS_LEAST:.1%} must not)", len(failed), allowed, _examples(failed)),
        Finding("of them, before any content, or not for a cut", len(lost), 0, _examples(lost)),
        Finding("answers spliced from two", len(spliced), 0, _examples(spliced)),
        Finding("answers that end too soon as if they were whole", len(false_ends), 0, _examples(false_ends)),
        Finding("channels asked twice by one request, as they counted", len(twice), 0, twice[:8]),
        Finding("channels asked twice by one request, on receipts", len(tried_twice), 0, tried_twice[:8]),
    ]


def judge_books(sent: Iterable[Sent], receipts: Sequence[Receipt], channels: Mapping[str, int]) -> list[Finding]:
    """What the receipts say of what the customers saw; `channels` gives each id's number."""
    by_id: defaultdict[str, list[Receipt]] = defaultdict(list)
    for receipt in receipts:
        by_id[receipt.request_id].append(receipt)
    missing, doubled, amiss, elsewhere = [], [], [], []
    for one in sent:
        found = by_id.get(one.request_id, [])
        if one.outcome != "unanswered" and not found:
            missing.append(one)
        if len(found) > 1:
            doubled.append(one)
        if found and is_served(one):
            if found[0].status != "ok" or nano(found[0].amount) != charge_nano(PROMPT_TOKENS, PIECES):
                amiss.append(one)
            if channels.get(found[0].channel_id or "") != one.said.channel:
                elsewhere.append(one)
    return [
        Finding("answers without a receipt", len(missing), 0, _examples(missing)),
        Finding("answers with two", len(doubled), 0, _examples(doubled)),
        Finding("whole answers that are not charged in full", len(amiss), 0, _examples(amiss)),
        Finding("receipts that name another channel than the answer", len(elsewhere), 0, _examples(elsewhere)),
    ]


def recoveries(
    spells: Sequence[Spell], visits: Iterable[Visit], standings: Sequence[Standing], load_end_s: float
) -> list[Recovery]:
    """Of each spell, up to the channel's next one."""
    served: defaultdict[int, list[float]] = defaultdict(list)
    for visit in visits:
        if visit.whole and not visit.fault:
            served[visit.channel].append(visit.at_s)
    found = []
    for spell in spells:
        later = [other.start_s for other in spells if other.channel == spell.channel and other.start_s >= spell.end_s]
        until_s = min([*later, load_end_s])
        times = [at_s for at_s in served[spell.channel] if spell.end_s <= at_s < until_s]
        after_s = min(times) - spell.end_s if times else None
        due_s = max(0.0, _half_open_s(spell, standings) - spell.end_s) + RECOVERY_SLACK_S
        found.append(Recovery(spell, after_s, until_s - spell.end_s, due_s))
    return found


def _half_open_s(spell: Spell, standings: Iterable[Standing]) -> float:
    """When the gateway meant to ask the channel again, by its last word on the spell."""
    times = [
        each.until_s
        for each in standings
        if each.channel == spell.channel and spell.end_s <= each.at_s <= spell.end_s + _LAST_WORD_S
    ]
    return max(times, default=0.0)


def healthy(sent: Iterable[Sent], visits: Iterable[Visit], receipts: Mapping[str, Receipt]) -> list[Sent]:
    """Requests that were served by the first channel they were sent to, which was well."""
    faults: defaultdict[int, list[str]] = defaultdict(list)
    for visit in visits:
        faults[visit.serial].append(visit.fault)
    return [
        one
        for one in sent
        if is_served(one)
        and faults[one.serial] == [""]
        and (receipt := receipts.get(one.request_id)) is not None
        and len(receipt.attempts) == 1
    ]


def is_served(one: Sent) -> bool:
    return one.outcome == "whole" and one.said.pieces == PIECES and not one.said.spliced


def speeds(sent: Iterable[Sent]) -> Speeds:
    served = [one for one in sent if is_served(one)]
    plain = sorted(one.took_ms for one in served if not one.stream)
    first = sorted(one.first_ms for one in served if one.stream)
    return Speeds(len(served), _at(plain, 0.5), _at(plain, 0.99), _at(first, 0.5), _at(first, 0.99))


def _at(values: Sequence[float], share: float) -> float:
    return values[max(0, math.ceil(share * len(values)) - 1)] if values else 0.0


def _examples(several: Sequence[Sent]) -> list[str]:
    return [
        f"{one.at_s:.2f} s, request {one.serial}, {'streamed' if one.stream else 'plain'}: {one.outcome} {one.code}, "
        f"{one.said.pieces} pieces of channel {one.said.channel}, {one.took_ms:.0f} ms, {one.request_id}"
        for one in several[:8]
    ]
