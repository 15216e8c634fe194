"""What verify says of Redis: of its wallets, the comparison of `compare`, made again where something moved meanwhile;
and of the streams, what was set aside and is not posted."""

from collections.abc import Sequence

from app.base.database import Database
from app.ledger.compare import compare_wallets
from app.ledger.posting import posted_items
from app.ledger.redis_side import QuotaSide
from app.ledger.stream import read_rejected

__all__ = ["check_rejected", "check_shard"]

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


async def check_rejected(database: Database, quota: QuotaSide, number: int, problems: list[str]) -> None:
    """Every charge of a shard can be posted."""
    look = await quota.look(number, [], await quota.posted_up_to(number))
    rejected = {each.subject: each for each in (read_rejected(entry.id, entry.fields) for entry in look.rejected)}
    if not rejected:
        return
    async with database.read() as db:
        posted = await posted_items(db, [each.item for each in rejected.values() if each.item is not None])
    for subject, each in rejected.items():
        if each.item is None:
            problems.append(f"stream entry {subject} of shard {number} can't be read, and is set aside")
        elif subject not in posted:
            nano = each.item.taken_nano
            problems.append(f"{subject} took {nano} nano and can't be posted ({each.error}): it is set aside")
