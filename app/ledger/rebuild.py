"""A wallet that Redis does not have is rebuilt from the journal, exactly: its balance and its lots there, less what the
stream of its shard holds and the journal does not have yet."""

from app.base.database import Database
from app.base.errors import NotFound, ServiceUnavailable
from app.base.ids import shard_of
from app.ledger.journal import credits_after, lots_of, mark_applied, read_wallet, unapplied_accounts
from app.ledger.lots import show_lots, spend, spending_order
from app.ledger.posting import decide_parts, posted_items
from app.ledger.redis_side import QuotaSide
from app.ledger.stream import read_entry

__all__ = ["apply_credits", "apply_waiting_credits", "rebuild_wallet"]

_TRIES = 10


async def rebuild_wallet(database: Database, quota: QuotaSide, account_id: str) -> None:
    """Raises NotFound, or ServiceUnavailable where Redis or the database is away."""
    number = shard_of(account_id, quota.shards)
    for _ in range(_TRIES):
        async with database.read() as db:
            wallet = await read_wallet(db, account_id)
            if wallet is None:
                raise NotFound(f"There is no account `{account_id}`.")
            look = await quota.look(number, [])
            streamed = [read_entry(entry) for entry in look.entries]
            mine = {item.id: item for item in streamed if item is not None and item.account_id == account_id}
            posted = await posted_items(db, mine.values())
            lots = spending_order((await lots_of(db, [account_id])).get(account_id, ()))
        balance = wallet.balance_nano
        for item in mine.values():
            if item.id not in posted:
                balance -= item.taken_nano
                lots = spend(lots, decide_parts(item, lots))
        last_entry = look.entries[-1].id if look.entries else b""
        figures = (balance, wallet.credit_number, wallet.floor_nano, last_entry, show_lots(lots))
        if await quota.warm(account_id, *figures) != "moved":
            return
    raise ServiceUnavailable


async def apply_credits(database: Database, quota: QuotaSide, account_id: str) -> None:
    """Brings the credits of an account that Redis may lack to its wallet, in order, each once."""
    for _ in range(_TRIES):
        live = await quota.read(account_id)
        if live is None:
            await rebuild_wallet(database, quota, account_id)  # from a journal that has them all
            continue
        async with database.read() as db:
            waiting = await credits_after(db, account_id, live.credit_number)
            floor = (await read_wallet(db, account_id)).floor_nano
        answers = []
        for each in waiting:
            lot = show_lots([each.lot] if each.lot else [])
            answers.append(await quota.apply_credit(account_id, each.number, each.amount_nano, lot, floor))
        if "cold" not in answers and "gap" not in answers:
            break
    else:
        raise ServiceUnavailable
    number = waiting[-1].number if waiting else live.credit_number
    async with database.write() as db:
        await mark_applied(db, account_id, number)


async def apply_waiting_credits(database: Database, quota: QuotaSide) -> None:
    """For credits whose writer died, or could not reach Redis, before they were applied."""
    async with database.read() as db:
        accounts = await unapplied_accounts(db)
    for account_id in accounts:
        await apply_credits(database, quota, account_id)
