"""Many rows at once, past SQLAlchemy's care for each value: on PostgreSQL they are copied in, which costs it far less
than inserts. And a receipt's row."""

from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec
from sqlalchemy import Table, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.errors import ServiceUnavailable
from app.base.receipt import NO_EXTRAS, Receipt
from app.ledger.items import StreamedReceipt
from app.ledger.tables import receipts

__all__ = ["insert_receipts", "insert_rows"]

_COLUMNS = tuple(receipts.c.keys())
# The driver opens a transaction with the first statement that goes the usual way.
_begun = text("SELECT 1")
_encode = msgspec.json.Encoder().encode
_FINISH_REASON_MOST = 40


async def insert_rows(db: AsyncConnection, table: Table, columns: Sequence[str], rows: Sequence[Any]) -> None:
    """Rows as tuples in the order of `columns`, with values that both drivers take: JSON as text. Raises IntegrityError
    where one of them is there already."""
    if not rows:
        return
    if db.dialect.name != "postgresql":
        places = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608 (names of ours)
        await db.exec_driver_sql(statement, [*rows])
        return
    await db.execute(_begun)
    connection = (await db.get_raw_connection()).driver_connection
    assert connection is not None
    try:
        await connection.copy_records_to_table(table.name, records=rows, columns=columns)
    except asyncpg.IntegrityConstraintViolationError as error:
        raise IntegrityError(f"COPY {table.name}", None, error) from error
    except asyncpg.PostgresConnectionError as error:
        raise ServiceUnavailable("The database can't be reached.") from error
    except asyncpg.PostgresError as error:
        raise DBAPIError(f"COPY {table.name}", None, error) from error


async def insert_receipts(db: AsyncConnection, rows: Sequence[tuple[StreamedReceipt, str | None, str | None]]) -> None:
    """Receipts, each with the id of the entry that charged it, and what lots paid of it (`receipts.lot_parts`)."""
    await insert_rows(db, receipts, _COLUMNS, [_row(item.receipt, item.unpaid_nano, *rest) for item, *rest in rows])


def _row(receipt: Receipt, unpaid_nano: int, entry_id: str | None, lot_parts: str | None) -> tuple[Any, ...]:
    """In the order of the table's columns."""
    usage = receipt.usage
    return (
        receipt.request_id,
        entry_id,
        receipt.created_at_ms,
        receipt.account_id,
        receipt.key_id,
        receipt.dialect,
        receipt.model,
        receipt.requested_model,
        receipt.upstream_model,
        receipt.channel_id,
        receipt.stream,
        receipt.status,
        receipt.http_status,
        None if receipt.finish_reason is None else receipt.finish_reason[:_FINISH_REASON_MOST],
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_input_tokens,
        usage.cache_write_tokens,
        usage.cache_write_1h_tokens,
        usage.reasoning_tokens,
        usage.audio_input_tokens,
        usage.audio_output_tokens,
        usage.image_input_tokens,
        usage.image_output_tokens,
        receipt.usage_source,
        receipt.price_version,
        receipt.multiplier,
        receipt.ending,
        receipt.policy,
        receipt.amount_nano,
        unpaid_nano,
        receipt.upstream_cost_nano,
        _encode(receipt.attempts).decode(),
        receipt.ttft_ms,
        receipt.duration_ms,
        receipt.member_id,
        lot_parts,
        None if receipt.extras == NO_EXTRAS else _encode(receipt.extras).decode(),
        receipt.vendor_excess,
    )
