"""What a channel keeps sealed: its credentials, and its shaping, any of which may be secret."""

from collections.abc import Sequence
from typing import Any

import msgspec

from app.base.crypto import Sealer, Secret
from app.catalog.records import Credential, Shaping, VendorLimits

__all__ = ["open_credentials", "open_shaping", "seal_credentials", "seal_shaping", "shaping_context"]


class _Kept(msgspec.Struct, omit_defaults=True):
    """A credential, opened."""

    id: str
    secret: str | None
    name: str = ""
    weight: int = 1
    limits: VendorLimits = VendorLimits()
    enabled: bool = True


_kept = msgspec.json.Decoder(list[_Kept | str])
_shaping = msgspec.json.Decoder(Shaping)


def seal_credentials(sealer: Sealer, channel_id: str, credentials: Sequence[Credential]) -> bytes:
    kept = [
        _Kept(
            id=each.id,
            secret=None if each.secret is None else each.secret.reveal(),
            name=each.name,
            weight=each.weight,
            limits=each.limits,
            enabled=each.enabled,
        )
        for each in credentials
    ]
    return sealer.seal(msgspec.json.encode(kept), channel_id)


def open_credentials(sealer: Sealer, channel_id: str, sealed: bytes) -> tuple[Credential, ...]:
    """Raises UnsealError. Those of a database from before credentials had names are texts: their place is their id."""
    kept = _kept.decode(sealer.open(sealed, channel_id))
    return tuple(_opened(each, f"{channel_id}.{place}") for place, each in enumerate(kept))


def seal_shaping(sealer: Sealer, channel_id: str, shaping: Shaping) -> bytes | None:
    """None where there is none."""
    return None if shaping == Shaping() else sealer.seal(msgspec.json.encode(shaping), shaping_context(channel_id))


def open_shaping(sealer: Sealer, channel_id: str, sealed: bytes | None) -> Shaping:
    """Raises UnsealError."""
    return Shaping() if sealed is None else _shaping.decode(sealer.open(sealed, shaping_context(channel_id)))


def shaping_context(channel_id: str) -> str:
    """Not the credentials': neither can be put in the other's place."""
    return f"{channel_id}/shaping"


def _opened(kept: _Kept | str, old_id: str) -> Credential:
    if isinstance(kept, str):
        return Credential(id=old_id, secret=Secret(kept))
    fields: dict[str, Any] = msgspec.structs.asdict(kept)
    secret = fields.pop("secret")
    return Credential(secret=None if secret is None else Secret(secret), **fields)
