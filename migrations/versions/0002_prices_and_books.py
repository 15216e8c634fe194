"""price books, and cost prices as versions

Revision ID: 0002
Revises: 0001
"""

import time
from typing import Any

import sqlalchemy as sa
from alembic import op

from app.base.ids import new_id

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    books = op.create_table(
        "price_books",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("multiplier", sa.BigInteger(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_price_books")),
    )
    op.create_table(
        "book_prices",
        sa.Column("book", sa.String(length=100), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("price_version", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["book"], ["price_books.name"], name=op.f("fk_book_prices_book_price_books")),
        sa.PrimaryKeyConstraint("book", "model", name=op.f("pk_book_prices")),
    )
    made_at_ms = time.time_ns() // 1_000_000
    description = "Each model's own prices."
    op.bulk_insert(
        books,
        [{"name": "default", "multiplier": 1_000_000, "description": description, "created_at_ms": made_at_ms}],
    )
    # Added in place: SQLite would have to drop tables that others refer to if they were made anew.
    op.add_column("accounts", sa.Column("book", sa.String(length=100), nullable=False, server_default="default"))
    op.add_column("price_versions", sa.Column("book", sa.String(length=100), nullable=True))
    op.add_column("price_versions", sa.Column("channel_id", sa.String(length=40), nullable=True))
    op.add_column("channels", sa.Column("cost_versions", sa.JSON(), nullable=True))
    _carry_costs_over(op.get_bind(), made_at_ms)
    with op.batch_alter_table("channels", schema=None) as batch_op:
        batch_op.alter_column("cost_versions", existing_type=sa.JSON(), nullable=False)
        batch_op.drop_column("costs")


def _carry_costs_over(connection: sa.Connection, made_at_ms: int) -> None:
    """Every cost price of a channel becomes a version, which the channel names."""
    channels = sa.table(
        "channels", sa.column("id"), sa.column("costs", sa.JSON()), sa.column("cost_versions", sa.JSON())
    )
    versions = sa.table(
        "price_versions",
        *map(sa.column, ("id", "model", "channel_id", "created_at_ms")),
        sa.column("prices", sa.JSON()),
    )
    for channel in connection.execute(sa.select(channels.c.id, channels.c.costs)).all():
        named: dict[str, str] = {}
        rows: list[dict[str, Any]] = []
        for model, prices in channel.costs.items():
            named[model] = new_id("prc")
            rows.append(
                {
                    "id": named[model],
                    "model": model,
                    "channel_id": channel.id,
                    "prices": prices,
                    "created_at_ms": made_at_ms,
                }
            )
        if rows:
            connection.execute(sa.insert(versions), rows)
        connection.execute(sa.update(channels).where(channels.c.id == channel.id).values(cost_versions=named))
