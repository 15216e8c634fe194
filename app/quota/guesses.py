"""How often an account may try a code that is not there: counted in Redis, so that it holds over all workers."""

from pathlib import Path

from app.base.errors import RateLimited
from app.base.ids import new_id, shard_of
from app.base.wire import Script, Wire

__all__ = ["Guesses"]

_MOST = 10
_WINDOW_MS = 60_000
_GUESS = Script((Path(__file__).parent / "guess.lua").read_text())


class Guesses:
    def __init__(self, wire: Wire, shards: int) -> None:
        self._wire = wire
        self._shards = shards

    async def begin(self, account_id: str) -> str:
        """Counts a try; its name. Raises RateLimited after ten failures within a minute, or ServiceUnavailable."""
        name = new_id("try")
        wait_ms = await self._wire.run(_GUESS, (self._key(account_id),), name, _MOST, _WINDOW_MS)
        if wait_ms:
            raise RateLimited(f"Too many codes that don't exist: at most {_MOST} a minute may be tried.", wait_ms)
        return name

    async def forgive(self, account_id: str, name: str) -> None:
        """The try was no guess: it does not count."""
        await self._wire.call(b"ZREM", self._key(account_id), name)

    def _key(self, account_id: str) -> bytes:
        return f"{{s{shard_of(account_id, self._shards)}}}:guesses:{account_id}".encode()
