"""The names of Redis keys: one shard's tag, so that each Lua call stays in one slot."""

from functools import lru_cache

import msgspec

from app.base.ids import shard_of
from app.quota.rules import traced_subjects

__all__ = ["Shard", "Slots", "settle_keys", "shard_keys", "slots_of", "use_keys"]

_TRACES_KEPT = 10_000


class Shard(msgspec.Struct, frozen=True):
    """The keys that all accounts of a shard share."""

    number: int
    holds: bytes
    leases: bytes
    receipts: bytes
    rejected: bytes
    made_good: bytes
    epoch: bytes


class Slots(msgspec.Struct, frozen=True):
    """The keys that one customer key's requests touch."""

    account_id: str
    key_id: str
    wallet: bytes
    shard: Shard
    ids: bytes  # of account and key, as a hold's text has them


def shard_keys(number: int) -> Shard:
    tag = f"{{s{number}}}"
    names = ("holds", "leases", "receipts", "receipts:rejected", "made_good", "epoch")
    return Shard(number, *(f"{tag}:{name}".encode() for name in names))


@lru_cache(maxsize=_TRACES_KEPT)
def use_keys(number: int, trace: str) -> tuple[bytes, ...]:
    """`use` and `live` of each subject of a trace, in its order."""
    return tuple(
        f"{{s{number}}}:{kind}:{subject}".encode() for subject in traced_subjects(trace) for kind in ("use", "live")
    )


def settle_keys(slots: Slots, trace: str) -> tuple[bytes, ...]:
    """The keys of settle.lua, in its order."""
    shard = slots.shard
    own = (slots.wallet, shard.holds, shard.leases, shard.receipts, shard.made_good)
    return own + use_keys(shard.number, trace)


def slots_of(account_id: str, key_id: str, shards: int) -> Slots:
    number = shard_of(account_id, shards)
    tag = f"{{s{number}}}"
    return Slots(
        account_id=account_id,
        key_id=key_id,
        wallet=f"{tag}:wallet:{account_id}".encode(),
        shard=shard_keys(number),
        ids=f"{account_id} {key_id}".encode(),
    )
