"""A wallet that Redis does not have is rebuilt from the journal, exactly: its balance and its lots there, less what the
stream of its shard holds and the journal does not have yet."""

from app.base.database import Database
from app.base.errors import NotFound, ServiceUnavailable
from app.base.ids import shard_of
from app.ledger.expected import ended_among, expected_wallet, lost_debits, streamed_items
from app.ledger.journal import credits_after, lots_of, mark_applied, read_wallet, unapplied_accounts
from app.ledger.lots import show_lots, spending_order
from app.ledger.posting import posted_items
from app.ledger.redis_side import QuotaSide

__all__ = ["apply_credits", "apply_waiting_credits", "rebuild_wallet"]

_TRIES = 10


async def rebuild_wallet(database: Database, quota: QuotaSide, account_id: str) -> None:
    """Holds of requests that have ended go with it. Raises NotFound, or ServiceUnavailable where Redis or the database
    is away."""
    number = shard_of(account_id, quota.shards)
    await quota.settle_down(number)
    for _ in range(_TRIES):
        posted_up_to = await quota.posted_up_to(number)  # so this snapshot has all that the look leaves out
        async with database.read() as db:
            wallet = await read_wallet(db, account_id)
            if wallet is None:
                raise NotFound(f"There is no account `{account_id}`.")
            look = await quota.look(number, [], posted_up_to)
            items = streamed_items(look)
            mine = [item for item in items if item.account_id == account_id]
            posted = await posted_items(db, mine)
            lots = spending_order((await lots_of(db, [account_id])).get(account_id, ()))
            ended = await ended_among(db, [hold for hold in look.holds if hold.account_id == account_id], items)
            lost = (await lost_debits(db, [account_id], items)).get(account_id, ())
        expected = expected_wallet(wallet, lots, (item for item in mine if item.id not in posted), lost)
        figures = (expected.balance_nano, expected.credit_number, expected.floor_nano, look.last_entry)
        if await quota.warm(account_id, *figures, expected.lots_text, ended=ended, debits=expected.debits) != "moved":
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
