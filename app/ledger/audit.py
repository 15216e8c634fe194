"""The bookkeeper's own look at the wallets in Redis: those under suspicion soon, all others in turn. What differs from
the books is put right, and said."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from app.base.clock import monotonic_ms
from app.base.database import Database
from app.base.ids import shard_of
from app.base.money import format_usd
from app.ledger.redis_side import QuotaSide
from app.ledger.repair import repair_wallets, wallet_ids
from app.ledger.stream import Entry

__all__ = ["Audit", "Tell", "tell_nobody"]

log = logging.getLogger("tollgate.bookkeeper")

_SUSPECTS_A_ROUND = 500
_TURN_EVERY_MS = 300_000


class Tell(Protocol):
    """Tells whoever runs the gateway: a kind of alert, what it is about, and a word by which it is told only once."""

    async def __call__(self, kind: str, subject: str, details: dict[str, Any], once: str, /) -> None: ...


async def tell_nobody(kind: str, subject: str, details: dict[str, Any], once: str) -> None:
    """Where nobody runs alerts."""


class Audit:
    """Each round compares the suspects, and the wallets of one shard more until all had their turn; turns begin five
    minutes apart."""

    def __init__(
        self, database: Database, quota: QuotaSide, tell: Tell, clock: Callable[[], int] = monotonic_ms
    ) -> None:
        self._database = database
        self._quota = quota
        self._tell = tell
        self._suspects: dict[str, None] = {}
        self._clock = clock
        self._turn_at_ms = 0
        self._in_turn: list[list[str]] = []  # what is left of this turn: accounts, a shard at a time

    def suspect(self, entries: Iterable[Entry]) -> None:
        """The accounts of these entries are looked at in the next round."""
        self._suspects.update((entry.item.account_id, None) for entry in entries if entry.item is not None)

    async def round(self) -> None:
        """Raises ServiceUnavailable; who was under suspicion stays so then."""
        suspects = list(self._suspects)[:_SUSPECTS_A_ROUND]
        if suspects:
            await self._repair(suspects, "Redis had lost writes")
            for account_id in suspects:
                self._suspects.pop(account_id, None)
        if not self._in_turn and self._clock() >= self._turn_at_ms:
            self._in_turn = await self._by_shard()
            self._turn_at_ms = self._clock() + _TURN_EVERY_MS
        if self._in_turn:
            await self._repair(self._in_turn[-1], "found by the audit")
            self._in_turn.pop()

    async def _by_shard(self) -> list[list[str]]:
        shards: dict[int, list[str]] = defaultdict(list)
        async with self._database.read() as db:
            for account_id in await wallet_ids(db):
                shards[shard_of(account_id, self._quota.shards)].append(account_id)
        return list(shards.values())

    async def _repair(self, account_ids: Iterable[str], why: str) -> None:
        for made in await repair_wallets(self._database, self._quota, account_ids, why):
            log.error("the wallet of %s was put right: %s", made.account_id, "; ".join(made.problems))
            details = {
                "why": why,
                "problems": list(made.problems),
                "balance_before": format_usd(made.balance_before_nano),
                "balance_after": format_usd(made.balance_after_nano),
                "entry_id": made.entry_id,
            }
            await self._tell("wallet.repaired", made.account_id, details, f"repair:{made.entry_id}")
