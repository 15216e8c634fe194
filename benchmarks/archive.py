"""`python -m benchmarks.archive`: what operators ask of ten million receipts, on PostgreSQL.

A year of receipts is made inside the database, spread over accounts the way customers are (a few are large), with
the sums by day that posting would have kept, and an entry for every twenty. Then each list and statement that the
operator API can ask is asked many times, through the code that answers it, on the largest account and on a small one.
The figures are of the query alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from app.base.database import Database
from app.ledger.listing import list_entries
from app.ledger.margins import margins
from app.ledger.partitions import first_id, next_month
from app.ledger.reports import ReceiptFilter, list_receipts
from app.ledger.statements import make_statement, read_month
from app.schema import migrate
from benchmarks.gateway import postgres

_YEAR = 2025
_ACCOUNTS = 1000
_PAGE = 50

Ask = Callable[[Any], Awaitable[object]]

# Account n gets a share that falls with n: the square of a uniform number leans to the low ones. A key asks for three
# models, and each model is mostly served by one channel.
_MAKE = """
INSERT INTO receipts (request_id, entry_id, created_at_ms, account_id, key_id, dialect, model, upstream_model,
  channel_id, stream, status, ending, policy, http_status, finish_reason, input_tokens, output_tokens,
  cached_input_tokens,
  cache_write_tokens, reasoning_tokens, usage_source, price_version, amount_nano, unpaid_nano, upstream_cost_nano,
  attempts, ttft_ms, duration_ms)
SELECT 'req_' || lpad(to_hex(at_ms), 12, '0') || lpad(to_hex(n), 16, '0'), NULL, at_ms,
  'acc_' || lpad(account::text, 8, '0'), 'key_' || lpad((account * 3 + n % 3)::text, 8, '0'), 'openai_chat',
  'model-' || model, 'vendor-' || model,
  CASE WHEN failed THEN NULL WHEN n % 37 = 0 THEN 'chn_4' ELSE 'chn_' || model % 4 END, n % 2 = 0,
  CASE WHEN n % 5000 = 0 THEN 'expired' WHEN failed THEN 'failed' ELSE 'ok' END,
  CASE WHEN n % 5000 = 0 THEN 'expired' WHEN failed THEN 'failed' ELSE 'finished' END,
  CASE WHEN failed THEN 'free' ELSE 'full' END, CASE WHEN failed THEN 503 ELSE 200 END, 'stop',
  1200, 350, 800, 0, 0, 'upstream', 'prc_1', CASE WHEN failed THEN 0 ELSE 4000000 + n % 1000 END, 0,
  CASE WHEN failed THEN 0 ELSE 2500000 END,
  '[{"channel_id": "chn_0", "http_status": 200, "error": null, "duration_ms": 900, "cost_nano": 2500000}]', 180, 900
FROM (
  SELECT n, at_ms, failed, account, (account * 7 + n % 3 + n / 3 % 3) % 20 AS model
  FROM (
    SELECT n, n % 100 = 0 AS failed, CAST(:from_ms + (n - :first) * :step_ms AS bigint) AS at_ms,
      floor(:accounts * power(random(), 2))::int AS account
    FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n
  ) AS drawn
) AS made
"""

_ENTER = """
WITH made AS (
  INSERT INTO entries (id, kind, account_id, created_at_ms, memo)
  SELECT 'ent_' || substr(request_id, 5), CASE WHEN row_number % 2000 = 0 THEN 'credit' ELSE 'usage' END, account_id,
    created_at_ms, ''
  FROM (SELECT request_id, account_id, created_at_ms, row_number() OVER () FROM receipts) AS numbered
  WHERE row_number % 20 = 0
  RETURNING id, kind, account_id
)
INSERT INTO postings (entry_id, ledger_account, amount_nano)
SELECT id, 'wallet:' || account_id, -1000000 FROM made
UNION ALL SELECT id, CASE kind WHEN 'usage' THEN 'revenue' ELSE 'cash' END, 1000000 FROM made
"""

_SUM = """
INSERT INTO usage_days (account_id, day, key_id, model, channel_id, requests, input_tokens, output_tokens,
  cached_input_tokens, amount_nano, unpaid_nano, upstream_cost_nano)
SELECT account_id, (to_timestamp(created_at_ms / 1000) AT TIME ZONE 'UTC')::date, key_id, model,
  coalesce(channel_id, ''), count(*), sum(input_tokens), sum(output_tokens), sum(cached_input_tokens),
  sum(amount_nano), sum(unpaid_nano), sum(upstream_cost_nano)
FROM receipts GROUP BY 1, 2, 3, 4, 5
"""


async def _make(database: Database, count: int) -> None:
    """A month at a time, so that a transaction stays of a size that a small disk bears."""
    per_month = count // 12
    for index in range(12):
        month = datetime(_YEAR, index + 1, 1, tzinfo=UTC)
        until = next_month(month)
        async with database.write() as db:
            await db.execute(
                text(
                    f"CREATE TABLE IF NOT EXISTS receipts_{month:%Y_%m} PARTITION OF receipts"
                    f" FOR VALUES FROM ('{first_id(month)}') TO ('{first_id(until)}')"
                )
            )
            figures = {
                "from_ms": int(month.timestamp() * 1000),
                "step_ms": (until - month).total_seconds() * 1000 / per_month,
                "first": index * per_month,
                "last": (index + 1) * per_month - 1,
                "accounts": _ACCOUNTS,
            }
            await db.execute(text(_MAKE), figures)
    async with database.write() as db:
        await db.execute(text(_SUM))
        await db.execute(text("ALTER TABLE postings DISABLE TRIGGER balances"))  # a million checks at one commit
        await db.execute(text(_ENTER))
        await db.execute(text("ALTER TABLE postings ENABLE TRIGGER balances"))
        await db.execute(
            text(
                "INSERT INTO wallets (account_id, balance_nano, credit_number, applied_number, floor_nano)"
                " SELECT DISTINCT account_id, 0, 0, 0, 0 FROM usage_days"
            )
        )
    async with database.engine.connect() as connection:
        settled = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await settled.execute(text("VACUUM ANALYZE"))


def _questions(largest: str, small: str, request_id: str) -> dict[str, Ask]:
    june = int(datetime(_YEAR, 6, 10, tzinfo=UTC).timestamp() * 1000)
    middle = f"req_{june:012x}"

    def receipts(before: str | None = None, **wanted: Any) -> Ask:
        return lambda db: list_receipts(db, ReceiptFilter(**wanted), before, _PAGE)

    def statement(account_id: str, month: str) -> Ask:
        return lambda db: make_statement(db, account_id, read_month(month))

    return {
        "receipts, newest": receipts(),
        "receipts, a page from June": receipts(middle),
        "one receipt": receipts(request_id=request_id),
        "receipts of the largest account": receipts(account_ids=(largest,)),
        "receipts of a small account": receipts(account_ids=(small,)),
        "… a page from June": receipts(middle, account_ids=(small,)),
        "… one day of June": receipts(account_ids=(largest,), from_ms=june, to_ms=june + 86_400_000),
        "… of one model": receipts(account_ids=(largest,), model="model-2"),
        "… of a model it never used": receipts(account_ids=(largest,), model="model-7"),
        "… that failed": receipts(account_ids=(largest,), status="failed"),
        "receipts of a key": receipts(key_id="key_00000001"),
        "receipts of a model": receipts(model="model-7"),
        "receipts of a channel": receipts(channel_id="chn_3"),
        "receipts that failed": receipts(status="failed"),
        "receipts that expired": receipts(status="expired"),
        "receipts that are not there": receipts(status="cancelled"),
        "statement of the largest account, January": statement(largest, f"{_YEAR}-01"),
        "statement of the largest account, December": statement(largest, f"{_YEAR}-12"),
        "statement of a small account, December": statement(small, f"{_YEAR}-12"),
        "entries of the largest account": lambda db: list_entries(db, largest, None, None, _PAGE),
        "margins of a day": lambda db: margins(db, date(_YEAR, 6, 10), date(_YEAR, 6, 10)),
        "margins of a month": lambda db: margins(db, date(_YEAR, 6, 1), date(_YEAR, 6, 30)),
    }


async def _time(database: Database, ask: Ask, rounds: int) -> tuple[float, float]:
    """Milliseconds: median and worst. The first two, that plan and read from the disk, are not counted."""
    took = []
    for number in range(rounds + 2):
        async with database.read() as db:
            started = time.perf_counter()
            await ask(db)
            if number >= 2:
                took.append((time.perf_counter() - started) * 1000)
    return statistics.median(took), max(took)


async def _run(url: str, count: int, rounds: int) -> dict[str, Any]:
    database = Database(url)
    try:
        await migrate(database)
        started = time.perf_counter()
        await _make(database, count)
        made_s = time.perf_counter() - started
        async with database.read() as db:
            found = await db.scalar(text("SELECT count(*) FROM receipts"))
            shares = (
                await db.execute(text("SELECT account_id, sum(requests) FROM usage_days GROUP BY 1 ORDER BY 2 DESC"))
            ).all()
            request_id = await db.scalar(text("SELECT request_id FROM receipts LIMIT 1"))
            size = await db.scalar(text("SELECT pg_database_size(current_database())"))
        (largest, most), (small, least) = shares[0], shares[-1]
        figures = {
            name: await _time(database, ask, rounds)
            for name, ask in _questions(largest, small, str(request_id)).items()
        }
        return {
            "receipts": found,
            "largest_account": int(most),
            "smallest_account": int(least),
            "database_gb": round((size or 0) / 1e9, 2),
            "made_s": round(made_s),
            "ms": {name: {"median": round(mid, 2), "worst": round(worst, 2)} for name, (mid, worst) in figures.items()},
        }
    finally:
        await database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--receipts", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=30, help="how often each question is asked")
    parser.add_argument("--core", type=int, default=1, help="the database's core")
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="tollgate-archive-") as directory,
        postgres(Path(directory), words.core) as (url, _pid),
    ):
        found = asyncio.run(_run(url, words.receipts, words.rounds))
    if words.json:
        print(json.dumps(found, indent=2))
        return
    print(
        f"{found['receipts']:,} receipts, {found['database_gb']} GB; the largest account has"
        f" {found['largest_account']:,}, the smallest {found['smallest_account']:,}"
    )
    table = Table("question", "median ms", "worst ms")
    for name, took in found["ms"].items():
        table.add_row(name, f"{took['median']:.1f}", f"{took['worst']:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
