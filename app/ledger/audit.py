"""The bookkeeper's own look at the wallets in Redis: those under suspicion soon, all others in turn. What differs from
the books is put right, and said."""

import logging
from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import select

from app.base.database import Database
from app.base.ids import shard_of
from app.ledger.redis_side import QuotaSide
from app.ledger.repair import Repair, repair_wallets
from app.ledger.stream import Entry
from app.ledger.tables import wallets

__all__ = ["Audit"]

log = logging.getLogger("tollgate.bookkeeper")

_SUSPECTS_A_ROUND = 500


class Audit:
    """Each round compares the suspects, and the wallets of one shard more."""

    def __init__(self, database: Database, quota: QuotaSide) -> None:
        self._database = database
        self._quota = quota
        self._suspects: dict[str, None] = {}
        self._in_turn: list[list[str]] = []  # what is left of this turn: accounts, a shard at a time

    def suspect(self, entries: Iterable[Entry]) -> None:
        """The accounts of these entries are looked at in the next round."""
        self._suspects.update((entry.item.account_id, None) for entry in entries if entry.item is not None)

    async def round(self) -> None:
        """Raises ServiceUnavailable; who was under suspicion stays so then."""
        suspects = list(self._suspects)[:_SUSPECTS_A_ROUND]
        if suspects:
            _say(await repair_wallets(self._database, self._quota, suspects, "Redis had lost writes"))
            for account_id in suspects:
                self._suspects.pop(account_id, None)
        if not self._in_turn:
            self._in_turn = await self._by_shard()
        if self._in_turn:
            _say(await repair_wallets(self._database, self._quota, self._in_turn[-1], "found by the audit"))
            self._in_turn.pop()

    async def _by_shard(self) -> list[list[str]]:
        shards: dict[int, list[str]] = defaultdict(list)
        async with self._database.read() as db:
            for account_id in await db.scalars(select(wallets.c.account_id)):
                shards[shard_of(account_id, self._quota.shards)].append(account_id)
        return list(shards.values())


def _say(repairs: Iterable[Repair]) -> None:
    for made in repairs:
        log.error("the wallet of %s was put right: %s", made.account_id, "; ".join(made.problems))
