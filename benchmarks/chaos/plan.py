"""Which faults come when: drawn from a seed, before anything runs. Pure.

Every kind comes up equally often: kinds are dealt from a bag that is filled again when it is empty. Faults of different
targets may overlap, but for those that hit `everything`; those of one target follow each other.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence


class Kind(msgspec.Struct, frozen=True):
    """A kind of fault: whom it hits, and for how long (s). `loses` says that requests may end without a word,
    `loses_writes` that Redis forgets what it had acknowledged."""

    name: str
    target: str
    low_s: float = 0.0
    high_s: float = 0.0
    loses: bool = False
    loses_writes: bool = False


EXCLUSIVE = "everything"  # as a target: no other fault is under way, and nothing is left of one

KINDS = (
    Kind("kill a worker", "worker", loses=True),
    Kind("pause a worker", "worker", 0.3, 2.0),
    Kind("kill the bookkeeper", "bookkeeper"),
    Kind("pause the bookkeeper", "bookkeeper", 0.5, 4.0),
    Kind("two bookkeepers", "second bookkeeper", 2.0, 5.0),
    Kind("kill Redis", "redis", 0.0, 1.0),
    # Beyond the two seconds that a call waits, so that calls are repeated which Redis then answers twice.
    Kind("pause Redis", "redis", 1.5, 4.0),
    Kind("restart Redis", "redis", 0.0, 0.5),
    Kind("kill PostgreSQL", "postgres", 0.0, 1.0),
    Kind("pause PostgreSQL", "postgres", 0.5, 2.5),
    Kind("restart PostgreSQL", "postgres", 0.0, 0.5),
    Kind("kill the supervisor", "gateway", 0.0, 0.5),
    Kind("kill the whole gateway", "gateway", 0.0, 1.0, loses=True),
    Kind("restart the gateway", "gateway"),
)
OUTAGE = Kind("Redis away beyond a lease", "redis", 1.3, 1.6)  # in leases
BATCH_IN_HAND = Kind("empty Redis while a batch is in hand", EXCLUSIVE, 0.3, 1.0, loses_writes=True)
# Of a Redis that is a single server; a cluster of this run has no replicas, and no address that can be moved.
OLDER_STATES = (
    Kind("promote a lagging replica", EXCLUSIVE, 0.3, 1.5, loses_writes=True),
    Kind("an everysec Redis loses its last second", EXCLUSIVE, 0.5, 1.5, loses_writes=True),
    Kind("restore an older copy", EXCLUSIVE, 2.0, 10.0, loses_writes=True),
)
EMPTIED = Kind("empty Redis", EXCLUSIVE, loses_writes=True)
# In a short run these come first, so that each is seen; those that a gateway needs long to come back from are the last.
_FIRST = (
    "promote a lagging replica",
    "pause Redis",
    "kill a worker",
    "kill PostgreSQL",
    "kill the bookkeeper",
    "kill Redis",
    "pause a worker",
    "pause PostgreSQL",
    "two bookkeepers",
    "kill the whole gateway",
    "restart the gateway",
)


class Fault(msgspec.Struct, frozen=True):
    """One fault: `after_s` since the fault before it began, lasting `for_s`. `pick` chooses among several victims."""

    number: int
    kind: Kind
    after_s: float
    for_s: float
    pick: float


def kinds(database: str, lease_s: float, *, emptied: bool, cluster: bool = False) -> list[Kind]:
    """What can be done to a gateway on this database; `cluster`: on a Redis of several nodes."""
    found = [kind for kind in KINDS if kind.target != "postgres" or database == "postgres"]
    low_s, high_s = OUTAGE.low_s * lease_s, OUTAGE.high_s * lease_s
    found.append(msgspec.structs.replace(OUTAGE, low_s=low_s, high_s=high_s))
    found.append(BATCH_IN_HAND)
    if not cluster:
        found += OLDER_STATES
    if emptied:
        found.append(EMPTIED)
    return found


def draw(seed: int, count: int, seconds: float, among: Sequence[Kind], *, short: bool) -> list[Fault]:
    """`count` faults spread over `seconds`; the same for the same arguments."""
    rng = random.Random(seed)
    bag: list[Kind] = []
    if short:
        bag = [kind for name in reversed(_FIRST) for kind in among if kind.name == name]
        bag = [kind for kind in among if kind not in bag] + bag
    gap_s = seconds / max(1, count)
    faults = []
    for number in range(1, count + 1):
        if not bag:
            bag = list(among)
            rng.shuffle(bag)
        kind = bag.pop()
        for_s = rng.uniform(kind.low_s, kind.high_s)
        faults.append(Fault(number, kind, gap_s * rng.uniform(0.5, 1.5), for_s, rng.random()))
    return faults
