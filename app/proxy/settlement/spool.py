"""Settlements that Redis could not take: one file each in the data dir, written through to the disk before the
customer's last byte leaves, and replayed until Redis has taken them; by another worker, or after a restart.

Replaying is safe to repeat: a settlement is idempotent by its request's id. Nothing is ever deleted that Redis has not
taken: what can't be read becomes `.unreadable`, what Redis refuses for a day `.failed`.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
from collections.abc import Collection, Generator
from pathlib import Path

import msgspec

from app.quota.rules import NO_TRACE

__all__ = ["Settlement", "Spool"]

log = logging.getLogger("tollgate.settlement")

_SUFFIX = ".settlement"
_READ_MOST = 500


class Settlement(msgspec.Struct, frozen=True):
    """All that ends a hold: what `Gate.settle` takes. Without a receipt its request never began, and nothing is to be
    held for it: what `Gate.void` takes."""

    account_id: str
    key_id: str
    request_id: str
    charge_nano: int
    tokens: int
    receipt: bytes
    generation: bytes
    trace: str = NO_TRACE


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Settlement).decode


class Spool:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    async def keep(self, settlement: Settlement) -> None:
        """On the disk when this returns. Raises OSError."""
        await asyncio.to_thread(self._write, settlement)

    async def waiting(self, but: Collection[str] = ()) -> list[Settlement]:
        """The oldest of those that wait, but for the requests named."""
        return await asyncio.to_thread(self._read, but)

    async def drop(self, request_id: str) -> None:
        await asyncio.to_thread(self._path(request_id).unlink, missing_ok=True)

    async def set_aside(self, request_id: str) -> Path:
        """Keeps a settlement that Redis will not take where an operator finds it, and nobody replays it."""
        path = self._path(request_id)
        aside = path.with_suffix(".failed")
        with contextlib.suppress(FileNotFoundError):  # another worker was quicker
            await asyncio.to_thread(path.replace, aside)
        return aside

    @contextlib.contextmanager
    def claim(self) -> Generator[bool, None, None]:
        """Whether this process is the one to replay: several workers share the folder."""
        with (self._folder / "replay.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
            else:
                yield True

    def _path(self, request_id: str) -> Path:
        return self._folder / f"{request_id}{_SUFFIX}"

    def _write(self, settlement: Settlement) -> None:
        path = self._path(settlement.request_id)
        draft = path.with_suffix(f".{os.getpid()}")
        with draft.open("wb") as file:
            file.write(_encode(settlement))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name too
        finally:
            os.close(folder)

    def _read(self, but: Collection[str]) -> list[Settlement]:
        found = []
        paths = sorted(path for path in self._folder.glob(f"*{_SUFFIX}") if path.stem not in but)
        for path in paths[:_READ_MOST]:
            try:
                found.append(_decode(path.read_bytes()))
            except FileNotFoundError:
                continue
            except msgspec.MsgspecError as error:
                log.error("the spooled settlement %s can't be read and is set aside: %s", path.name, error)
                path.rename(path.with_suffix(".unreadable"))
        return found
