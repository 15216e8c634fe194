"""debits before Redis is asked for them; which lots paid for a request

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("receipts", sa.Column("lot_parts", sa.Text(), nullable=True))
    op.create_table(
        "debits",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("amount_nano", sa.BigInteger(), nullable=False),
        sa.Column("memo", sa.Text(), nullable=False),
        sa.Column("corrects", sa.String(length=80), nullable=True),
        sa.Column("idempotency_key", sa.String(length=200), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("asked_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("unanswered", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.CheckConstraint("amount_nano > 0", name=op.f("ck_debits_amount_nano")),
        sa.PrimaryKeyConstraint("id", name="pk_debits"),
    )
    op.create_index("ix_debits_account_id", "debits", ["account_id"])
    op.create_index("uq_debits_account_id_idempotency_key", "debits", ["account_id", "idempotency_key"], unique=True)
    is_asked = sa.text("state = 'asked'")
    op.create_index(
        "ix_debits_asked_at_ms", "debits", ["asked_at_ms"], postgresql_where=is_asked, sqlite_where=is_asked
    )
