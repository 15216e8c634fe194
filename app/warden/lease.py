"""A lease in Redis: one of many processes has it at a time. It runs out by itself when its holder dies, and nobody
gives back what has become another's."""

import secrets
import time
from pathlib import Path

from app.base.errors import ServiceUnavailable
from app.base.wire import Script, Wire

__all__ = ["Lease"]

_HERE = Path(__file__).parent
_HOLD = Script((_HERE / "hold.lua").read_text())
_RELEASE = Script((_HERE / "release.lua").read_text())


class Lease:
    """`hold` it more often than every `lasts_s`."""

    def __init__(self, wire: Wire, name: str, lasts_s: float) -> None:
        self._wire = wire
        self._key = f"tollgate:lease:{name}".encode()
        self._token = secrets.token_hex(16)
        self.lasts_s = lasts_s
        self._until = 0.0

    @property
    def is_held(self) -> bool:
        """By this process's clock, counted from before Redis was asked: it ends here before it ends there."""
        return time.monotonic() < self._until

    async def hold(self) -> bool:
        """Takes or renews it; whether it is ours. While Redis is away it stays so until it has run out."""
        asked = time.monotonic()
        try:
            is_ours = await self._wire.run(_HOLD, (self._key,), self._token, int(self.lasts_s * 1000))
        except ServiceUnavailable:
            return self.is_held
        self._until = asked + self.lasts_s if is_ours else 0.0
        return bool(is_ours)

    async def release(self) -> None:
        self._until = 0.0
        try:
            await self._wire.run(_RELEASE, (self._key,), self._token)
        except ServiceUnavailable:
            return  # it runs out
