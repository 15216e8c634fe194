"""What verify says of the wallets in Redis: the comparison of `compare`, made again where something moved meanwhile."""

from collections.abc import Sequence

from app.base.database import Database
from app.ledger.compare import compare_wallets
from app.ledger.redis_side import QuotaSide

__all__ = ["check_shard"]

_TRIES = 5


async def check_shard(
    database: Database, quota: QuotaSide, number: int, account_ids: Sequence[str], problems: list[str]
) -> tuple[int, int]:
    """For every wallet of a shard: (wallets seen, drift in nano)."""
    found = await compare_wallets(database, quota, number, account_ids)
    for _ in range(_TRIES - 1):
        if not any(each.is_moving for each in found):
            break
        found = await compare_wallets(database, quota, number, account_ids)
    for each in found:
        problems.extend(each.problems)
    return len(found), sum(each.drift_nano for each in found)
