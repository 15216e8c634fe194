"""Which upstream has which fault, and when: drawn beforehand by a seed. Pure."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CHANNELS = 10
TLS_CHANNEL, NAMED_CHANNEL = 8, 9  # the one reached by https, and the one reached by a name

# Each, and how it looks from outside.
REQUEST_KINDS = {
    "silent": "takes the request and says nothing",
    "silent after head": "sends a 200 and its headers, and says nothing",
    "slow tokens": "one token every 400 ms",
    "cut": "breaks the connection halfway through the content",
    "garbage": "a 200 with bytes that mean nothing",
    "empty 200": "a 200 with nothing in it",
    "error in 200": "a 200 that holds an error",
    "429": "429, without a Retry-After",
    "429, wait 2 s": "429 with Retry-After: 2",
    "401": "401, until the operator has put it right",
    "500": "500 at once",
}
CONNECTION_KINDS = {
    "refuse": "refuses connections",
    "no handshake": "a full backlog: connections neither open nor fail",
}
TLS_KINDS = {
    "tls: stranger": "shows a certificate that nobody vouches for",
    "tls: plain": "answers the TLS handshake in plain HTTP",
}
NAME_KINDS = {
    "dns: slow": "its name resolves after 3 s",
    "dns: silent": "its name does not resolve: the resolver says nothing",
}
KINDS = REQUEST_KINDS | CONNECTION_KINDS | TLS_KINDS | NAME_KINDS
SERVED_ALL_THE_SAME = frozenset({"slow tokens"})

LEAD_IN_S = 3.0
_SPELL_S = (4.0, 12.0)
_SPELLS_A_SECOND = 0.3
_FAULTY_MOST = 6
_REST_S = 8.0
_STORM_AT, _STORM_S = 0.55, 6.0


class Spell(msgspec.Struct, frozen=True, kw_only=True):
    """Times are seconds since the start of the load."""

    channel: int
    kind: str
    start_s: float
    end_s: float

    @property
    def rested_s(self) -> float:
        """When the next one may begin: by then the channel has been asked again, for a breaker that opens for twice as
        long each time is open no longer than the spell was, and its first time."""
        return self.end_s + (self.end_s - self.start_s) + _REST_S


def kinds_of(channel: int, *, has_names: bool) -> dict[str, str]:
    """The faults that this channel can have; without a resolver of our own no name can be slow."""
    kinds = REQUEST_KINDS | CONNECTION_KINDS
    if channel == TLS_CHANNEL:
        kinds = kinds | TLS_KINDS
    return kinds | NAME_KINDS if channel == NAMED_CHANNEL and has_names else kinds


def draw(seed: int, load_s: float, *, has_names: bool = True) -> tuple[Spell, ...]:
    """Spells of `load_s` seconds, every kind about equally often, and one storm in which a single channel is well. At
    any time one is."""
    rng = random.Random(seed)
    end_s = LEAD_IN_S + load_s
    storm_s, well = LEAD_IN_S + _STORM_AT * load_s, rng.randrange(CHANNELS)
    spells = _storm(rng, storm_s, well, has_names=has_names)
    spared = Spell(channel=well, kind="", start_s=storm_s, end_s=storm_s + _STORM_S)
    bag: list[str] = []
    at_s = LEAD_IN_S
    while at_s < end_s:
        if not bag:
            bag = sorted(kind for kind in KINDS if has_names or kind not in NAME_KINDS)
            rng.shuffle(bag)
        lasts_s = min(rng.uniform(*_SPELL_S), end_s - at_s)
        free = [
            spell
            for kind in bag
            for channel in range(CHANNELS)
            if kind in kinds_of(channel, has_names=has_names)
            and _is_rested(
                spell := Spell(channel=channel, kind=kind, start_s=at_s, end_s=at_s + lasts_s), [*spells, spared]
            )
        ]
        if free and sum(spell.start_s <= at_s < spell.end_s for spell in spells) < _FAULTY_MOST:
            chosen = rng.choice([spell for spell in free if spell.kind == free[0].kind])
            spells.append(chosen)
            bag.remove(chosen.kind)
        at_s += rng.expovariate(_SPELLS_A_SECOND)
    return tuple(sorted(spells, key=lambda spell: (spell.start_s, spell.channel)))


def _storm(rng: random.Random, at_s: float, well: int, *, has_names: bool) -> list[Spell]:
    return [
        Spell(
            channel=channel,
            kind=rng.choice(sorted(set(kinds_of(channel, has_names=has_names)) - SERVED_ALL_THE_SAME)),
            start_s=at_s,
            end_s=at_s + _STORM_S,
        )
        for channel in range(CHANNELS)
        if channel != well
    ]


def _is_rested(new: Spell, spells: Iterable[Spell]) -> bool:
    return not any(
        spell.channel == new.channel and spell.start_s < new.rested_s and new.start_s < spell.rested_s
        for spell in spells
    )


def fault_at(spells: Sequence[Spell], channel: int, at_s: float) -> str:
    """The fault of that moment; empty while the channel is well."""
    for spell in spells:
        if spell.channel == channel and spell.start_s <= at_s < spell.end_s:
            return spell.kind
    return ""


def well_least(spells: Sequence[Spell]) -> int:
    """The fewest channels that are well at one time."""
    moments = [spell.start_s for spell in spells]
    return min((CHANNELS - sum(s.start_s <= at < s.end_s for s in spells) for at in moments), default=CHANNELS)
