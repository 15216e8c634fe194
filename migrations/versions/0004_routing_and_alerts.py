"""routing by model, shaping and draining of channels, what happened to them, and alerts

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Added in place: SQLite would have to drop tables that others refer to if they were made anew.
    op.add_column("channels", sa.Column("sealed_shaping", sa.LargeBinary(), nullable=True))
    op.add_column("channels", sa.Column("limits", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("channels", sa.Column("draining", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("channels", sa.Column("test_every_s", sa.Integer(), nullable=True))
    op.add_column("models", sa.Column("routing", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("receipts", sa.Column("requested_model", sa.String(length=200), nullable=True))
    op.create_table(
        "channel_events",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("channel_id", sa.String(length=40), nullable=False),
        sa.Column("credential_id", sa.String(length=80), nullable=True),
        sa.Column("model", sa.String(length=200), nullable=True),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_channel_events")),
    )
    op.create_index("ix_channel_events_channel_id_id", "channel_events", ["channel_id", "id"])
    _make_alerts()


def _make_alerts() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary(), nullable=False),
        sa.Column("kinds", sa.JSON(), nullable=True),
        sa.Column("account_id", sa.String(length=40), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    op.create_table(
        "alerts",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=60), nullable=False),
        sa.Column("subject", sa.String(length=80), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("once", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
        sa.UniqueConstraint("once", name=op.f("uq_alerts_once")),
    )
    op.create_table(
        "deliveries",
        sa.Column("alert_id", sa.String(length=40), nullable=False),
        sa.Column("webhook_id", sa.String(length=40), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.id"], name=op.f("fk_deliveries_alert_id_alerts")),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhooks.id"], name=op.f("fk_deliveries_webhook_id_webhooks")),
        sa.PrimaryKeyConstraint("alert_id", "webhook_id", name=op.f("pk_deliveries")),
    )
    waiting = sa.text("next_at_ms IS NOT NULL")
    op.create_index(
        "ix_deliveries_next_at_ms", "deliveries", ["next_at_ms"], postgresql_where=waiting, sqlite_where=waiting
    )
