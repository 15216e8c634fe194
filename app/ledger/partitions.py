"""PostgreSQL keeps receipts by month: request ids sort by time, so a month is a range of ids. The bookkeeper makes next
month's part ahead of time; an id of no month goes to the default part, and is never refused."""

import re
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.database import Database

__all__ = ["first_id", "is_partition", "make_partitions", "month_of", "next_month"]

_PARTITION = re.compile(r"receipts_(\d{4}_\d{2}|default)")
_ADVISORY_LOCK = 0x70617274  # "part"
_LOCK_NOT_AVAILABLE = "55P03"


def is_partition(table: str) -> bool:
    """Whether a table is a part of the receipts: the database's own business, and not the schema's."""
    return _PARTITION.fullmatch(table) is not None


def month_of(at_ms: int) -> datetime:
    """The first moment (UTC) of a time's month."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def next_month(month: datetime) -> datetime:
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)


def first_id(month: datetime) -> str:
    """No request id of the month sorts before it: `req_` and 12 hex digits of milliseconds."""
    return f"req_{int(month.timestamp()) * 1000:012x}"


async def make_partitions(database: Database, at_ms: int) -> list[str]:
    """Makes the parts of this month and of the next where they are missing; their names.

    Waits two seconds at most for readers of the receipts: the next chore tries again. Raises ServiceUnavailable.
    """
    if database.is_sqlite:
        return []
    this = month_of(at_ms)
    made = []
    for month in (this, next_month(this)):
        name = f"receipts_{month:%Y_%m}"
        async with database.read() as db:
            if await _exists(db, name):
                continue
        try:
            async with database.write() as db:
                if await _make(db, name, first_id(month), first_id(next_month(month))):
                    made.append(name)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                raise
    return made


async def _exists(db: AsyncConnection, name: str) -> bool:
    return await db.scalar(text("SELECT to_regclass(:name)"), {"name": name}) is not None


async def _make(db: AsyncConnection, name: str, first: str, until: str) -> bool:
    """Receipts of the month may wait in the default part: a new default part is made then, and all its rows are put in
    again, each where it belongs."""
    await db.execute(text("SET LOCAL lock_timeout = '2s'"))
    await db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    if await _exists(db, name):
        return False
    strays = await db.scalar(
        text("SELECT EXISTS (SELECT 1 FROM receipts_default WHERE request_id >= :first AND request_id < :until)"),
        {"first": first, "until": until},
    )
    if strays:
        await db.execute(text("ALTER TABLE receipts DETACH PARTITION receipts_default"))
        await db.execute(text("ALTER TABLE receipts_default RENAME TO receipts_strays"))
    await _add_part(db, name, f"FOR VALUES FROM ('{first}') TO ('{until}')")
    if strays:
        await _add_part(db, "receipts_default", "DEFAULT")
        await db.execute(text("INSERT INTO receipts SELECT * FROM receipts_strays"))
        await db.execute(text("DROP TABLE receipts_strays"))
    return True


async def _add_part(db: AsyncConnection, name: str, values: str) -> None:
    await db.execute(text(f"CREATE TABLE {name} PARTITION OF receipts {values}"))
    # Triggers of statements, unlike those of rows, are not passed on to partitions.
    await db.execute(
        text(
            f"CREATE TRIGGER never_emptied BEFORE TRUNCATE ON {name}"
            " FOR EACH STATEMENT EXECUTE FUNCTION tollgate_only_added()"
        )
    )
