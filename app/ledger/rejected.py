"""Entries of the streams that could not be posted: charged by Redis, waiting for the books. Each is tried again at the
bookkeeper's start and in turns after it, so that a release which fixes the cause posts them, and whoever runs the
gateway is told of each once."""

import logging
from collections.abc import Callable, Sequence

from app.base.clock import monotonic_ms
from app.base.database import Database
from app.ledger.audit import Tell
from app.ledger.posting import Unpostable, post, posted_items
from app.ledger.stream import KEEP_MS, Entry, ReceiptStreams, Rejected

__all__ = ["RejectedEntries"]

log = logging.getLogger("tollgate.bookkeeper")

_TURN_EVERY_MS = 300_000
_TRIED_A_ROUND = 100


class RejectedEntries:
    """Each round tries some entries again, until all had their turn; turns begin five minutes apart, or where one was
    set aside."""

    def __init__(
        self, database: Database, streams: ReceiptStreams, tell: Tell, clock: Callable[[], int] = monotonic_ms
    ) -> None:
        self._database = database
        self._streams = streams
        self._tell = tell
        self._clock = clock
        self._turn_at_ms = 0
        self._in_turn: list[tuple[bytes, Rejected]] = []  # what is left of this turn
        self._posted_since_ms: dict[tuple[bytes, bytes], int] = {}

    async def set_aside(self, entry: Entry, error: str) -> None:
        """Keeps an entry that can't be posted. Raises ServiceUnavailable."""
        await self._streams.set_aside(entry, error)
        self._turn_at_ms = 0

    async def round(self) -> None:
        """Raises ServiceUnavailable; what was not tried is tried in the next round then."""
        if not self._in_turn and self._clock() >= self._turn_at_ms:
            self._turn_at_ms = self._clock() + _TURN_EVERY_MS
            self._in_turn = await self._streams.rejected()
        if self._in_turn:
            await self._try_again(self._in_turn[:_TRIED_A_ROUND])
            del self._in_turn[:_TRIED_A_ROUND]

    async def _try_again(self, found: Sequence[tuple[bytes, Rejected]]) -> None:
        async with self._database.read() as db:
            posted = await posted_items(db, [each.item for _, each in found if each.item is not None])
        for key, each in found:
            error = None if each.item is not None and each.item.id in posted else await self._post(each)
            if error is None:
                await self._drop_later(key, each)
            else:
                place = key.decode()
                details = {"error": error, "key": place, "entry_id": each.id.decode()}
                await self._tell("receipt.rejected", each.subject, details, f"rejected:{place}:{each.subject}")

    async def _post(self, rejected: Rejected) -> str | None:
        """The class of the error; None where it is posted."""
        if rejected.item is None:
            return rejected.error
        try:
            await post(self._database, [rejected.item])
        except Unpostable as error:
            return error.reason
        log.warning("%s had been set aside, and is posted now", rejected.subject)
        return None

    async def _drop_later(self, key: bytes, rejected: Rejected) -> None:
        """A posted entry stays a while, like those of the stream: whoever compares a wallet with the books may have
        read the database before it was posted, and looks at Redis next."""
        now = self._clock()
        if now - self._posted_since_ms.setdefault((key, rejected.id), now) >= KEEP_MS:
            await self._streams.drop_rejected(key, rejected.id)
            del self._posted_since_ms[key, rejected.id]
