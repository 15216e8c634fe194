"""lots, sums by day, vouchers; receipts by month on PostgreSQL; what may not change can't

Revision ID: 0003
Revises: 0002
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_APPEND_ONLY = ("entries", "postings", "receipts", "price_versions")


def upgrade() -> None:
    op.add_column("entries", sa.Column("corrects", sa.String(length=80), nullable=True))
    _add_index("uq_entries_account_id_credit_number", "entries", ["account_id", "credit_number"], "credit_number", True)
    _add_index("ix_entries_corrects", "entries", ["corrects"], "corrects", False)
    op.drop_index("ix_entries_account_id", table_name="entries")
    op.create_index("ix_entries_account_id_created_at_ms_id", "entries", ["account_id", "created_at_ms", "id"])
    no_usage = sa.text("kind <> 'usage'")
    op.create_index(
        "ix_entries_account_id_created_at_ms",
        "entries",
        ["account_id", "created_at_ms"],
        postgresql_where=no_usage,
        sqlite_where=no_usage,
    )
    if op.get_bind().dialect.name == "postgresql":
        _receipts_by_month()
    else:
        for column in _new_receipt_columns():
            op.add_column("receipts", column)
    not_ok = sa.text("status <> 'ok'")
    op.create_index(
        "ix_receipts_status_request_id",
        "receipts",
        ["status", "request_id"],
        postgresql_where=not_ok,
        sqlite_where=not_ok,
    )
    op.execute(
        "UPDATE receipts SET ending = CASE status WHEN 'ok' THEN 'finished' WHEN 'cancelled' THEN 'client_gone'"
        " WHEN 'expired' THEN 'expired' ELSE CASE WHEN channel_id IS NULL THEN 'failed' ELSE 'cut' END END,"
        " policy = CASE status WHEN 'expired' THEN 'free' ELSE 'full' END WHERE status <> 'ok'"
    )
    _make_lots()
    _make_usage_days()
    _make_vouchers()
    if op.get_bind().dialect.name == "postgresql":
        _guard_postgres()
    else:
        _guard_sqlite()


def _add_index(name: str, table: str, columns: list[str], present: str, unique: bool) -> None:
    """Of the few rows that have a value there."""
    where = sa.text(f"{present} IS NOT NULL")
    op.create_index(name, table, columns, unique=unique, postgresql_where=where, sqlite_where=where)


def _new_receipt_columns() -> list[sa.Column]:
    counts = ("cache_write_1h", "audio_input", "audio_output", "image_input", "image_output")
    return [
        *(sa.Column(f"{name}_tokens", sa.BigInteger(), nullable=False, server_default="0") for name in counts),
        sa.Column("multiplier", sa.BigInteger(), nullable=False, server_default="1000000"),
        sa.Column("ending", sa.String(length=20), nullable=False, server_default="finished"),
        sa.Column("policy", sa.String(length=12), nullable=False, server_default="full"),
    ]


def _old_receipt_columns() -> list[sa.Column]:
    """As the first schema made them; the id sorts by its bytes, whatever the database's language."""
    id_ = sa.String(length=40)
    return [
        sa.Column("request_id", sa.String(length=40, collation="C"), nullable=False),
        sa.Column("entry_id", id_, nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("account_id", id_, nullable=False),
        sa.Column("key_id", id_, nullable=False),
        sa.Column("dialect", sa.String(length=40), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("upstream_model", sa.String(length=200), nullable=True),
        sa.Column("channel_id", id_, nullable=True),
        sa.Column("stream", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(length=12), nullable=False),
        sa.Column("http_status", sa.Integer(), nullable=False),
        sa.Column("finish_reason", sa.String(length=40), nullable=True),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.Column("usage_source", sa.String(length=12), nullable=False),
        sa.Column("price_version", id_, nullable=False),
        sa.Column("amount_nano", sa.BigInteger(), nullable=False),
        sa.Column("unpaid_nano", sa.BigInteger(), nullable=False),
        sa.Column("upstream_cost_nano", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.JSON(), nullable=False),
        sa.Column("ttft_ms", sa.BigInteger(), nullable=True),
        sa.Column("duration_ms", sa.BigInteger(), nullable=False),
    ]


def _receipts_by_month() -> None:
    """A table can't become partitioned: a new one takes the rows over. Its old constraints and indexes go first, for
    their names."""
    for name in ("account_id", "channel_id", "key_id", "model"):
        op.drop_index(f"ix_receipts_{name}_request_id", table_name="receipts")
    op.drop_constraint("fk_receipts_entry_id_entries", "receipts", type_="foreignkey")
    op.drop_constraint("pk_receipts", "receipts", type_="primary")
    op.rename_table("receipts", "receipts_whole")
    old = _old_receipt_columns()
    op.create_table(
        "receipts",
        *old,
        *_new_receipt_columns(),
        sa.ForeignKeyConstraint(["entry_id"], ["entries.id"], name="fk_receipts_entry_id_entries"),
        sa.PrimaryKeyConstraint("request_id", name="pk_receipts"),
        postgresql_partition_by="RANGE (request_id)",
    )
    for name in ("account_id", "channel_id", "key_id", "model"):
        op.create_index(f"ix_receipts_{name}_request_id", "receipts", [name, "request_id"])
    for month in _months():
        until = _next_month(month)
        op.execute(
            f"CREATE TABLE receipts_{month:%Y_%m} PARTITION OF receipts"
            f" FOR VALUES FROM ('{_first_id(month)}') TO ('{_first_id(until)}')"
        )
    op.execute("CREATE TABLE receipts_default PARTITION OF receipts DEFAULT")
    names = ", ".join(column.name for column in old)
    op.execute(f"INSERT INTO receipts ({names}) SELECT {names} FROM receipts_whole")  # noqa: S608
    op.drop_table("receipts_whole")


def _months() -> list[datetime]:
    """The first day of every month from the oldest receipt's to the next one."""
    now = datetime.now(UTC)
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    last = _next_month(month)
    earliest = datetime(2020, 1, 1, tzinfo=UTC)  # an id that says it is older is not one of ours
    oldest = op.get_bind().scalar(
        sa.text(
            "SELECT min(request_id COLLATE \"C\") FROM receipts_whole WHERE request_id ~ '^req_[0-9a-f]{28}$'"
            ' AND request_id COLLATE "C" >= :earliest'
        ),
        {"earliest": _first_id(earliest)},
    )
    if oldest is not None:
        made = datetime.fromtimestamp(int(oldest[4:16], 16) / 1000, UTC)
        month = min(month, made.replace(day=1, hour=0, minute=0, second=0, microsecond=0))
    months = []
    while month <= last:
        months.append(month)
        month = _next_month(month)
    return months


def _next_month(month: datetime) -> datetime:
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)


def _first_id(month: datetime) -> str:
    """No request id of the month sorts before it: `req_` and 12 hex digits of milliseconds."""
    return f"req_{int(month.timestamp()) * 1000:012x}"


def _make_lots() -> None:
    op.create_table(
        "lots",
        sa.Column("entry_id", sa.String(length=40), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("promotional", sa.Boolean(), nullable=False),
        sa.Column("amount_nano", sa.BigInteger(), nullable=False),
        sa.Column("remaining_nano", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("remaining_nano BETWEEN 0 AND amount_nano", name=op.f("ck_lots_remaining_nano")),
        sa.ForeignKeyConstraint(["entry_id"], ["entries.id"], name="fk_lots_entry_id_entries"),
        sa.PrimaryKeyConstraint("entry_id", name="pk_lots"),
    )
    op.create_index("ix_lots_account_id", "lots", ["account_id"])
    some_left = sa.text("remaining_nano > 0")
    op.create_index(
        "ix_lots_expires_at_ms", "lots", ["expires_at_ms"], postgresql_where=some_left, sqlite_where=some_left
    )


def _make_usage_days() -> None:
    """The sums of the receipts that are there; their failed attempts had no costs yet."""
    id_ = sa.String(length=40)
    op.create_table(
        "usage_days",
        sa.Column("account_id", id_, nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("key_id", id_, nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("channel_id", id_, nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("amount_nano", sa.BigInteger(), nullable=False),
        sa.Column("unpaid_nano", sa.BigInteger(), nullable=False),
        sa.Column("upstream_cost_nano", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "day", "key_id", "model", "channel_id", name="pk_usage_days"),
    )
    op.create_index("ix_usage_days_day", "usage_days", ["day"])
    if op.get_bind().dialect.name == "postgresql":
        day = "(to_timestamp(created_at_ms / 1000) AT TIME ZONE 'UTC')::date"
    else:
        day = "date(created_at_ms / 1000, 'unixepoch')"
    op.execute(
        "INSERT INTO usage_days (account_id, day, key_id, model, channel_id, requests, input_tokens, output_tokens,"  # noqa: S608
        " cached_input_tokens, amount_nano, unpaid_nano, upstream_cost_nano)"
        f" SELECT account_id, {day}, key_id, model, coalesce(channel_id, ''), count(*), sum(input_tokens),"
        " sum(output_tokens), sum(cached_input_tokens), sum(amount_nano), sum(unpaid_nano), sum(upstream_cost_nano)"
        f" FROM receipts GROUP BY account_id, {day}, key_id, model, coalesce(channel_id, '')"
    )


def _make_vouchers() -> None:
    op.create_table(
        "vouchers",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("batch_id", sa.String(length=40), nullable=False),
        sa.Column("hint", sa.String(length=20), nullable=False),
        sa.Column("amount_nano", sa.BigInteger(), nullable=False),
        sa.Column("promotional", sa.Boolean(), nullable=False),
        sa.Column("credit_days", sa.Integer(), nullable=True),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("cancelled_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("redeemed_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("redeemed_by", sa.String(length=40), nullable=True),
        sa.Column("entry_id", sa.String(length=40), nullable=True),
        sa.CheckConstraint("amount_nano > 0", name=op.f("ck_vouchers_amount_nano")),
        sa.PrimaryKeyConstraint("digest", name="pk_vouchers"),
        sa.UniqueConstraint("id", name="uq_vouchers_id"),
    )
    op.create_index("ix_vouchers_batch_id", "vouchers", ["batch_id"])


def _guard_postgres() -> None:
    op.execute(
        """
        CREATE FUNCTION tollgate_only_added() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          RAISE EXCEPTION 'rows of % are only ever added: % is refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'restrict_violation', HINT = 'A correction is a new entry.';
        END $$
        """
    )
    for table in _APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER only_added BEFORE UPDATE OR DELETE ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION tollgate_only_added()"
        )
    # Triggers of statements, unlike those of rows, are not passed on to partitions.
    for table in (*_APPEND_ONLY, *(f"receipts_{month:%Y_%m}" for month in _partitions()), "receipts_default"):
        op.execute(
            f"CREATE TRIGGER never_emptied BEFORE TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION tollgate_only_added()"
        )
    op.execute(
        """
        CREATE FUNCTION tollgate_balances() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
          entry text := coalesce(NEW.entry_id, OLD.entry_id);
          total numeric;
        BEGIN
          SELECT sum(amount_nano) INTO total FROM postings WHERE entry_id = entry;
          IF total <> 0 THEN
            RAISE EXCEPTION 'entry % is off balance by % nano', entry, total USING ERRCODE = 'check_violation';
          END IF;
          RETURN NULL;
        END $$
        """
    )
    # At the commit: an entry's postings may come in several statements.
    op.execute(
        "CREATE CONSTRAINT TRIGGER balances AFTER INSERT OR UPDATE OR DELETE ON postings"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tollgate_balances()"
    )


def _partitions() -> list[datetime]:
    names = op.get_bind().scalars(
        sa.text(
            "SELECT relid::text FROM pg_partition_tree('receipts') WHERE isleaf AND relid::text <> 'receipts_default'"
        )
    )
    return [datetime.strptime(name, "receipts_%Y_%m").replace(tzinfo=UTC) for name in names]


def _guard_sqlite() -> None:
    """It has no checks at the commit: that entries balance is for `tollgate verify` there."""
    for table in _APPEND_ONLY:
        for deed in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{deed.lower()} BEFORE {deed} ON {table} BEGIN"
                f" SELECT RAISE(ABORT, 'rows of {table} are only ever added: {deed} is refused'); END"
            )
