"""Many rows at once, past SQLAlchemy's care for each value: on PostgreSQL they are copied in, which costs it far less
than inserts. And a receipt's row."""

import re
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
# NUL, which PostgreSQL has in no text, and halves of surrogate pairs, for which UTF-8 has no bytes.
_refused = re.compile("[\0\ud800-\udfff]")


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


def _storable(text: str) -> str:
    """A text that a vendor or a customer wrote, as any database takes it."""
    return _refused.sub("\N{REPLACEMENT CHARACTER}", text)


def _json(value: Any) -> str:
    """PostgreSQL takes an escaped NUL into a column of JSON, and then fails whoever reads the text out of it."""
    encoded = _encode(value)
    if b"\\u0000" in encoded:
        encoded = _encode(_storable_parts(msgspec.to_builtins(value)))
    return encoded.decode()


def _storable_parts(value: Any) -> Any:
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, dict):
        return {name: _storable_parts(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_storable_parts(part) for part in value]
    return value


def _row(receipt: Receipt, unpaid_nano: int, entry_id: str | None, lot_parts: str | None) -> tuple[Any, ...]:
    """In the order of the table's columns. Names are the catalog's and our own, and counts of tokens are bounded where
    they are read: only `finish_reason`, `attempts` and `extras` have a vendor's or a customer's words."""
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
        None if receipt.finish_reason is None else _storable(receipt.finish_reason[:_FINISH_REASON_MOST]),
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
        _json(receipt.attempts),
        receipt.ttft_ms,
        receipt.duration_ms,
        receipt.member_id,
        lot_parts,
        None if receipt.extras == NO_EXTRAS else _json(receipt.extras),
        receipt.vendor_excess,
    )
