"""The outbox's tables. Times are milliseconds since 1970 UTC."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    text,
)

from app.base.database import metadata

__all__ = ["alerts", "deliveries", "webhooks"]

_Id = String(40)
_WAITING = text("next_at_ms IS NOT NULL")

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("url", Text, nullable=False),
    Column("sealed_secret", LargeBinary, nullable=False),
    Column("kinds", JSON),  # null: every kind
    Column("account_id", _Id),  # null: the whole house; else the alerts of this account and those below it
    Column("enabled", Boolean, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("kind", String(60), nullable=False),
    Column("subject", String(80), nullable=False),  # a channel's, an account's or a key's id
    Column("account_id", _Id),
    Column("details", JSON, nullable=False),
    Column("once", String(200), nullable=False, unique=True),  # raised by several at once, it is told once
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("alert_id", _Id, ForeignKey("alerts.id"), primary_key=True),
    Column("webhook_id", _Id, ForeignKey("webhooks.id"), primary_key=True),
    Column("attempts", Integer, nullable=False),
    Column("next_at_ms", BigInteger),  # null: received, or given up
    Column("status", String(20), nullable=False),  # waiting, received, given_up
    Column("last_error", Text),
    Index("ix_deliveries_next_at_ms", "next_at_ms", postgresql_where=_WAITING, sqlite_where=_WAITING),
)
