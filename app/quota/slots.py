"""The names of Redis keys: one shard's tag, so that each Lua call stays in one slot."""

import msgspec

from app.base.ids import shard_of

__all__ = ["Shard", "Slots", "settle_keys", "shard_keys", "slots_of"]


class Shard(msgspec.Struct, frozen=True):
    """The keys that all accounts of a shard share."""

    number: int
    holds: bytes
    leases: bytes
    receipts: bytes
    made_good: bytes


class Slots(msgspec.Struct, frozen=True):
    """The keys that one customer key's requests touch."""

    account_id: str
    key_id: str
    wallet: bytes
    rate: bytes
    live: bytes
    shard: Shard


def shard_keys(number: int) -> Shard:
    tag = f"{{s{number}}}"
    return Shard(number, *(f"{tag}:{name}".encode() for name in ("holds", "leases", "receipts", "made_good")))


def settle_keys(slots: Slots) -> tuple[bytes, ...]:
    """The keys of settle.lua, in its order."""
    shard = slots.shard
    return (slots.wallet, shard.holds, shard.leases, shard.receipts, slots.rate, slots.live, shard.made_good)


def slots_of(account_id: str, key_id: str, shards: int) -> Slots:
    number = shard_of(account_id, shards)
    tag = f"{{s{number}}}"
    return Slots(
        account_id=account_id,
        key_id=key_id,
        wallet=f"{tag}:wallet:{account_id}".encode(),
        rate=f"{tag}:rate:{key_id}".encode(),
        live=f"{tag}:live:{key_id}".encode(),
        shard=shard_keys(number),
    )
